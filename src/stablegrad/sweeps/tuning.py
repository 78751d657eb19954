"""Tuning every arm of a sweep with the same budget, on seeds of their own, with Optuna. Needs the extra `[hpo]`.

What is tried is a pure function of the file and of the values so far, and every trial is written to the journal
whole, before it runs: a study that was killed and resumed is the study that was not.
"""

import contextlib
import dataclasses
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stablegrad.errors import UserError
from stablegrad.runs.files import cut, make_folder, names_in, read_bytes, remove
from stablegrad.runs.folder import RunFolder
from stablegrad.runs.series import final_value, read_series
from stablegrad.sweeps.file import ArmEntry, SweepFile
from stablegrad.sweeps.folder import ensure_run
from stablegrad.sweeps.grid import TASKS, Cell, Combination, expand, resolve
from stablegrad.sweeps.pool import Executor, Stop, Tick, never, unwatched
from stablegrad.sweeps.process import claim
from stablegrad.sweeps.tune_spec import Space, tune_spec


@dataclass(frozen=True)
class Best:
    """How far the tuning of one arm is, and the best settings so far (None before the first value)."""

    arm: str
    tried: int
    failed: int
    value: float | None
    settings: Mapping[str, Any] | None


class Tuning:
    """The studies of a sweep file's arms, in the journal of one folder."""

    def __init__(self, sweep: SweepFile, folder: Path, *, threads: int = 1) -> None:
        """Raises UserError with everything that is wrong with the file."""
        self.spec = tune_spec(sweep)
        self.sweep, self.folder, self._threads = sweep, folder, threads
        plan = expand(dataclasses.replace(sweep, seeds=self.spec.seeds), threads=threads)
        self.plan = plan
        self._cells = {arm: [cell for cell in plan.cells if cell.arm == arm] for arm in plan.arms}
        self._check_space()

    def run(
        self,
        executor: Executor,
        *,
        stop: Stop = never,
        on_tick: Tick = unwatched,
        on_round: Callable[[list[Best]], None] = lambda bests: None,
    ) -> list[Best]:
        """Try what is left to try; returns how far every arm is. UserError where somebody else is at it.

        In a round every arm tries `batch` settings; `on_round` is told how far they are after each.
        """
        make_folder(self.folder)
        claimed = claim(self.folder)
        if claimed is None:
            raise UserError(f"{self.folder}: another process is tuning there: wait for it, or stop it first")
        try:
            studies = {arm: _study(self.folder / "journal.log", arm, self.spec.goal) for arm in self._cells}
            while not stop():
                trials = [(arm, trial) for arm, study in studies.items() for trial in self._in_flight(arm, study)]
                if not trials:
                    break
                self._train(executor, trials, stop, on_tick)
                told = [self._tell(studies[arm], arm, trial) for arm, trial in trials]
                on_round([self._best(arm, study) for arm, study in studies.items()])
                if not all(told):
                    break
            return [self._best(arm, study) for arm, study in studies.items()]
        finally:
            os.close(claimed)

    def tuned(self, bests: Sequence[Best]) -> SweepFile:
        """The sweep, on its own seeds, with every arm's best settings in place of what was searched."""
        chosen = {best.arm: {**self._cells[best.arm][0].given, **(best.settings or {})} for best in bests}
        first, *others = chosen.values()
        shared = {
            name: value
            for name, value in first.items()
            if name not in self.sweep.grid and all(other.get(name) == value for other in others)
        }
        arms = [
            ArmEntry(arm, {name: v for name, v in given.items() if name not in shared and name not in TASKS})
            for arm, given in chosen.items()
        ]
        games = {name: values for name, values in self.sweep.grid.items() if name in TASKS}
        return dataclasses.replace(
            self.sweep, name=f"{self.sweep.name}_tuned", settings=shared, grid=games, arms=tuple(arms), tune=None
        )

    def _check_space(self) -> None:
        """Every bound and choice must make a run of every arm."""
        problems: dict[str, None] = {}
        for cells in self._cells.values():
            for corner in self.spec.space.corners():
                try:
                    self._cell(cells[0], corner)
                except UserError as error:
                    problems.update(dict.fromkeys(error.problems))
        wrong = list(problems)
        if len(self.plan.tasks) > 1 and not self.spec.metric.endswith("/hns"):
            wrong.append(f'{len(self.plan.tasks)} games share no scale: metric = "train/hns" (Atari), or take one game')
        if wrong:
            raise UserError([f"[tune]: {problem}" for problem in wrong])

    def _cell(self, cell: Cell, settings: Mapping[str, Any]) -> Cell:
        return resolve(Combination(cell.arm, cell.seed, {**cell.given, **settings}), threads=self._threads)

    def _in_flight(self, arm: str, study: Any) -> list[Any]:
        """The arm's unfinished trials, new ones among them while its budget lasts."""
        from optuna.trial import TrialState

        trials = study.get_trials(deepcopy=False)
        flying = [trial for trial in trials if trial.state == TrialState.RUNNING]
        if not flying:
            for _ in range(min(self.spec.batch, self.spec.trials - len(trials))):
                study.add_trial(self._propose(arm, study.get_trials(deepcopy=False)))
            flying = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.RUNNING]
        return flying

    def _propose(self, arm: str, so_far: Sequence[Any]) -> Any:
        """The next trial: what a fresh sampler, seeded by the arm and the trial's number, asks for after `so_far`."""
        import optuna
        from optuna.trial import TrialState, create_trial

        entropy = (zlib.crc32(arm.encode()), len(so_far))
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint32)[0])
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=self.spec.batch > 1)
        memory = optuna.create_study(direction=self.spec.goal, sampler=sampler)
        memory.add_trials(so_far)
        space = _distributions(self.spec.space)
        return create_trial(state=TrialState.RUNNING, params=memory.ask(space).params, distributions=space)

    def _train(self, executor: Executor, trials: Sequence[tuple[str, Any]], stop: Stop, on_tick: Tick) -> None:
        # Seeds outermost, so that what is stopped early has seen every trial alike.
        cells = [cell for arm, trial in trials for cell in self._cells_of(arm, trial)]
        ordered = sorted(cells, key=lambda cell: self.spec.seeds.index(cell.seed))
        paths = dict.fromkeys(ensure_run(self.folder, cell.config) for cell in ordered)
        missing = [path for path in paths if RunFolder(path).status["state"] not in ("done", "failed")]
        executor.run(missing, stop=stop, on_tick=on_tick)

    def _cells_of(self, arm: str, trial: Any) -> list[Cell]:
        return [self._cell(cell, trial.params) for cell in self._cells[arm]]

    def _tell(self, study: Any, arm: str, trial: Any) -> bool:
        """Close a trial whose runs have ended; a failed run makes it a failed trial, which counts as tried."""
        from optuna.trial import TrialState

        paths = [self.folder / cell.config.name for cell in self._cells_of(arm, trial)]
        states = {RunFolder(path).status["state"] for path in paths}
        if states - {"done", "failed"}:
            return False
        # As a report would judge them: another definition could crown another arm.
        values = [] if "failed" in states else [final_value(read_series(path), self.spec.metric) for path in paths]
        if values and np.isfinite(values).all():
            study.tell(trial.number, float(np.mean(values)))
        else:
            study.tell(trial.number, state=TrialState.FAIL)
        return True

    def _best(self, arm: str, study: Any) -> Best:
        from optuna.trial import TrialState

        trials = study.get_trials(deepcopy=False)
        good = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        failed = sum(trial.state == TrialState.FAIL for trial in trials)
        sign = 1 if self.spec.goal == "maximize" else -1
        best = max(good, key=lambda trial: sign * trial.value, default=None)
        value, settings = (None, None) if best is None else (best.value, dict(best.params))
        return Best(arm, len(good) + failed, failed, value, settings)


def _distributions(space: Space) -> dict[str, Any]:
    from optuna import distributions

    found: dict[str, Any] = {
        name: distributions.IntDistribution(low, high, log=log)
        if isinstance(low, int) and isinstance(high, int)
        else distributions.FloatDistribution(low, high, log=log)
        for name, (low, high, log) in space.ranges.items()
    }
    return found | {name: distributions.CategoricalDistribution(values) for name, values in space.choices.items()}


def _study(journal: Path, arm: str, goal: Literal["maximize", "minimize"]) -> Any:
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise UserError("tuning needs Optuna: pip install 'stablegrad[hpo]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _mend(journal)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.create_study(study_name=arm, storage=storage, direction=goal, load_if_exists=True)


def _mend(journal: Path) -> None:
    """Undo what a kill in the middle of a write left: half a line, over which Optuna stumbles, and its lock.

    Only for the holder of the folder's claim.
    """
    for name in names_in(journal.parent):
        if name.startswith(f"{journal.name}.lock"):
            remove(journal.parent / name)
    with contextlib.suppress(FileNotFoundError):
        cut(journal, read_bytes(journal).rfind(b"\n") + 1)
