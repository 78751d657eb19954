"""FIRE after a lost life: pressed by whom, when, and seen by whom."""

from collections import Counter

import numpy as np
import pytest
from ale_py import Action, ALEInterface, LoggerMode, roms
from ale_py.vector_env import AtariVectorEnv

from stablegrad.envs import EnvSpec, make
from stablegrad.envs.base import NOT_PRESSED, StepBatch, episode_seed
from stablegrad.envs.contract import through_json, violations
from stablegrad.envs.presses import Presses, presses_of
from stablegrad.errors import UserError
from stablegrad.tables.games import ATARI_57, find

NOOP, FIRE, RIGHT, LEFT = range(4)
"""Breakout's buttons."""


def breakout(**values):
    return EnvSpec.resolve({"env_id": "Breakout-v5", **values})


def held(spec, action, steps, *, num_envs=1, seed=1):
    """The steps of a policy that holds one action."""
    env = make(spec, num_envs=num_envs, seed=seed)
    batches = [env.step(np.full(num_envs, action)) for _ in range(steps)]
    env.close()
    return batches


def test_each_protocol_presses_what_its_code_pressed():
    envpool = presses_of(breakout())
    counts = Counter(len(envpool.after_life(1, 0, 0, length)) - 1 for length in range(30_000))
    # n uniform on 0 … 29 frames, n // 4 whole steps: 4 of 30 numbers give each of 0 … 6, two of them 7.
    assert sorted(counts) == list(range(8))
    expected = np.array([4] * 7 + [2]) / 30
    spread = np.sqrt(expected * (1 - expected) / 30_000)
    assert (np.abs(np.array([counts[n] for n in range(8)]) / 30_000 - expected) < 5 * spread).all()
    assert set(envpool.after_life(1, 0, 0, 3)[:-1]) <= {NOOP}
    assert envpool.after_life(1, 0, 0, 3)[-1] == FIRE
    assert envpool.after_life(1, 0, 0, 3) == envpool.after_life(1, 0, 0, 3)

    assert presses_of(breakout(protocol="cleanrl")).after_life(1, 0, 0, 3) == [NOOP, FIRE, RIGHT]
    assert presses_of(breakout(fire_sequence="fire")).after_life(1, 0, 0, 3) == [FIRE]
    asterix = presses_of(EnvSpec.resolve({"env_id": "Asterix-v5"}))
    counts = Counter(len(asterix.after_life(1, 0, 0, length)) for length in range(30_000))
    # Without FIRE 1 … 30 frames: three numbers give no whole step, four each give 1 … 6, and 28, 29, 30 give 7.
    expected = np.array([3] + [4] * 6 + [3]) / 30
    assert (np.abs(np.array([counts[n] for n in range(8)]) / 30_000 - expected) < 5 * np.sqrt(expected / 30_000)).all()
    assert presses_of(EnvSpec.resolve({"env_id": "Asterix-v5", "protocol": "cleanrl"})).after_life(1, 0, 0, 3) == [NOOP]
    assert presses_of(EnvSpec.resolve({"env_id": "Asterix-v5", "fire_sequence": "fire"})).after_life(1, 0, 0, 3) == []
    for protocol in ("machado2018", "atari100k"):
        assert not breakout(protocol=protocol).fire_after_life


def test_a_policy_that_never_fires_loses_its_lives_where_fire_is_pressed_for_it():
    pressed = held(breakout(), LEFT, 400)
    assert sum(int(step.life_lost[0]) for step in pressed) >= 4
    assert any(step.terminated[0] for step in pressed)
    left_alone = held(breakout(fire_after_life=False), LEFT, 400)
    assert sum(int(step.life_lost[0]) for step in left_alone) == 1
    assert not any(step.terminated[0] for step in left_alone)


def test_what_was_pressed_is_what_the_emulator_was_given_and_it_is_marked():
    """The emulator alone, given the actions that the steps say were played, shows the same at every step."""
    env = make(breakout(protocol="cleanrl"), num_envs=1, seed=1)
    hand = AtariVectorEnv("breakout", 1, num_threads=1, reward_clipping=False, max_num_frames_per_episode=10**9)
    obs, _ = hand.reset(seed=np.array([episode_seed(1, 0, 0)]))
    assert np.array_equal(obs, env.obs)
    rng = np.random.default_rng(3)
    due: list[int] = []
    presses = 0
    for _ in range(250):
        own = rng.integers(0, 4, 1)
        step = env.step(own)
        assert step.pressed.tolist() == (due[:1] or [NOT_PRESSED])
        assert step.chosen.tolist() == [not due]
        assert step.executed(own).tolist() == (due[:1] or own.tolist())
        presses += bool(due)
        shown = hand.step(step.executed(own))[0]
        if step.terminated[0]:
            break
        assert np.array_equal(shown, step.obs)
        due = [NOOP, FIRE, RIGHT] if step.life_lost[0] else due[1:]
    env.close()
    assert step.terminated[0]
    assert presses == 12, "four lost lives, three presses each"


def test_it_resumes_exactly_in_the_middle_of_its_presses():
    spec, rng = breakout(max_episode_steps=200), np.random.default_rng(0)
    actions = rng.integers(0, 4, (160, 2))
    env = make(spec, num_envs=2, seed=1)
    saved: dict[int, dict] = {}
    steps: list[StepBatch] = []
    for t, row in enumerate(actions):
        if steps and not steps[-1].chosen.all() and len(saved) < 2:
            saved[t] = through_json(env.state_dict())
        steps.append(env.step(row))
    env.close()
    assert any(not steps[t].chosen.all() for t in saved), "saved between two presses"
    for t, state in saved.items():
        restored = make(spec, num_envs=2, seed=9)
        restored.load_state_dict(state)
        for before, row in zip(steps[t : t + 30], actions[t : t + 30], strict=True):
            again = restored.step(row)
            assert again.pressed.tolist() == before.pressed.tolist()
            assert np.array_equal(again.obs, before.obs)
        restored.close()


def test_no_promise_of_an_environment_is_broken():
    def build(**options):
        return make(breakout(max_episode_steps=60), **options)

    assert violations(build, num_envs=2, steps=100) == []


@pytest.mark.parametrize("task", ["Breakout-v5+permute_actions:5", "Breakout-v5+mode:12"])
def test_tasks_of_a_schedule_have_it_pressed_too(task):
    """Also where the agent's buttons are permuted, and on the console with its switches set."""
    spec = EnvSpec.resolve({"task_schedule": [task, "Breakout-v5"], "change_points": [100_000]})
    env = make(spec, num_envs=1, seed=1)
    buttons = getattr(env._env._simulator, "buttons", None)
    fire = FIRE if buttons is None else buttons.tolist().index(FIRE)
    steps = [env.step(np.array([0])) for _ in range(400)]
    env.close()
    lost = sum(int(step.life_lost[0]) for step in steps)
    assert lost >= 2
    fired = [step for step in steps if step.pressed[0] == fire]
    assert lost - 1 <= len(fired) <= lost


def test_the_presses_of_permuted_buttons():
    presses = Presses(noop=0, fire=1, then=2, noops=None)
    assert presses.through([2, 0, 3, 1]).after_life(0, 0, 0, 0) == [1, 3, 0]


def test_a_sequence_without_fire_is_refused():
    with pytest.raises(UserError, match="--fire_sequence wrappers needs --fire_after_life true"):
        breakout(fire_after_life=False, fire_sequence="wrappers")
    assert breakout(fire_after_life=False).fire_sequence == "fire"
    with pytest.raises(UserError, match="--fire_after_life does not apply to CartPole-v1"):
        EnvSpec.resolve({"env_id": "CartPole-v1", "fire_after_life": True})


WAIT_FOR_FIRE = {"BankHeist", "Breakout", "ChopperCommand", "Gopher", "Riverraid", "YarsRevenge"}
"""Of the 57 games: after a lost life, the screen of a policy that does nothing stands still until FIRE."""


def waits_for_fire(name):
    """Random actions until a life is lost; then nothing for 15 s of play, or FIRE after the first 5 of them."""
    ALEInterface.setLoggerMode(LoggerMode.Error)
    game = ALEInterface()
    game.setFloat("repeat_action_probability", 0.0)
    game.setInt("random_seed", 1)
    game.loadROM(roms.get_rom_path(find(name).rom_id))
    buttons, rng = game.getMinimalActionSet(), np.random.default_rng(0)
    if Action.FIRE not in buttons or not game.lives():
        return False
    most = game.lives()
    game.act(Action.FIRE)
    while game.lives() >= most:
        action = buttons[rng.integers(len(buttons))]
        for _ in range(4):
            game.act(action)
        most = max(most, game.lives())
    lost = game.cloneState()

    def goes_on(fire_frames):
        game.restoreState(lost)
        for _ in range(300):
            game.act(Action.NOOP)
        lives = game.lives()
        for action in [Action.FIRE] * fire_frames + [Action.NOOP] * 600:
            game.act(action)
            if game.lives() < lives or game.game_over():
                return True
        screens = set()
        for _ in range(100):
            game.act(Action.NOOP)
            screens.add(game.getScreenGrayscale().tobytes())
        return len(screens) > 2

    return not goes_on(0) and goes_on(4)


SOME = ("Breakout", "Riverraid", "YarsRevenge", "Hero", "Freeway", "Asteroids")


@pytest.mark.parametrize(
    "name", [name if name in SOME else pytest.param(name, marks=pytest.mark.evidence) for name in ATARI_57]
)
def test_the_games_that_wait_for_fire(name):
    assert waits_for_fire(name) == (name in WAIT_FOR_FIRE)
