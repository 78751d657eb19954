"""The promises of an agent, as checks that anybody's can be put to, without an environment.

Each check is a sentence and the violations it found, one sentence each; none where the promise is kept. The agent
plays made-up games (`made_up_game`), and what it learns from two that differ in one thing is compared.
"""

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from stablegrad.agents.base import Agent, AgentSetup, Batch, LossOutput, Params
from stablegrad.agents.made_up_game import Game
from stablegrad.nn import taps
from stablegrad.replay.segments import Segment

Check = tuple[str, list[str]]

Build = Callable[[AgentSetup], Agent]
"""The agent that is checked, built for a setup."""

Learnt = tuple[Tensor, dict[str, Tensor | None]]
"""A loss, and its gradient by 'group.parameter'."""

_BATCHES = 4
_UPDATES = 32
_ROUNDING = 1e-5


def checks(build: Build, setup: AgentSetup, *, steps: int) -> Iterator[Check]:
    """The promises of the agent that `build(setup)` makes; `steps` vector steps are played at most."""
    yield "the same seed gives the same agent, and only its own generators are drawn from", _seeds(build, setup)
    agent = build(setup)
    batch = next(_batches(agent, Game(setup), steps), None)
    if batch is None:
        needed = f"{steps * setup.num_envs:,} steps brought no batch to learn from"
        yield "batches come", [f"{needed}: give settings under which they do (--learning_starts, --num_steps)"]
        return
    yield "batches come, with their observations", [] if "obs" in batch else ["a batch has no field 'obs'"]
    yield "loss is a pure function of parameters, batch and generator", _loss(agent, batch)
    yield "every parameter group learns, and can be looked at", _groups(build, setup, steps)
    yield "evaluation is a function of observations and generator, and changes nothing", _evaluation(agent, setup)
    yield "a time-out bootstraps from its last observation, the end of a game from nothing", _ends(build, setup, steps)
    yield "a lost life is an end for the targets where, and only where, the setup says so", _lives(build, setup, steps)
    if isinstance(setup.action_space, spaces.Discrete):
        yield "what was pressed in its place is not learnt from as its own action", _presses(build, setup, steps)
    yield "rewards are clipped where, and only where, the setup says so", _rewards(build, setup, steps)


def _batches(agent: Agent, game: Game, steps: int) -> Iterator[Batch]:
    for _ in range(steps):
        agent.observe(game.step(agent.act(game.obs)))
        yield from agent.batches()


def _seeds(build: Build, setup: AgentSetup) -> list[str]:
    before = _global_generators()
    plays = []
    for seed in (setup.seed, setup.seed, setup.seed + 1):
        agent, game = build(replace(setup, seed=seed)), Game(setup)
        plays.append((_parameters(agent), [_played(agent, game) for _ in range(8)]))
    (params, actions), (same_params, same_actions), (other_params, _) = plays
    problems = []
    if not same(params, same_params):
        problems.append("two agents built from one seed have different parameters")
    elif not same(actions, same_actions):
        problems.append("two agents built from one seed act differently")
    if same(params, other_params):
        problems.append("another seed gives the same parameters")
    if not same(before, _global_generators()):
        problems.append("it draws from a global generator: take generators of its own, seeded by setup.seeds(n)")
    return problems


def _played(agent: Agent, game: Game) -> np.ndarray:
    actions = np.array(agent.act(game.obs))
    agent.observe(game.step(actions))
    for _ in agent.batches():
        pass
    return actions


def _loss(agent: Agent, batch: Batch) -> list[str]:
    problems: list[str] = []
    kept, state, generators = copy.deepcopy(dict(batch)), copy.deepcopy(agent.state_dict()), _global_generators()
    own = {name: dict(module.named_parameters()) for name, module in agent.groups.items()}
    first, gradients, output = _gradients(agent, own, batch)
    if first.ndim or not bool(torch.isfinite(first)):
        problems.append(f"the loss must be one finite number, but is {first}")
        return problems
    again, same_gradients, _ = _gradients(agent, own, batch)
    if not same((first, gradients), (again, same_gradients)):
        problems.append("the same parameters, batch and generator give another loss or gradient the second time")
    if not same(generators, _global_generators()):
        problems.append("it draws from a global generator instead of the one that it is given")
    if not same(state, agent.state_dict()):
        problems.append("it changes the agent's state: that belongs in after_update")
    if not same(kept, dict(batch)):
        problems.append("it writes into the batch")
    moved = {group: {name: p.detach() + 0.05 for name, p in params.items()} for group, params in own.items()}
    if torch.equal(_gradients(agent, moved, batch)[0], first):
        problems.append("it ignores the parameters that it is given: call the network through functional_call")
    if output.features.ndim != 2 or len(output.features) != len(batch["obs"]):
        problems.append(f"features must be [N, D], but are {list(output.features.shape)}")
    attached = [name for name, value in output.metrics.items() if value.requires_grad or value.ndim]
    return problems + [f"the metric {name} is not a detached number" for name in attached]


def _groups(build: Build, setup: AgentSetup, steps: int) -> list[str]:
    """An update may leave groups out (a policy that is delayed), but not every one."""
    agent = build(setup)
    learn, newest = set[str](), None
    for batch, (_, gradients) in islice(_lessons(agent, Game(setup), steps), _UPDATES):
        newest = batch
        for group, module in agent.groups.items():
            if any(gradients[f"{group}.{name}"] is not None for name, _ in module.named_parameters()):
                learn.add(group)
        if learn == agent.groups.keys():
            break
    assert newest is not None, "checks() saw one come"
    problems = [
        f"no parameter of the group '{group}' gets a gradient in the first {_UPDATES} updates"
        for group in agent.groups
        if group not in learn
    ]
    for group, module in agent.groups.items():
        inputs = agent.probe_inputs(group, newest) if taps.layers(module) else None
        if inputs is None:
            continue
        arguments = (inputs,) if isinstance(inputs, Tensor) else inputs
        try:
            with torch.no_grad():
                module(*arguments)
        except Exception as error:  # noqa: BLE001 - somebody else's network may raise anything
            problems.append(
                f"the group '{group}' cannot be called with what probe_inputs gives for it"
                f" ({type(error).__name__}: {error}): let probe_inputs(group, batch) say what it takes"
            )
    return problems


def _gradients(agent: Agent, given: Params, batch: Batch) -> tuple[Tensor, dict[str, Tensor | None], LossOutput]:
    """The loss, its gradient by 'group.parameter', and all of its output, at copies of `given`."""
    params = {g: {n: p.detach().clone().requires_grad_() for n, p in named.items()} for g, named in given.items()}
    leaves = {f"{group}.{name}": p for group, named in params.items() for name, p in named.items()}
    device = next(iter(leaves.values())).device
    output = agent.loss(params, batch, torch.Generator(device).manual_seed(1))
    if not output.loss.requires_grad:
        return output.loss, dict.fromkeys(leaves), output
    found = torch.autograd.grad(output.loss.sum(), list(leaves.values()), allow_unused=True)
    return output.loss.detach(), dict(zip(leaves, found, strict=True)), output


def _evaluation(agent: Agent, setup: AgentSetup) -> list[str]:
    obs, generators, state = Game(setup).obs, _global_generators(), copy.deepcopy(agent.state_dict())

    def act(epsilon: float, seed: int) -> np.ndarray:
        generator = torch.Generator(setup.device).manual_seed(seed)
        return np.array(agent.evaluate(obs, epsilon=epsilon, generator=generator))

    problems = []
    if not all(same(act(epsilon, 1), act(epsilon, 1)) for epsilon in (0.0, 0.5)):
        problems.append("the same observations and generator give other actions the second time")
    many = [act(1.0, seed) for seed in range(20)]
    if not isinstance(setup.action_space, spaces.Box) and all(same(many[0], actions) for actions in many):
        problems.append("with an epsilon of 1 the actions do not vary: epsilon is ignored")
    if not all(setup.action_space.contains(action) for actions in many for action in actions):
        problems.append("an action lies outside the action space")
    if not same(state, agent.state_dict()):
        problems.append("it changes the agent's state (running statistics? storage?)")
    if not same(generators, _global_generators()):
        problems.append("it draws from a global generator instead of the one that it is given")
    return problems


def _ends(build: Build, setup: AgentSetup, steps: int) -> list[str]:
    plain, problems = _learnt(build, Game(setup), setup, steps), []
    if same(plain, _learnt(build, Game(setup, shifted="truncated"), setup, steps)):
        problems.append(
            "what is learnt does not depend on final_obs where a time limit cut the game: bootstrap from its value"
        )
    if not _close(plain, _learnt(build, Game(setup, shifted="terminated"), setup, steps)):
        problems.append("what is learnt depends on the observation behind the end of a game: nothing follows it")
    return problems


def _lives(build: Build, setup: AgentSetup, steps: int) -> list[str]:
    """What is behind a lost life is also what the next step begins with, unless a time limit cuts the game there."""
    ending, problems = replace(setup, life_loss_ends=True), []
    cut = [_learnt(build, Game(setup, lost="truncated", shifted=rows), ending, steps) for rows in ("", "truncated")]
    if not _close(*cut):
        problems.append("with setup.life_loss_ends, what is learnt depends on the observation behind a lost life")
    if same(*(_learnt(build, Game(setup, lost=rows), ending, steps) for rows in ("", "midway"))):
        problems.append("with setup.life_loss_ends, a life lost in the middle of a game changes nothing")
    going_on = replace(setup, life_loss_ends=False)
    if not same(*(_learnt(build, Game(setup, lost=rows), going_on, steps) for rows in ("", "midway"))):
        problems.append("a lost life changes what is learnt without setup.life_loss_ends")
    return problems


def _presses(build: Build, setup: AgentSetup, steps: int) -> list[str]:
    if not same(*(_learnt(build, Game(setup, pressed=rows), setup, steps) for rows in ("", "midway"))):
        return []
    return ["it takes no notice: store step.executed(actions), or do not learn from the rows outside step.chosen"]


def _rewards(build: Build, setup: AgentSetup, steps: int) -> list[str]:
    clipped, raw = (
        [_learnt(build, Game(setup, largest=size), replace(setup, reward_clip=clip), steps) for size in (1, 5)]
        for clip in (True, False)
    )
    problems = []
    if not same(*clipped):
        problems.append("with setup.reward_clip, rewards of 5 and of 1 differ: learn from setup.learning_reward(…)")
    if same(*raw):
        problems.append("without setup.reward_clip, rewards of 5 and of 1 are the same")
    return problems


def _learnt(build: Build, game: Game, setup: AgentSetup, steps: int) -> list[Learnt]:
    """The first losses and gradients of an agent built for `setup`; its parameters stay as they are."""
    return [learnt for _, learnt in islice(_lessons(build(setup), game, steps), _BATCHES)]


def _lessons(agent: Agent, game: Game, steps: int) -> Iterator[tuple[Batch, Learnt]]:
    """Every batch, and its loss and gradients; the parameters stay as they are."""
    for batch in _batches(agent, game, steps):
        own = {name: dict(module.named_parameters()) for name, module in agent.groups.items()}
        loss, gradients, output = _gradients(agent, own, batch)
        agent.after_update(output, batch)
        yield batch, (loss, gradients)


def _parameters(agent: Agent) -> dict[str, Tensor]:
    return {
        f"{group}.{name}": parameter.detach().clone()
        for group, module in agent.groups.items()
        for name, parameter in module.named_parameters()
    }


def _global_generators() -> Any:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def _close(one: Sequence[Learnt], other: Sequence[Learnt]) -> bool:
    """Losses and gradients equal but for rounding: a distribution's mass of 1 is summed from other probabilities."""
    return len(one) == len(other) and all(
        torch.linalg.vector_norm(a - b) <= _ROUNDING * torch.linalg.vector_norm(a)
        for a, b in zip(map(_vector, one), map(_vector, other), strict=True)
    )


def _vector(learnt: Learnt) -> Tensor:
    loss, gradients = learnt
    return torch.cat([loss.reshape(1), *(g.reshape(-1) for g in gradients.values() if g is not None)])


def same(one: Any, other: Any) -> bool:
    """Whether two state trees are equal, bit for bit."""
    if isinstance(one, Segment):
        return isinstance(other, Segment) and one.version == other.version and same(one.data, other.data)
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)
