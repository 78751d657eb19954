"""The promises of an agent, as checks that anybody's can be put to, without an environment.

Each check is a sentence and the violations it found, one sentence each; none where the promise is kept. The agent
plays a made-up game of random observations, in which every episode ends after a few steps, half of them by a time
limit.
"""

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from stablegrad.agents.base import Agent, AgentSetup, Batch, LossOutput, Params
from stablegrad.envs.base import StepBatch
from stablegrad.replay.memory import frame_stack
from stablegrad.replay.segments import Segment

Check = tuple[str, list[str]]

Build = Callable[[int], Agent]
"""The agent that is checked, built from a seed."""

Learnt = tuple[Tensor, dict[str, Tensor | None]]
"""A loss, and its gradient by 'group.parameter'."""

_EPISODE = 3
_BATCHES = 4
_ROUNDING = 1e-5


def checks(build: Build, setup: AgentSetup, *, steps: int) -> Iterator[Check]:
    """The promises of the agent that `build(seed)` makes for `setup`; `steps` vector steps are played at most."""
    yield "the same seed gives the same agent, and only its own generators are drawn from", _seeds(build, setup)
    agent = build(setup.seed)
    batch = next(_batches(agent, Game(setup), steps), None)
    if batch is None:
        needed = f"{steps * setup.num_envs:,} steps brought no batch to learn from"
        yield "batches come", [f"{needed}: give settings under which they do (--learning_starts, --num_steps)"]
        return
    yield "batches come, with their observations", [] if "obs" in batch else ["a batch has no field 'obs'"]
    yield "loss is a pure function of parameters, batch and generator", _loss(agent, batch)
    yield "evaluation is a function of observations and generator, and changes nothing", _evaluation(agent, setup)
    yield "a time-out bootstraps from its last observation, the end of a game from nothing", _ends(build, setup, steps)


class Game:
    """Random observations of a space; environment b ends an episode at every third step, from step b on.

    Ends are time-outs and true ends in turn; what stands in `shifted` ("truncated", "terminated") has other last
    observations than without.
    """

    def __init__(self, setup: AgentSetup, *, shifted: str = "") -> None:
        self.space, self.num_envs, self._shifted = setup.observation_space, setup.num_envs, shifted
        self._rng = np.random.default_rng(setup.seed)
        self._other = np.random.default_rng(setup.seed + 1)
        assert isinstance(self.space, spaces.Box)
        self._stack = frame_stack(self.space)
        self._time = 0
        self.obs = self._draw(self._rng, self.num_envs)

    def step(self, actions: np.ndarray) -> StepBatch:
        """What random actions would do; the actions given are ignored."""
        self._time += 1
        number, ended = np.divmod(self._time + np.arange(self.num_envs), _EPISODE)
        over = ended == 0
        truncated, terminated = over & (number % 2 == 0), over & (number % 2 == 1)
        successor = self._moved(self._rng)
        begun = self._draw(self._rng, self.num_envs)
        strange = self._moved(self._other)
        if self._shifted:
            rows = {"truncated": truncated, "terminated": terminated}[self._shifted]
            successor[rows] = strange[rows]
        self.obs = np.where(over.reshape(-1, *[1] * (begun.ndim - 1)), begun, successor)
        return StepBatch(
            obs=self.obs,
            reward=self._rng.normal(size=self.num_envs).astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            life_lost=np.zeros(self.num_envs, bool),
            final_obs=successor[over],
            episodes=(),
        )

    def _moved(self, rng: np.random.Generator) -> np.ndarray:
        """Observations that may follow the present ones: stacks of frames move on by one."""
        drawn = self._draw(rng, self.num_envs)
        return drawn if self._stack == 1 else np.concatenate([self.obs[:, 1:], drawn[:, :1]], axis=1)

    def _draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        space = self.space
        assert isinstance(space, spaces.Box)
        shape = (count, *space.shape)
        if np.issubdtype(space.dtype, np.integer):
            return rng.integers(space.low, space.high, shape, space.dtype, endpoint=True)
        low, high = np.maximum(space.low, -1.0), np.minimum(space.high, 1.0)
        return rng.uniform(low, high, shape).astype(space.dtype)


def _batches(agent: Agent, game: Game, steps: int) -> Iterator[Batch]:
    for _ in range(steps):
        agent.observe(game.step(agent.act(game.obs)))
        yield from agent.batches()


def _seeds(build: Build, setup: AgentSetup) -> list[str]:
    before = _global_generators()
    plays = []
    for seed in (setup.seed, setup.seed, setup.seed + 1):
        agent, game = build(seed), Game(setup)
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
    for group, params in own.items():
        if all(gradients[f"{group}.{name}"] is None for name in params):
            problems.append(f"no parameter of the group '{group}' gets a gradient")
    moved = {group: {name: p.detach() + 0.05 for name, p in params.items()} for group, params in own.items()}
    if torch.equal(_gradients(agent, moved, batch)[0], first):
        problems.append("it ignores the parameters that it is given: call the network through functional_call")
    if output.features.ndim != 2 or len(output.features) != len(batch["obs"]):
        problems.append(f"features must be [N, D], but are {list(output.features.shape)}")
    attached = [name for name, value in output.metrics.items() if value.requires_grad or value.ndim]
    return problems + [f"the metric {name} is not a detached number" for name in attached]


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
    if isinstance(setup.action_space, spaces.Discrete) and all(same(many[0], actions) for actions in many):
        problems.append("with an epsilon of 1 the actions do not vary: epsilon is ignored")
    if not all(setup.action_space.contains(action) for actions in many for action in actions):
        problems.append("an action lies outside the action space")
    if not same(state, agent.state_dict()):
        problems.append("it changes the agent's state (running statistics? storage?)")
    if not same(generators, _global_generators()):
        problems.append("it draws from a global generator instead of the one that it is given")
    return problems


def _ends(build: Build, setup: AgentSetup, steps: int) -> list[str]:
    """Three plays that differ in nothing but the last observations of time-outs, or of games that ended."""

    def losses(shifted: str) -> list[Learnt]:
        agent, found = build(setup.seed), list[Learnt]()
        for batch in _batches(agent, Game(setup, shifted=shifted), steps):
            own = {name: dict(module.named_parameters()) for name, module in agent.groups.items()}
            loss, gradients, output = _gradients(agent, own, batch)
            agent.after_update(output, batch)
            found.append((loss, gradients))
            if len(found) == _BATCHES:
                break
        return found

    plain, problems = losses(""), []
    if same(plain, losses("truncated")):
        problems.append(
            "what is learnt does not depend on final_obs where a time limit cut the game: bootstrap from its value"
        )
    if not _close(plain, losses("terminated")):
        problems.append("what is learnt depends on the observation behind the end of a game: nothing follows it")
    return problems


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
