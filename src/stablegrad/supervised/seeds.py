"""The seeds of one configuration, trained side by side: one loop, and a run folder for each seed.

A member is an ordinary run but for its updates, which the stack makes for all. Stopped and resumed together, the
members end with the same bits as without a stop; alone, a seed ends there within rounding.
"""

import dataclasses
import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch

from stablegrad.agents.base import Batch, NonFinite
from stablegrad.errors import UserError
from stablegrad.runs import checkpoint
from stablegrad.runs.config import RunConfig
from stablegrad.runs.files import DiskError, read_bytes, write_json
from stablegrad.runs.folder import RunFolder
from stablegrad.runs.trust import Trust
from stablegrad.supervised.classifier import load
from stablegrad.supervised.side_by_side import NotFinite, StackedLearner
from stablegrad.supervised.stacked import NotStackable
from stablegrad.supervised.training import SupervisedTraining
from stablegrad.training.learner import UpdateReport
from stablegrad.training.recorder import Observer
from stablegrad.training.session import RunFailed
from stablegrad.training.stop import StopRequest

log = logging.getLogger("stablegrad")

Way = Literal["side_by_side", "in_turn"]
"""How the seeds of one configuration are trained."""


def seed_configs(config: RunConfig) -> list[RunConfig]:
    """The configs of the seeds that `config` asks for, from its own seed on: those of runs of one seed each."""
    first, one = config.run.seed, dataclasses.replace(config.agent, seeds=1)
    return [
        dataclasses.replace(config, run=dataclasses.replace(config.run, seed=seed), agent=one)
        for seed in range(first, first + config.agent.seeds)
    ]


def record_members(folders: Sequence[RunFolder], way: Way) -> None:
    """Let every folder know the others and the way in which they are trained, so that resuming one finishes all."""
    for folder in folders:
        write_json(folder.path / f"{way}.json", [str(other.path.resolve()) for other in folders])


def members_of(path: Path, way: Way) -> list[Path]:
    """The folders that are trained `way` with `path`, itself included; empty where it was not trained so.

    They lie beside it, also where all of them were moved or copied, or else where they were. UserError where `path` is
    not among them: its seed would wait for ever.
    """
    record = path / f"{way}.json"
    if not record.is_file():
        return []
    try:
        recorded = [Path(member) for member in json.loads(read_bytes(record))]
        pairs = [(path.resolve().parent / member.name, member) for member in recorded]
        found = [there if there.is_dir() and not beside.is_dir() else beside for beside, there in pairs]
        listed = any(member.is_dir() and member.samefile(path) for member in found)
    except (ValueError, TypeError, RecursionError, OSError):
        raise UserError(f"{record} is damaged: it is not a list of folders") from None
    if not listed:
        names = ", ".join(sorted({member.name for member in recorded}))
        raise UserError(f"{record} does not list {path}, but {names or 'nothing'}: give the folder its old name back")
    return found


def broke(folder: RunFolder) -> bool:
    """Whether a run ended because its numbers were no longer finite: it would again."""
    return folder.status["state"] == "failed" and (folder.path / "failure").is_dir()


def unfinished(members: Iterable[Path], *, trust: Trust = False) -> list[RunFolder]:
    """Those of the members that can go on: neither done, nor broken, nor (which a warning says) deleted."""
    found = []
    for path in members:
        folder = RunFolder(path, trust=trust)
        if folder.is_prepared:  # whoever made them was cut off between the first and the last
            with folder.lock():
                folder.publish()
        if not folder.is_run:
            log.warning("%s is not there any more: the other seeds go on without it", path)
            continue
        if folder.status["state"] != "done" and not broke(folder):
            found.append(folder)
    return found


class Member(SupervisedTraining):
    """One seed of a stack: its updates are made elsewhere and handed to it."""

    def next_batch(self) -> Batch:
        """The batch of the next update, which `deliver` belongs to."""
        return next(iter(self.agent.batches()))

    @property
    def measures(self) -> bool:
        """Whether the next update is to be measured: a row is due behind it."""
        return self.config.run.diagnostics != "off" and self._row_is_due(self.step + 1)

    @property
    def checkpoint_is_due(self) -> bool:
        return self.step >= self._due["checkpoint"]

    def begin(self) -> None:
        self._clock = time.perf_counter()
        self.folder.set_status("running", self.step)

    def deliver(self, batch: Batch, report: UpdateReport, seconds: float) -> None:
        """Take an update as made; `seconds` is this member's share of the time it took."""
        self._delivered = (batch, report, seconds)
        self.learn()

    def _learn(self) -> None:
        batch, report, seconds = self._delivered
        probing = self.config.run.diagnostics != "off" and self._probe_is_due()
        self.learner.updates += 1
        self.agent.after_update(report.output, batch)
        self.recorder.update(report, layers=self.config.run.diagnostics != "off")
        self._spent["update"] += seconds
        if probing:
            start = time.perf_counter()
            self._probe([batch], None)
            self._spent["diagnostics"] += time.perf_counter() - start

    def save(self) -> None:
        """Write a checkpoint on the way."""
        self._due["checkpoint"] = self.step + self.config.run.checkpoint_every
        self._save(required=False)

    def end(self) -> str | None:
        """Write the last checkpoint and what became of the run; why it failed, where the disk does not take that."""
        try:
            self._save(required=True)
            self.folder.set_status("done" if self.step >= self.total_steps else "stopped", self.step)
        except (RunFailed, DiskError) as error:
            self.give_up(error)
            return str(error)
        return None

    def give_up(self, error: Exception) -> None:
        """Record that training ended with an error; the last checkpoint stands."""
        self._set_failed(error)

    def fail(self, batch: Batch, reason: str) -> str:
        """Leave what is needed to see why this member cannot go on; a sentence that says where."""
        error = NonFinite(f"{reason}. {self._save_failure(batch, NonFinite(reason))}")
        self._set_failed(error)
        return f"{self.folder.path}: at update {self.step + 1}: {error}"


class StackedTraining:
    """Runs that differ in nothing but their seed.

    Building one finds whatever is wrong with a config (UserError), and then whether they can be trained side by side
    (NotStackable).
    """

    def __init__(self, configs: Sequence[RunConfig]) -> None:
        run = configs[0].run
        images = load(configs[0].agent).to(torch.device(run.device))
        self.members = [Member(config, images=images, runs=len(configs)) for config in configs]
        if run.diagnostics == "full":
            raise NotStackable("full diagnostics look at a network before and after its update")
        if run.keep_checkpoints < 2:
            raise NotStackable("a stop between their checkpoints needs --keep_checkpoints 2")
        if len({member.agent.curriculum.sizes for member in self.members}) > 1:
            raise NotStackable("the tasks of the seeds differ in size")
        self._failures: list[str] = []
        self._stack()

    def attach(
        self,
        folders: Sequence[RunFolder],
        observers: Sequence[Iterable[Observer]] = (),
        *,
        accept_missing_rows: bool = False,
    ) -> None:
        """Train in these folders, from the newest checkpoint that all of them have; `observers` are by member.

        Raises as `Session.attach` does.
        """
        step = _common_step(folders)
        for member, folder, watching in zip(self.members, folders, observers or [()] * len(folders), strict=True):
            member.attach(folder, watching, not_after=step, accept_missing_rows=accept_missing_rows)
        self.learner.gather()

    def run(self, stop: StopRequest) -> Literal["done", "stopped"]:
        """Train to the end, or until `stop`; the last thing written is a checkpoint of each member.

        Raises RunFailed at the end when members had to be left behind, or their last checkpoint found no room.
        """
        try:
            self._train(stop)
        except Exception as error:
            for member in self.members:
                member.give_up(error)
            if isinstance(error, DiskError):
                where = self.members[0].folder.path
                raise RunFailed(f"{error}; mend that, then `stablegrad resume {where}`") from error
            raise
        self._failures += [failure for member in self.members if (failure := member.end()) is not None]
        if self._failures:
            raise RunFailed("; ".join(self._failures))
        return "done" if all(member.step >= member.total_steps for member in self.members) else "stopped"

    def close(self) -> None:
        for member in self.members:
            member.close()

    def _train(self, stop: StopRequest) -> None:
        for member in self.members:
            member.begin()
        while self.members and self.members[0].step < self.members[0].total_steps and not stop:
            self._advance()
            if self.members and self.members[0].checkpoint_is_due:
                self.learner.scatter()
                for member in self.members:
                    member.save()
        self.learner.scatter()

    def _stack(self) -> None:
        agents = [member.agent for member in self.members]
        self.learner = StackedLearner([member.learner for member in self.members], agents[0].images.train.images)

    def _advance(self) -> None:
        start = time.perf_counter()
        restarted = [member.prepare() for member in self.members]
        if any(restarted):
            self.learner.gather()
        batches = [member.next_batch() for member in self.members]
        try:
            reports = self.learner.update(batches, measure=self.members[0].measures)
        except NotFinite as error:
            self._leave_behind(error, batches)
            return
        seconds = (time.perf_counter() - start) / len(self.members)
        for member, batch, report in zip(self.members, batches, reports, strict=True):
            member.deliver(batch, report, seconds)

    def _leave_behind(self, error: NotFinite, batches: Sequence[Batch]) -> None:
        """Members whose numbers are no longer finite end here; the others go on without them."""
        self.learner.scatter()
        for index, reason in error.reasons.items():
            member = self.members[index]
            self._failures.append(member.fail(batches[index], reason))
            member.close()
        self.members = [member for index, member in enumerate(self.members) if index not in error.reasons]
        if self.members:
            self._stack()


def _common_step(folders: Sequence[RunFolder]) -> int:
    """The newest step at which every folder has a valid checkpoint; 0 where one has none, for it to say why."""
    steps = [set(_valid_steps(folder)) for folder in folders]
    common = set.intersection(*steps)
    if not common and all(steps):
        names = ", ".join(str(folder.path) for folder in folders)
        raise UserError(
            f"{names} have no valid checkpoint of the same step, from which they could go on side by side:"
            f" begin again at step 0 with `stablegrad resume {folders[0].path} --start_over`"
        )
    return max(common, default=0)


def _valid_steps(folder: RunFolder) -> Iterator[int]:
    for path in checkpoint.paths(folder.checkpoints):
        try:
            yield int(checkpoint.load(path)["step"])
        except checkpoint.Damaged:
            continue
