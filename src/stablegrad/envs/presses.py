"""What is pressed for an agent after a lost life, in Atari games that may wait for FIRE before they go on.

A press is a step like any other: it takes an agent step, its frames are seen, it is stored. What makes it a press is
that the agent did not choose it, which `StepBatch.pressed` says. No row is made up, and none is hidden.

`fire_sequence` says what is pressed after every lost life:

| value | in games with FIRE | in games without | follows |
|---|---|---|---|
| fire | FIRE | nothing | |
| envpool | n // `frame_skip` no-ops, n uniform below `noop_max`, FIRE | (n + 1) // `frame_skip` no-ops | EnvPool |
| wrappers | one no-op, FIRE, action 2 | one no-op | EpisodicLifeEnv, FireResetEnv of CleanRL |

EnvPool plays its n no-ops and FIRE as single frames inside a reset, and then ignores one action of the agent; the
wrappers hide their three steps in a reset. Here the agent sees whole steps.
"""

from dataclasses import dataclass, replace
from functools import cache

from ale_py import Action, ALEInterface, LoggerMode

from stablegrad.envs.atari import usable_rom
from stablegrad.envs.base import episode_seed
from stablegrad.envs.spec import EnvSpec
from stablegrad.tables.games import rom_id

_AFTER_FIRE = 2
"""The action that the wrappers press after FIRE, by its number."""


@dataclass(frozen=True, kw_only=True)
class Presses:
    """The presses of one game; `noop`, `fire` (None: the game has no FIRE) and `then` are actions of its space.

    Before FIRE come fewer than `noops` no-op frames (without FIRE, one more), in whole steps of `frame_skip`, or always
    one step where `noops` is None; `then` follows FIRE where it is given.
    """

    noop: int
    fire: int | None
    then: int | None = None
    noops: int | None = 0
    frame_skip: int = 4

    def after_life(self, seed: int, env: int, episode: int, length: int) -> list[int]:
        """The actions to press, a function of the environment's seed and of the step at which the life was lost."""
        if self.noops is None:
            steps = 1
        elif self.noops == 0:
            steps = 0
        else:
            frames = episode_seed(episode_seed(seed, env, episode), length, 0) % self.noops
            steps = (frames + (self.fire is None)) // self.frame_skip
        return [self.noop] * steps + [press for press in (self.fire, self.then) if press is not None]

    def through(self, buttons: list[int]) -> "Presses":
        """The same presses where action k does what `buttons[k]` did."""
        noop, fire, then = (
            None if button is None else buttons.index(button) for button in (self.noop, self.fire, self.then)
        )
        assert noop is not None, "every game has it"
        return replace(self, noop=noop, fire=fire, then=then)


def presses_of(spec: EnvSpec) -> Presses:
    """What `spec`, which has FIRE pressed after a lost life, has pressed then in its game."""
    rom = rom_id(spec.env_id)
    fires = Action.FIRE in _buttons(rom, every=False)
    buttons = _buttons(rom, every=spec.full_action_space)
    return Presses(
        noop=buttons.index(Action.NOOP),
        fire=buttons.index(Action.FIRE) if fires else None,
        then=_AFTER_FIRE if fires and spec.fire_sequence == "wrappers" else None,
        noops={"fire": 0, "envpool": spec.noop_max, "wrappers": None}[spec.fire_sequence],
        frame_skip=spec.frame_skip,
    )


@cache
def _buttons(rom: str, *, every: bool) -> list[Action]:
    """The actions of a game's own set, or of the console, in the order of their numbers."""
    ALEInterface.setLoggerMode(LoggerMode.Error)
    game = ALEInterface()
    game.loadROM(usable_rom(rom))
    return list(game.getLegalActionSet() if every else game.getMinimalActionSet())
