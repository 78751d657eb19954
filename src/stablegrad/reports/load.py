"""Run folders as reports see them: small columns of numbers, read once, without the training half."""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stablegrad.agents import AGENTS
from stablegrad.errors import UserError
from stablegrad.runs.config import completed
from stablegrad.runs.files import read_lines, read_object
from stablegrad.runs.reading import is_number, read_config, read_status
from stablegrad.runs.records import BY_EVAL
from stablegrad.runs.series import Series, read_series
from stablegrad.text import printable, printable_tree

EVALUATION_RETURN = "eval/episode_return"
_HEAD = ("update", "seconds")
_MOST_FOLDERS = 100_000


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation of whole games: raw `scores`, played at `step` with this epsilon, `capped` of them to their cap.

    `by_eval`: made by `stablegrad eval`, where it otherwise was while the run trained. `as_configured`: under the
    epsilon and the cap of the run's config, of no task that was chosen.
    """

    step: int
    scores: tuple[float, ...]
    epsilon: float | None
    seed: int | None = None
    capped: int = 0
    by_eval: bool = False
    as_configured: bool = True


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run folder says about a run. `series` is by metric name, in the order the run wrote them."""

    path: Path
    config: dict[str, Any]
    manifest: dict[str, Any]
    status: dict[str, Any]
    series: dict[str, Series]
    evaluations: tuple[Evaluation, ...]

    @property
    def seed(self) -> int:
        return int(self.config.get("seed", 0))

    @property
    def state(self) -> str:
        """created, running, done, stopped, failed, or unknown."""
        return str(self.status.get("state", "unknown"))

    @property
    def last_step(self) -> int:
        """The last agent step that left a trace."""
        logged = [int(series.steps[-1]) for series in self.series.values() if len(series.steps)]
        return max([*logged, int(self.status.get("step", 0))])

    @property
    def budget(self) -> int:
        """The agent steps that the run was given; what it made where its config does not say."""
        return int(self.config.get("total_timesteps") or self.last_step)


def find_runs(paths: Sequence[str | Path]) -> list[Path]:
    """Run folders among `paths` and below them, sorted, each once; hidden folders are not looked into.

    Raises UserError, with every problem, for a path that neither is nor holds a run.
    """
    found: dict[Path, Path] = {}
    problems = []
    for path in map(Path, paths):
        inside = list(_runs_below(path))
        if not inside:
            what = "holds no run (there is no config.json in it)" if path.is_dir() else "does not exist"
            problems.append(f"{path} {what}: name run folders, or a folder of them")
        found.update((run.resolve(), run) for run in inside)
    if not problems and not found:
        problems.append("no run folder was named")
    if problems:
        raise UserError(problems)
    return list(found.values())


def _runs_below(path: Path) -> Iterator[Path]:
    """A run folder is not looked into: its checkpoints may hold copies of its config. A link may lead back."""
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        if (folder / "config.json").is_file():
            yield folder
        elif folder.is_dir() and (real := folder.resolve()) not in seen:
            if len(seen) == _MOST_FOLDERS:
                raise UserError(f"{path} has more than {_MOST_FOLDERS:,} folders in it: name one nearer to the runs")
            seen.add(real)
            inside = [child for child in folder.iterdir() if not child.name.startswith(".") and child.is_dir()]
            waiting += sorted(inside, reverse=True)


def load_runs(paths: Sequence[str | Path]) -> list[RunRecord]:
    """All runs in `paths` (see `find_runs`). Raises UserError for a run whose config cannot be read."""
    return completed_configs([load_run(path) for path in find_runs(paths)])


def completed_configs(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs with every setting that others of their agent record: one that a run lacks came after its version.

    What held before a setting could be set is told by the agent's own class, so this alone imports the training half,
    and only where versions are mixed. Without torch, and for somebody's own agent, configs stay as recorded.
    """
    recorded: dict[str, set[frozenset[str]]] = {}
    for run in runs:
        recorded.setdefault(str(run.config.get("algo")), set()).add(frozenset(run.config))
    mixed = {algo: set().union(*kinds) for algo, kinds in recorded.items() if len(kinds) > 1 and algo in AGENTS}
    if not mixed or importlib.util.find_spec("torch") is None:
        return list(runs)

    def complete(config: dict[str, Any]) -> dict[str, Any]:
        wanted = mixed.get(str(config.get("algo")), set())
        return {name: value for name, value in completed(config).items() if name in wanted} if wanted else config

    return [replace(run, config=complete(run.config)) for run in runs]


def load_run(path: Path) -> RunRecord:
    """One run folder. Files that a run may lack (it has just begun, was never evaluated) count as empty."""
    config = printable_tree(read_config(path))
    series = {printable(name): column for name, column in read_series(path).items() if name not in _HEAD}
    return RunRecord(
        path=path,
        config=config,
        manifest=printable_tree(_manifest(path / "manifest.json")),
        status=printable_tree(read_status(path)),
        series=series,
        evaluations=tuple(_evaluations(path / "evaluations.jsonl", config)),
    )


def _manifest(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except (OSError, ValueError):
        return {}


def _evaluations(path: Path, config: Mapping[str, Any]) -> Iterator[Evaluation]:
    for record in read_lines(path):
        scores = record.get("scores", record.get("episodes"))
        if not isinstance(scores, list) or not scores or not all(map(is_number, scores)):
            continue
        by_eval = record.get("by") == BY_EVAL
        as_asked = {"epsilon": config.get("eval_epsilon"), "max_episode_steps": config.get("eval_max_episode_steps")}
        same = all(wanted is None or record.get(name) == wanted for name, wanted in as_asked.items())
        seed, capped = record.get("seed"), record.get("capped")
        yield Evaluation(
            step=int(record.get("step", 0)),
            scores=tuple(map(float, scores)),
            epsilon=record.get("epsilon"),
            seed=int(seed) if is_number(seed) else None,
            capped=int(capped) if is_number(capped) else 0,
            by_eval=by_eval,
            as_configured=not by_eval or (same and "task" not in record),
        )
