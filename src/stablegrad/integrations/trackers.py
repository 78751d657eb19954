"""Trackers: optional mirrors of the run folder. A tracker that fails, hangs or is offline never stops a run.

One that cannot be built is an error before the run starts. From then on each mirror works in its own thread behind a
bounded queue: training only ever puts a row on the queue, and drops it (counted, and said once at the end) when the
queue is full. `upload` mirrors a finished run later.
"""

import contextlib
import functools
import importlib.util
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from stablegrad.errors import UserError
from stablegrad.registry import Registry
from stablegrad.runs.files import read_lines
from stablegrad.runs.reading import read_config

log = logging.getLogger("stablegrad")

_QUEUED_ROWS = 1000
_CLOSE_SECONDS = 5.0
_OPEN_SECONDS = 10.0


class Sink(Protocol):
    """What a tracker has to do: take scalars at a step, and close."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


SinkFactory = Callable[[Path, Mapping[str, Any]], Sink]
"""(run folder, flat config) -> Sink."""


class TensorBoardSink:
    """Event files in RUN/tensorboard. What was written earlier counts up to the first step that is written now."""

    needs = "tensorboard"

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._open = functools.partial(SummaryWriter, str(path / "tensorboard"))
        self._writer: SummaryWriter | None = None
        text = "\n".join(f"|{name}|{value}|" for name, value in config.items())
        self._config = f"|setting|value|\n|-|-|\n{text}"

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        if self._writer is None:
            # A resumed run writes some steps again, and an upload all of them.
            self._writer = self._open(purge_step=step)
            self._writer.add_text("config", self._config)
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class WandbSink:
    """A Weights & Biases run whose id is the folder's name, so that a resumed run goes on in it."""

    needs = "wandb"

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(
            project="stablegrad", id=path.name, name=path.name, dir=str(path), config=dict(config), resume="allow"
        )

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        # Steps that a resumed run repeats are dropped here: wandb's steps only go up.
        if step >= self._run.step:
            self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        self._run.finish()


class MlflowSink:
    """An MLflow run named as the folder."""

    needs = "mlflow"

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        import mlflow

        self._client = mlflow.MlflowClient()
        experiment = mlflow.set_experiment("stablegrad")
        self._run = self._client.create_run(experiment.experiment_id, run_name=path.name)
        for name, value in config.items():
            self._client.log_param(self._run.info.run_id, name, value)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._client.log_metric(self._run.info.run_id, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run.info.run_id)


class TrackioSink:
    """A trackio run named as the folder."""

    needs = "trackio"

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        import trackio

        self._run = trackio.init(project="stablegrad", name=path.name, config=dict(config), resume="allow")

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS = Registry(
    "tracker",
    {"tensorboard": TensorBoardSink, "wandb": WandbSink, "mlflow": MlflowSink, "trackio": TrackioSink},
)


class Mirror:
    """An observer that hands rows to a sink in a thread of its own."""

    def __init__(self, name: str, open_sink: Callable[[], Sink], *, must_open: bool = False) -> None:
        """With `must_open` somebody calls `opened`, and hears what goes wrong there."""
        self.name = name
        self.dropped = 0
        self._must_open, self._closed = must_open, False
        self._is_open = threading.Event()
        self._failure: Exception | None = None
        self._queue: queue.Queue[Mapping[str, Any] | None] = queue.Queue(_QUEUED_ROWS)
        self._thread = threading.Thread(target=self._work, args=(open_sink,), name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def on_row(self, row: Mapping[str, Any]) -> None:
        try:
            self._queue.put_nowait(row)
        except queue.Full:
            self.dropped += 1

    def on_progress(self, step: int, total: int) -> None:
        pass

    def opened(self, patience: float) -> None:
        """Wait for the sink to open; one that takes longer goes on opening. UserError with what it raised."""
        self._is_open.wait(patience)
        if self._failure is not None:
            raise UserError(
                f"--track {self.name}: it cannot be opened ({type(self._failure).__name__}: {self._failure});"
                " mend that, or leave it out: `stablegrad upload` mirrors a run later"
            )

    def close(self) -> None:
        """Let the sink finish, for a few seconds; a daemon thread that hangs does not keep the process."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + _CLOSE_SECONDS
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=_CLOSE_SECONDS)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self.dropped or self._thread.is_alive():
            log.warning(
                "tracker %s: %s; the run folder has everything, `stablegrad upload` mirrors it again",
                self.name,
                "it did not finish in time" if self._thread.is_alive() else f"{self.dropped} rows were dropped",
            )

    def _work(self, open_sink: Callable[[], Sink]) -> None:
        try:
            sink = open_sink()
            self._is_open.set()
            while (row := self._queue.get()) is not None:
                sink.log(row["step"], scalars_of(row))
            sink.close()
        except Exception as error:  # noqa: BLE001 - whatever somebody's tracker raises, the run goes on
            if self._must_open and not self._is_open.is_set():
                self._failure = error
                self._is_open.set()
            else:
                log.warning("tracker %s stopped: %s: %s", self.name, type(error).__name__, error)
            while self._queue.get() is not None:
                self.dropped += 1


def scalars_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a row."""
    return {name: value for name, value in row.items() if name != "step" and isinstance(value, int | float)}


@contextlib.contextmanager
def mirrored(names: Sequence[str], path: Path, config: Mapping[str, Any], *, begun: bool) -> Iterator[list[Mirror]]:
    """The mirrors that a config asks for, closed at the end. UserError for an unknown tracker and, where the run has
    not `begun` yet, for one that cannot be opened."""
    with contextlib.ExitStack() as opened:
        mirrors = []
        for name, factory in factories(names):
            mirrors.append(Mirror(name, functools.partial(factory, path, config), must_open=not begun))
            opened.callback(mirrors[-1].close)
        until = time.monotonic() + _OPEN_SECONDS
        for mirror in [] if begun else mirrors:
            mirror.opened(max(0.0, until - time.monotonic()))
        yield mirrors


def check_trackers(names: Sequence[str]) -> None:
    """UserError, with every problem, for trackers that are unknown or whose package is not installed."""
    problems = [
        f"--track {name}: {needs} is not installed: pip install 'stablegrad[{name}]', or leave it out"
        for name, factory in factories(names)
        if (needs := getattr(factory, "needs", None)) and not _installed(needs)
    ]
    if problems:
        raise UserError(problems)


def _installed(module: str) -> bool:
    return module in sys.modules or importlib.util.find_spec(module) is not None


def factories(names: Sequence[str]) -> list[tuple[str, SinkFactory]]:
    """Name and factory of each tracker. UserError for an unknown one, or what is none, before anything starts."""
    found = [(name, TRACKERS[name]) for name in names]
    problems = []
    for name, factory in found:
        lacking = [part for part in ("log", "close") if isinstance(factory, type) and not hasattr(factory, part)]
        if not callable(factory):
            problems.append(f"tracker {name} is a {type(factory).__name__}, not a function of (folder, config)")
        elif lacking:
            problems.append(f"tracker {name} has no {' and no '.join(lacking)}: write log(step, scalars) and close()")
    if problems:
        raise UserError(problems)
    return found


def upload(path: Path, name: str) -> int:
    """Mirror a run that was made earlier; the number of rows sent. UserError with what the tracker raised."""
    config = read_config(path)
    rows = [row for row in read_lines(path / "metrics.jsonl") if "step" in row]
    factory = TRACKERS[name]
    try:
        sink = factory(path, config)
        for row in rows:
            sink.log(row["step"], scalars_of(row))
        sink.close()
    except ModuleNotFoundError as error:
        raise UserError(f"tracker {name}: {error}; the extra brings it: pip install 'stablegrad[{name}]'") from error
    except Exception as error:
        raise UserError(f"tracker {name} stopped: {type(error).__name__}: {error}") from error
    return len(rows)
