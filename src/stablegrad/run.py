"""One run on disk: what it recorded, its agent, and what is measured of it. `api` makes them."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stablegrad.agents.base import Agent, NonFinite
from stablegrad.doctor import Examination, examine
from stablegrad.envs import make
from stablegrad.envs.views import View
from stablegrad.errors import UserError
from stablegrad.policy import Policy
from stablegrad.reports.report import write_report
from stablegrad.runs import checkpoint, records
from stablegrad.runs.config import RunConfig
from stablegrad.runs.files import DiskError, read_lines
from stablegrad.runs.folder import RunFolder
from stablegrad.runs.reading import read_config
from stablegrad.runs.records import SharedLines
from stablegrad.runs.rows import Rows
from stablegrad.runs.trust import Trust
from stablegrad.supervised.classifier import Classifier
from stablegrad.training import fitting
from stablegrad.training.evaluate import POOL, Evaluation, Progress, evaluate
from stablegrad.training.fitting import StillLearns, still_learns
from stablegrad.training.loop import build_agent
from stablegrad.training.memory import check_environments, check_learning
from stablegrad.training.session import RunFailed
from stablegrad.training.video import Video

if TYPE_CHECKING:
    from matplotlib.axes import Axes

log = logging.getLogger("stablegrad")


_SMOOTHED = 100


class Unrecorded(Exception):
    """An evaluation was made, and the disk did not take its record."""

    def __init__(self, message: str, evaluation: Any) -> None:
        super().__init__(message)
        self.evaluation = evaluation
        """What `evaluate` or `judge` would have returned."""


@dataclass(frozen=True, repr=False)
class Run:
    """One run on disk. `trust` says which code that its config names may be imported (see `runs.trust`)."""

    path: Path
    trust: Trust = False

    def __repr__(self) -> str:
        flat, status = read_config(self.path), self.status
        task = flat.get("env_id") or flat.get("dataset", "")
        return f"<Run {self.path}: {flat.get('algo', '')} {task}, {status['state']} at step {status['step']:,}>"

    @cached_property
    def folder(self) -> RunFolder:
        return RunFolder.open(self.path, trust=self.trust)

    @cached_property
    def config(self) -> RunConfig:
        return self.folder.config

    @property
    def status(self) -> dict[str, Any]:
        """{"state": created|running|done|stopped|failed, "step": n, …}."""
        return self.folder.status

    @property
    def metrics(self) -> Rows:
        """What was logged, a row each: `metrics["losses/loss"]` is a column [N]; `explain` says what each means."""
        return Rows(self.folder.rows())

    @property
    def episodes(self) -> Rows:
        """One record for each episode that ended in training: step, env, score (raw, undiscounted), length in steps."""
        return Rows(read_lines(self.folder.episodes))

    @property
    def scores(self) -> Rows:
        """The training scores: `episodes`, by the name that most people look for."""
        return self.episodes

    @property
    def evaluations(self) -> Rows:
        """One record for each evaluation, in training or by `evaluate`: step, scores, lengths, epsilon, seed."""
        return Rows(read_lines(self.folder.evaluations))

    @property
    def checkpoints(self) -> list[Path]:
        """Newest first."""
        return checkpoint.paths(self.folder.checkpoints)

    def state(self, path: Path | None = None) -> dict[str, Any]:
        """The state tree of a checkpoint (the newest valid one unless `path` names another)."""
        if path is not None:
            try:
                return checkpoint.load(path)
            except checkpoint.Damaged as error:
                raise UserError(f"{self.path}: checkpoint {error}") from error
        problems: list[str] = []
        newest = checkpoint.load_newest(self.folder.checkpoints, warn=problems.append)
        if newest is None:
            raise UserError([f"{self.path} has no valid checkpoint yet", *problems])
        for problem in problems:
            log.warning("%s: %s", self.path, problem)
        return newest.state

    def agent(self, path: Path | None = None) -> Agent:
        """The agent as a checkpoint holds it."""
        if self.config.env is None:
            raise UserError(f"{self.path} was trained on images and has no agent: see Run.classifier")
        return self._agent(self.state(path), learns=True)

    def _agent(self, state: Mapping[str, Any] | None, *, learns: bool = False) -> Agent:
        """The agent in this state of a run, or before its first step; only to play unless it `learns`."""
        return self._agent_and_view(state, learns=learns)[0]

    def _agent_and_view(self, state: Mapping[str, Any] | None, *, learns: bool = False) -> tuple[Agent, View]:
        assert self.config.env is not None, "what has an agent has an environment"
        check_environments(self.config.env, POOL)
        envs = make(self.config.env, num_envs=1, seed=0)  # for its spaces
        try:
            check_learning(self.config, envs.observation_space, envs.action_space, learns=learns)
            agent = build_agent(self.config, envs, learns=learns)
        finally:
            envs.close()
        if state is not None:
            agent.load_state_dict(state["agent"])
        return agent, envs.view

    def policy(self, path: Path | None = None) -> Policy:
        """What the agent of a checkpoint (the newest valid one unless `path` names another) learned, to act with."""
        if self.config.env is None:
            raise UserError(f"{self.path} was trained on images and has no policy: see Run.classifier")
        state = self.state(path)
        agent, view = self._agent_and_view(state)
        return Policy(
            agent, view, epsilon=self.config.env.eval_epsilon, step=state["step"], device=self.config.run.device
        )

    def doctor(self) -> Examination:
        """What is wrong with the run, as far as its metrics tell, and what to try; `print` it, or see `findings`."""
        return examine(self.path)

    def report(self, out: str | Path | None = None, *, files: bool = False, **options: Any) -> Path:
        """Write the run's page (by default `report.html` in its folder) and return its path.

        With `files` a Markdown version and every figure go beside it; `options` are those of `write_report`.
        """
        target = self.folder.report if out is None else Path(out)
        return write_report(self.path, target, findings=self.doctor().records(), files=files, **options)

    def plot(self, metric: str = "score", *, ax: "Axes | None" = None) -> "Axes":
        """Draw a column of `metrics`, or the training scores, over the agent steps; returns matplotlib's axes.

        Scores are drawn as dots, an episode each, and as their mean over the last 100. KeyError for an unknown metric.
        """
        return plot_run(self, metric, ax=ax)

    def evaluate(
        self,
        episodes: int = 30,
        *,
        seed: int = 0,
        epsilon: float | None = None,
        task: int | None = None,
        max_episode_steps: int | None = None,
        video: str | Path | None = None,
        progress: Progress | None = None,
        record: bool = True,
    ) -> Evaluation:
        """Play whole games with the newest checkpoint on environments of their own.

        `task` (from 1) is the one of a schedule, by default the one that the checkpoint stands at. `video` names a
        file (.mp4, .gif) for the first of the games. With `record` what was measured stands in evaluations.jsonl,
        marked as made here: UserError, before any game is played, where that file cannot be written, and Unrecorded,
        which has the evaluation, where it no longer can at the end.
        """
        state = self.state()
        agent = self._agent(state)
        assert self.config.env is not None, "what has an agent has an environment"
        tasks = len(self.config.env.task_schedule)
        if task is not None and not 1 <= task <= tasks:
            raise UserError(f"task {task}: {self.path} has {f'the tasks 1 to {tasks}' if tasks else 'no schedule'}")
        played = self._task(state["step"]) if task is None else task - 1
        if record:
            self._check_record()
        with contextlib.ExitStack() as closing:
            film = None if video is None else Video(Path(video), self.config.env)
            if film is not None:
                closing.callback(film.close)
            try:
                result = evaluate(
                    agent,
                    self.config.env,
                    episodes=episodes,
                    seed=seed,
                    epsilon=epsilon,
                    task=played,
                    max_episode_steps=max_episode_steps,
                    progress=progress,
                )
            except NonFinite as error:
                raise RunFailed(f"{self.path}: in evaluation, {error}") from error
            result = dataclasses.replace(result, step=state["step"])
            if record:
                of_task = {} if played is None else {"task": played + 1}
                self._record(state["step"], {**result.record(), **of_task}, result)
            if film is not None:
                film.write(result)
        return result

    def judge(self, *, record: bool = True) -> dict[str, Any]:
        """Accuracies of a supervised run's newest checkpoint, on all images (`images` says which) of the task that it
        stands at. `record` and what it raises are as in `evaluate`.
        """
        state = self.state()
        classifier = self._classifier(state)
        if record:
            self._check_record()
        found = {"images": classifier.images.source, **classifier.metrics(), **classifier.evaluate()}
        if record:
            self._record(state["step"], found, found)
        return found

    def _check_record(self) -> None:
        try:
            SharedLines(self.folder.evaluations).check()
        except OSError as error:
            raise UserError(
                f"{error}; to evaluate without recording what comes of it, say --no_record (record=False)"
            ) from error

    def _record(self, step: int, record: Mapping[str, Any], made: Any) -> None:
        line = {"step": step, **record, "by": records.BY_EVAL, "time": time.time()}
        try:
            SharedLines(self.folder.evaluations).write(line)
        except DiskError as error:
            raise Unrecorded(f"{error}: the evaluation is not recorded", made) from error

    def capacity(self, *, budget: int = fitting.BUDGET, inputs: int = fitting.INPUTS, seed: int = 0) -> StillLearns:
        """How fast a copy of the newest checkpoint's network fits random targets, beside the one the run began with.

        On `inputs` observations of games that the agent plays, or images of the current task; `budget` is in steps of
        Adam on all of them (see `diagnostics.capacity`).
        """
        if budget < 1 or inputs < 2:
            raise UserError("capacity needs a budget of at least 1 step and at least 2 inputs")
        if self.config.env is None:
            classifier = self.classifier()
            obs, fresh = classifier.probe_batch(inputs)["obs"], classifier.fresh_network(0).to(classifier.device)
            return still_learns(classifier.network, fresh, obs, budget=budget, seed=seed)
        state = self.state()
        agent, spec = self._agent(state), self.config.env
        obs = fitting.observations(agent, spec, count=inputs, seed=seed, task=self._task(state["step"]))
        group = fitting.reads_observations(agent, obs)
        module, began = (one.groups[group] for one in (agent, self._agent(None)))
        return still_learns(module, began, obs, budget=budget, seed=seed)

    def _task(self, step: int) -> int | None:
        """The task (from 0) that a checkpoint at `step` stands at; None without a schedule."""
        env, budget = self.config.env, self.config.budget
        assert env is not None, "what has an agent has an environment"
        assert budget is not None, "and steps to spend"
        return env.task_behind(step, num_envs=budget.num_envs)

    def classifier(self, path: Path | None = None) -> Classifier:
        """The classifier of a supervised run as a checkpoint holds it; `evaluate()` judges it on its current task."""
        if self.config.env is not None:
            raise UserError(f"{self.path} was not trained on images: see Run.agent")
        return self._classifier(self.state(path))

    def _classifier(self, state: Mapping[str, Any]) -> Classifier:
        classifier = Classifier.build(self.config)
        classifier.load_state_dict(state["agent"])
        return classifier


def plot_run(run: Run, metric: str, *, ax: "Axes | None") -> "Axes":
    """See `Run.plot`."""
    import matplotlib.pyplot as plt
    import numpy as np

    axes: Axes = plt.subplots(figsize=(7, 3.5), layout="constrained")[1] if ax is None else ax
    if metric == "score":
        episodes = run.episodes
        if not episodes:
            raise UserError(f"{run.path}: no training episode has ended yet, so there is no score to draw")
        steps, scores = episodes["step"], episodes["score"]
        axes.plot(steps, scores, ".", markersize=3, alpha=0.3, color="tab:blue")
        window = min(_SMOOTHED, len(scores))
        means = np.convolve(scores, np.full(window, 1 / window), mode="valid")
        axes.plot(steps[window - 1 :], means, color="tab:blue", label=f"mean of the last {window} episodes")
        axes.legend(frameon=False)
    else:
        values = run.metrics[metric]
        axes.plot(run.metrics["step"][~np.isnan(values)], values[~np.isnan(values)], ".-")
    axes.set(xlabel="agent steps", ylabel="training score" if metric == "score" else metric, title=run.path.name)
    return axes


def load_run(path: str | Path, *, trust: Trust = False) -> Run:
    """An existing run. UserError when `path` is not one.

    Code that its config names (a user's own agent, environment, network) is imported only with `trust=True`, or where
    `trust` holds its name; without, what needs it raises UserError and imports nothing.
    """
    return Run(RunFolder.open(Path(path)).path, trust)
