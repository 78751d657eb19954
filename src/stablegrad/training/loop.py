"""The loop of reinforcement learning: act, step, observe, learn, record. Resumable at every instant."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from stablegrad.agents import AGENTS
from stablegrad.agents.base import Agent, AgentSetup, NonFinite
from stablegrad.agents.own import check_actions, check_built
from stablegrad.envs import make
from stablegrad.envs.base import EpisodeEnd, VectorEnv, episode_seed
from stablegrad.plasticity.base import Intervention
from stablegrad.registry import is_user_file, users_code
from stablegrad.runs.config import RunConfig
from stablegrad.tables.scores import normaliser
from stablegrad.training.evaluate import evaluate
from stablegrad.training.memory import check_environments, check_learning
from stablegrad.training.session import RunFailed, Session

__all__ = ["RunFailed", "Training", "agent_setup", "build_agent"]


def agent_setup(config: RunConfig, envs: VectorEnv, *, learns: bool = True) -> AgentSetup:
    """What a config's agent is told, for environments with the spaces of `envs` (maybe fewer than it acts in)."""
    assert config.budget is not None
    assert config.env is not None
    return AgentSetup(
        observation_space=envs.observation_space,
        action_space=envs.action_space,
        num_envs=config.budget.num_envs,
        total_steps=config.budget.total_timesteps,
        network=config.network,
        seed=config.run.seed,
        reward_clip=config.env.reward_clip,
        life_loss_ends=config.env.life_loss == "signal",
        device=torch.device(config.run.device),
        learns=learns,
    )


def build_agent(config: RunConfig, envs: VectorEnv, *, learns: bool = True) -> Agent:
    """The agent of a config, told about `envs` by `agent_setup`. UserError where a user's own cannot be built."""
    with users_code(f"{config.algo} cannot be built:"):
        agent: Agent = AGENTS[config.algo](config.agent, agent_setup(config, envs, learns=learns))
    check_built(config.algo, agent)
    return agent


def networks(agent: Agent) -> dict[str, nn.Module]:
    """The networks that an agent has, by where: its attributes, what dicts and lists among them hold, its groups."""
    found: dict[str, nn.Module] = {}
    for name, value in {**vars(agent), "groups": agent.groups}.items():
        if isinstance(value, nn.Module):
            found[name] = value
        held = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        found |= {f"{name}[{key!r}]": each for key, each in held if isinstance(each, nn.Module)}
    return found


class Training(Session):
    """A run of an agent in its environments."""

    agent: Agent

    def __init__(self, config: RunConfig, *, interventions: Sequence[Intervention] = ()) -> None:
        assert config.budget is not None
        assert config.env is not None
        self.budget, self.env_spec = config.budget, config.env
        check_environments(config.env, config.budget.num_envs)
        self.envs = make(config.env, num_envs=config.budget.num_envs, seed=config.run.seed)
        try:
            check_learning(config, self.envs.observation_space, self.envs.action_space)
            super().__init__(
                config,
                build_agent(config, self.envs),
                total_steps=config.budget.total_timesteps,
                parts=("environment", "inference"),
                evaluate_every=config.budget.eval_every,
                interventions=interventions,
            )
        except BaseException:
            self.envs.close()
            raise
        self._running_scores = [0.0] * config.budget.num_envs
        self._own = is_user_file(config.algo)

    @property
    def normalise(self) -> Callable[[float], float] | None:
        return None if self.env_spec.task_schedule else normaliser(self.env_spec.game)

    @property
    def inexact(self) -> list[str]:
        return [] if self.envs.exact_resume else ["games that begin anew, which their back end cannot continue"]

    def close(self) -> None:
        self.envs.close()
        super().close()

    def _advance(self) -> None:
        """One step of every environment, and the updates that follow from it."""
        if self.budget.fresh_networks and self._task_ends():
            self._start_afresh()
        start = time.perf_counter()
        try:
            actions = self.agent.act(self.envs.obs)
        except NonFinite as error:
            raise NonFinite(f"{error}. {self._save_failure({'obs': torch.tensor(self.envs.obs)}, error)}") from error
        if self._own:
            check_actions(self.agent, actions, self.envs.action_space, num_envs=self.envs.num_envs, method="act")
        acted = time.perf_counter()
        step = self.envs.step(actions)
        stepped = time.perf_counter()
        self.agent.observe(step)
        self.step += self.envs.num_envs
        self.recorder.episodes(self.step, self._closed(step.episodes, step.truncated), task=self.task)
        for intervention in self.learner.interventions:
            intervention.on_step(self.learner.moment(self.step))
        observed = time.perf_counter()
        self._spent["inference"] += acted - start + observed - stepped
        self._spent["environment"] += stepped - acted
        self._learn()
        if self.budget.eval_every is not None and self._is_due("evaluation", self.budget.eval_every):
            self._evaluate()
        due = self.agent.boundary and self._is_due("row", self.config.run.log_every)
        if due or self._task_ends() or self.step >= self.total_steps:
            self._row()
        self.recorder.progress(self.step, self.total_steps)

    @property
    def task(self) -> int | None:
        """The task (from 1) of the latest step; None without a schedule."""
        task = self.env_spec.task_behind(self.step, num_envs=self.envs.num_envs)
        return None if task is None else task + 1

    def _metrics(self) -> dict[str, float]:
        of_task = {} if self.task is None else {"train/task": self.task}
        return {**super()._metrics(), **of_task}

    def _task_ends(self) -> bool:
        """Whether the latest step was the last of its task, and others follow: no row is about two tasks."""
        return self.task is not None and self.step > 0 and self.env_spec.task_at(self.step) + 1 != self.task

    def _start_afresh(self) -> None:
        """New networks and optimizers in the places of the old ones; what else the agent has, it keeps."""
        task = self.env_spec.task_at(self.step)
        setup = agent_setup(self.config, self.envs, learns=False)
        setup = dataclasses.replace(setup, seed=episode_seed(self.config.run.seed, task, 0))
        old, new = networks(self.agent), networks(AGENTS[self.config.algo](self.config.agent, setup))
        if odd := sorted(old.keys() ^ new.keys()):
            raise RunFailed(
                f"--fresh_networks: {', '.join(odd)} of {self.config.algo} cannot be renewed: a new agent must have"
                " the same networks as one that has trained, so build all of them in __init__"
            )
        for name, network in old.items():
            network.load_state_dict(new[name].state_dict())
        self.learner.restart_optimizers()

    def _closed(self, ends: tuple[EpisodeEnd, ...], truncated: Any) -> list[EpisodeEnd]:
        """The games whose score is known; with `scores_run_on` a time-out leaves a game open, as published."""
        whole = [end for end in ends if end.whole]
        if not self.budget.scores_run_on:
            return whole
        closed = []
        for end in ends:
            if not end.whole:
                self._running_scores[end.env] = 0.0
        for end in whole:
            score = self._running_scores[end.env] + end.score
            self._running_scores[end.env] = score if truncated[end.env] else 0.0
            if not truncated[end.env]:
                closed.append(end._replace(score=score))
        return closed

    def _evaluate(self) -> None:
        seed = int(np.random.SeedSequence((self.config.run.seed, self.step)).generate_state(1, np.uint32)[0])
        task = None if self.task is None else self.task - 1
        result = evaluate(self.agent, self.env_spec, episodes=self.budget.eval_episodes, seed=seed, task=task)
        of_task = {} if self.task is None else {"task": self.task}
        self.recorder.evaluation(self.step, {**result.record(), **of_task}, result.summary())

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "running_scores": list(self._running_scores),
            "envs": self.envs.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._running_scores = list(state["running_scores"])
        self.envs.load_state_dict(state["envs"])
