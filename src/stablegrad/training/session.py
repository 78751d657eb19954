"""What every training has: a folder, rows, probes, checkpoints, an end. How it gets its batches is for subclasses."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from stablegrad.agents.base import Algorithm, Batch, NonFinite
from stablegrad.agents.own import check_metrics
from stablegrad.diagnostics.catalogue import of_group
from stablegrad.errors import UserError
from stablegrad.plasticity.base import Intervention
from stablegrad.registry import blamed, in_words, is_user_file, users_code
from stablegrad.runs import checkpoint, files, records
from stablegrad.runs.config import RunConfig, differences
from stablegrad.runs.files import DiskError
from stablegrad.runs.folder import RunFolder
from stablegrad.runs.tree import encode
from stablegrad.training import numerics
from stablegrad.training.learner import Learner
from stablegrad.training.probing import Prober, gather, updates_between
from stablegrad.training.recorder import Observer, Recorder
from stablegrad.training.stop import StopRequest

log = logging.getLogger("stablegrad")

LAST_PROBE = 0.95
"""The share of a run after which it is probed once more, whatever the interval."""


class RunFailed(Exception):
    """The run cannot go on; what is needed to see why is in its folder."""


class Session(ABC):
    """One run in memory. Everything that changes while it trains is in `state_dict()`.

    Building one finds whatever is wrong with a config (UserError) and writes nothing; `attach` gives it its folder.
    `step` counts towards `total_steps`, in the unit that rows and checkpoints count; `parts` names what time goes into.
    """

    folder: RunFolder
    recorder: Recorder

    def __init__(
        self,
        config: RunConfig,
        agent: Algorithm,
        *,
        total_steps: int,
        parts: Sequence[str],
        evaluate_every: int | None,
        interventions: Sequence[Intervention] = (),
    ) -> None:
        run = config.run
        self.config, self.agent, self.total_steps = config, agent, total_steps
        self.learner = Learner(agent, config.optimizer, seed=run.seed, interventions=interventions)
        self._prober = Prober(agent, self.learner, run)
        self.step = 0
        self.seconds = 0.0
        self._due = {
            "row": run.log_every or 0,
            "probe": 0,  # in steps where an interval is given, else in updates
            "evaluation": evaluate_every or 0,
            "checkpoint": run.checkpoint_every,
        }
        self._probed_at = 0
        # Groups that the update measured for a row left out: they are measured when an update has them.
        self._unmeasured: frozenset[str] = frozenset()
        self._last_checkpoint: Path | None = None
        self._spent = dict.fromkeys((*parts, "update", "diagnostics"), 0.0)
        self._row_mark = (0, 0.0)
        self._clock = time.perf_counter()
        for own in filter(is_user_file, (config.algo, config.optimizer.optimizer)):
            self._check_storable(own)

    def _check_storable(self, own: str) -> None:
        """UserError where the state of what is the user's `own` has no place in a checkpoint, before one is due."""
        try:
            with users_code(f"{own}: its state cannot be had:"):
                encode({"agent": self.agent.state_dict(), "learner": self.learner.state_dict()})
        except TypeError as error:
            raise UserError(
                f"{own}: {error}: a state is made of dicts, lists, numbers, words, tensors and arrays"
            ) from error

    @property
    def normalise(self) -> Callable[[float], float] | None:
        """How a mean score becomes a human-normalised one, where there is such a thing."""
        return None

    @abstractmethod
    def _advance(self) -> None:
        """Move `step` on, learn, and write what is due."""

    def attach(
        self,
        folder: RunFolder,
        observers: Iterable[Observer] = (),
        *,
        not_after: int | None = None,
        accept_missing_rows: bool = False,
    ) -> None:
        """Train in `folder`: from its newest valid checkpoint (up to a step), or in a new one from step 0.

        What the folder records after that checkpoint is moved aside. UserError, with nothing changed, where there is
        no valid checkpoint though there was one, or where rows that it counts are gone and that is not accepted.
        """
        self.folder, self._made_under = folder, numerics.here(self.config.run.device)
        problems: list[str] = []
        newest = checkpoint.load_newest(folder.checkpoints, warn=problems.append, not_after=not_after)
        if newest is None:
            _require_new(folder, problems)
        else:
            for problem in problems:
                log.warning("%s", problem)
            self._take_over(newest)
            self._rewind(newest, accept_missing_rows=accept_missing_rows)
        self.recorder = Recorder(folder, layers=self.learner.layers, normalise=self.normalise, observers=observers)
        if newest is None:
            self._write_checkpoint()
        else:
            self.recorder.load_state_dict(newest.state["recorder"], torch.device(self.config.run.device))
            self._last_checkpoint = newest.path

    def run(self, stop: StopRequest) -> Literal["done", "stopped"]:
        """Train to the end, or until `stop`; either way the last thing written is a checkpoint.

        Raises RunFailed where it cannot go on: the checkpoint before stands, and the folder's status says why.
        """
        self._clock = time.perf_counter()
        if not self.step:
            for remark in self.config.remarks():
                log.warning("%s: %s", self.folder.path, remark)
        try:
            self.folder.set_status("running", self.step)
            while self.step < self.total_steps and not stop:
                self._advance()
                if self.step >= self._due["checkpoint"] and self.agent.boundary:
                    self._due["checkpoint"] = self.step + self.config.run.checkpoint_every
                    self._save(required=False)
            self._save(required=True)
            outcome: Literal["done", "stopped"] = "done" if self.step >= self.total_steps else "stopped"
            self.folder.set_status(outcome, self.step)
        except NonFinite as error:
            self._set_failed(error)
            raise RunFailed(
                f"{self.folder.path}: at step {self.step}, update {self.learner.updates + 1}: {error}"
            ) from error
        except DiskError as error:
            self._set_failed(error)
            raise RunFailed(f"{error}; mend that, then `stablegrad resume {self.folder.path}`") from error
        except (Exception, SystemExit) as error:
            # The user's: an environment that breaks a promise, or a line of a file of theirs that raised.
            if not isinstance(error, UserError) and blamed(error) is None:
                self._set_failed(error)
                raise
            failed = f"at step {self.step:,}: {error if isinstance(error, UserError) else in_words(error)}"
            self._set_failed(failed)
            raise RunFailed(f"{self.folder.path}: {failed}") from error
        if outcome == "done" and not self.learner.updates:
            log.warning(
                "%s: %d steps were too few for a single update: nothing was learned", self.folder.path, self.step
            )
        return outcome

    def close(self) -> None:
        if hasattr(self, "recorder"):
            self.recorder.close()

    def _learn(self) -> None:
        settings = self.config.run
        start = time.perf_counter()
        before: Mapping[str, nn.Module] | None = None
        seen: list[Batch] = []
        probing = settings.diagnostics != "off" and self._probe_is_due()
        for batch in self.agent.batches():
            if not seen and probing and settings.diagnostics == "full":
                before = self._prober.copies()
            first = not seen and self._row_is_due(self.step)
            measure = settings.diagnostics != "off" and (first or bool(self._unmeasured))
            try:
                follow = measure and settings.diagnostics == "full"
                wanted = frozenset() if first else self._unmeasured
                report = self.learner.update(batch, step=self.step, measure=measure, follow=follow, wanted=wanted)
            except NonFinite as error:
                raise NonFinite(f"{error}. {self._save_failure(batch, error)}") from error
            if measure:
                self._unmeasured = report.left_out if first else self._unmeasured & report.left_out
            self.agent.after_update(report.output, batch)
            self.recorder.update(report, layers=settings.diagnostics != "off")
            if not seen or (probing and len(seen) * len(batch["obs"]) < settings.diagnostics_batch):
                seen.append(batch)
        updated = time.perf_counter()
        self._spent["update"] += updated - start
        if seen and probing:
            self._probe(seen, before)
            self._spent["diagnostics"] += time.perf_counter() - updated

    def _probe(self, seen: Sequence[Batch], before: Mapping[str, nn.Module] | None) -> None:
        settings = self.config.run
        batch = gather(self.agent, seen, settings.diagnostics_batch)
        self.recorder.probes(self._prober.probe(batch, before, step=self.step))
        self._probed_at = self.step
        if settings.diagnostics_every is not None:
            self._is_due("probe", settings.diagnostics_every)
        elif settings.diagnostics != "off":
            interval = updates_between(settings.diagnostics, len(batch["obs"]), len(seen[0]["obs"]))
            self._due["probe"] = self.learner.updates + interval

    def _probe_is_due(self) -> bool:
        """By its interval, and once more near the end, so that the end of a run is seen."""
        ending = LAST_PROBE * self.total_steps
        return self._probe_clock() >= self._due["probe"] or self._probed_at < ending <= self.step

    def _probe_clock(self) -> int:
        """What the interval between probes counts: steps where one is given, else updates."""
        return self.step if self.config.run.diagnostics_every is not None else self.learner.updates

    def _row_is_due(self, step: int) -> bool:
        """Whether an update at `step` is measured for a row: the last step has one, whatever the interval."""
        return step >= min(self._due["row"], self.total_steps)

    def _is_due(self, what: str, every: int | None) -> bool:
        """Whether `what` is due at this step; if so, when next: intervals count from the last multiple."""
        if every is None or self.step < self._due[what]:
            return False
        self._due[what] = (self.step // every + 1) * every
        return True

    def _row(self) -> None:
        seconds = self._elapsed()
        mark_step, mark_seconds = self._row_mark
        total = sum(self._spent.values())
        metrics = {f"time/{part}_share": spent / total for part, spent in self._spent.items()}
        metrics["time/steps_per_second"] = (self.step - mark_step) / max(seconds - mark_seconds, 1e-9)
        rates = self.learner.learning_rates()
        for group, rate in rates.items():
            name = "train/learning_rate"
            metrics[name if len(rates) == 1 else of_group(name, group)] = rate
        head = {"step": self.step, "update": self.learner.updates, "seconds": seconds}
        self.recorder.row(head, {**metrics, **self._metrics()})
        self._row_mark = (self.step, seconds)
        self._spent = dict.fromkeys(self._spent, 0.0)

    def _metrics(self) -> dict[str, float]:
        """Scalars by catalogue name that are read when a row is logged."""
        metrics = self.agent.metrics()
        check_metrics(self.agent, metrics)
        return {name: float(value) for name, value in metrics.items()}

    def _elapsed(self) -> float:
        """Seconds of training so far, over all its processes."""
        now = time.perf_counter()
        self.seconds += now - self._clock
        self._clock = now
        return self.seconds

    def _take_over(self, newest: checkpoint.Loaded) -> None:
        """Go on from a checkpoint's state, and say where that cannot be exact. UserError where it does not fit."""
        try:
            self.load_state_dict(newest.state)
        except UserError:
            raise
        except Exception as error:  # an agent may be anybody's, and may have changed since
            raise UserError(f"{newest.path} does not fit this agent: {type(error).__name__}: {error}") from error
        before = newest.made_under or numerics.of_manifest(self.folder.path)
        changed = numerics.changes(before, self._made_under) + self.inexact
        if changed and self.step < self.total_steps:
            log.warning(
                "%s goes on with %s: its last bits may differ from those of a run that was never stopped",
                self.folder.path,
                ", ".join(changed),
            )

    @property
    def inexact(self) -> list[str]:
        """What of this run no checkpoint can hold, for a sentence."""
        return []

    def _rewind(self, newest: checkpoint.Loaded, *, accept_missing_rows: bool) -> None:
        """Let the records end where the checkpoint does; UserError where lines are gone that it counts."""
        path, cursors = self.folder.path, newest.state["recorder"]["cursors"]
        if missing := records.missing(path, cursors):
            if not accept_missing_rows:
                raise UserError([
                    f"{path}: {missing[0]}", *missing[1:],
                    f"put back what is missing, or go on without it: `stablegrad resume {path} --accept_missing_rows`",
                ])  # fmt: skip
            log.warning("%s goes on although %s", path, "; ".join(missing))
            cursors = records.usable(path, cursors)
        later = [old for old in checkpoint.paths(self.folder.checkpoints) if checkpoint.step_of(old) > self.step]
        if aside := records.rewind(path, cursors, later, step=self.step):
            log.warning("%s goes on at step %d: what it recorded after that is in %s", path, self.step, aside)

    def _write_checkpoint(self) -> None:
        self._last_checkpoint = checkpoint.save(
            self.folder.checkpoints,
            self.step,
            self.state_dict(),
            keep=self.config.run.keep_checkpoints,
            previous=self._last_checkpoint,
            made_under=self._made_under,
        )

    def _save(self, *, required: bool) -> None:
        """Write a checkpoint. On the way one may be left out: the next may find room, and the one before stands."""
        try:
            self._write_checkpoint()
        except DiskError as error:
            if required:
                raise RunFailed(
                    f"{self.folder.path}: the last checkpoint could not be written ({error.words});"
                    f" mend that, then `stablegrad resume {self.folder.path}`"
                ) from error
            log.warning("checkpoint at step %d not written (%s); the earlier ones stand", self.step, error.words)
        else:
            self.folder.set_status("running", self.step)

    def _save_failure(self, batch: Batch, error: NonFinite) -> str:
        """Leave what is needed to see why, without any replay; a sentence that says where, or why it is not there."""
        tree = {
            "reason": str(error),
            "batch": dict(batch),
            "groups": {name: module.state_dict() for name, module in self.agent.groups.items()},
            "learner": self.learner.state_dict(),
        }
        folder = self.folder.path / "failure"
        try:
            checkpoint.save(folder, self.step, tree, keep=1)
        except OSError as unwritten:
            log.warning("%s not written (%s)", folder, files.in_words(unwritten))
            return f"The parameters before the update and its batch could not be written ({files.in_words(unwritten)})"
        return f"The parameters before the update and its batch are in {folder}"

    def _set_failed(self, error: BaseException | str) -> None:
        """Record the end of the run; a disk that does not take even that must not hide what ended it."""
        try:
            self.folder.set_status("failed", self.step, reason=str(error))
        except OSError as unwritten:
            log.warning("%s: its status is not written (%s)", self.folder.path, files.in_words(unwritten))

    def state_dict(self) -> dict[str, Any]:
        return {
            "config": self.config.flat(),
            "step": self.step,
            "seconds": self._elapsed(),
            "due": dict(self._due),
            "probed_at": self._probed_at,
            "unmeasured": sorted(self._unmeasured),
            "spent": dict(self._spent),
            "row_mark": list(self._row_mark),
            "agent": self.agent.state_dict(),
            "learner": self.learner.state_dict(),
            "recorder": self.recorder.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state but for its records, which need a folder: `attach` goes on with them."""
        if changed := differences(state["config"], self.config):
            raise UserError(["the checkpoint belongs to another config", *changed])
        self.step, self.seconds = state["step"], state["seconds"]
        self._due, self._probed_at, self._spent = dict(state["due"]), state["probed_at"], dict(state["spent"])
        self._unmeasured = frozenset(state.get("unmeasured", ()))
        self._row_mark = (state["row_mark"][0], state["row_mark"][1])
        self.agent.load_state_dict(state["agent"])
        self.learner.load_state_dict(state["learner"])
        self._clock = time.perf_counter()


def start_over(folder: RunFolder) -> None:
    """Let a run's folder be that of one that has not begun; what it records is moved into `superseded`."""
    folder.set_status("stopped", folder.status["step"], reason="it was to start over")
    if aside := records.rewind(
        folder.path, [0, 0, 0], checkpoint.paths(folder.checkpoints), step=0, all_evaluations=True
    ):
        log.warning("%s starts over: what it recorded is in %s", folder.path, aside)
    folder.set_status("created", 0)


def _require_new(folder: RunFolder, problems: Sequence[str]) -> None:
    """UserError where a folder without a valid checkpoint is anything but a run that has made no step."""
    recorded = records.recorded(folder.path)
    if folder.status["step"] == 0 and not recorded and not problems:
        return
    has = f"; it has {', '.join(recorded)}" if recorded else ""
    raise UserError([
        f"{folder.path} has no valid checkpoint to go on from{has}", *problems,
        f"put one back, or begin again at step 0: `stablegrad resume {folder.path} --start_over`"
        f" moves what is there into {records.SUPERSEDED}/",
    ])  # fmt: skip
