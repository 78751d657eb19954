"""Training in folders that are held: one run, several side by side, or one after the other. `api` calls it."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from stablegrad.errors import UserError
from stablegrad.integrations.trackers import mirrored
from stablegrad.run import Run
from stablegrad.runs.config import RunConfig
from stablegrad.runs.files import DiskError
from stablegrad.runs.folder import RunFolder
from stablegrad.supervised.seeds import StackedTraining
from stablegrad.supervised.training import SupervisedTraining
from stablegrad.training.loop import Training
from stablegrad.training.recorder import Observer, Watcher, as_observer
from stablegrad.training.session import RunFailed, Session, start_over
from stablegrad.training.stop import StopRequest


def check_device(device: str) -> None:
    """UserError when `device` is not there."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UserError(f"--device {device}: {str(error).splitlines()[0]}") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {device}: this torch sees no CUDA device; leave --device out to train on the CPU")
    if kind not in ("cpu", "cuda"):
        raise UserError(f"--device {device}: cpu and cuda are supported")


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """How a run that exists goes on; see `resume`."""

    start_over: bool = False
    accept_missing_rows: bool = False


def run_one(
    config: RunConfig,
    open_folder: Callable[[Session], AbstractContextManager[RunFolder]],
    observers: Iterable[Watcher],
    *,
    options: Resumption = Resumption(),
) -> Run:
    """Build everything, and only then touch the folder: whatever is wrong with a config shows before."""
    check_device(config.run.device)
    watching = [as_observer(each) for each in observers]
    with _torch_settings(config), StopRequest() as stop:
        training = Training(config) if config.env is not None else SupervisedTraining(config)
        try:
            with open_folder(training) as folder, _in_words(folder):
                if options.start_over:
                    start_over(folder)
                with mirrored(config.run.track, folder.path, config.flat(), begun=folder.is_run) as mirrors:
                    training.attach(folder, [*watching, *mirrors], accept_missing_rows=options.accept_missing_rows)
                    folder.publish()
                    training.run(stop)
        finally:
            training.close()
    return Run(folder.path, folder.trust)


def run_stacked(
    configs: Sequence[RunConfig],
    open_folders: Callable[[], AbstractContextManager[list[RunFolder]]],
    observers: Iterable[Watcher],
    *,
    options: Resumption = Resumption(),
) -> list[Run]:
    """As `run_one`, for runs that are trained side by side. Raises NotStackable before anything is touched."""
    first = configs[0].run
    check_device(first.device)
    given = [as_observer(each) for each in observers]
    with _torch_settings(configs[0]), StopRequest() as stop:
        training = StackedTraining(configs)
        try:
            with open_folders() as folders, _in_words(folders[0]), contextlib.ExitStack() as tracked:
                if options.start_over:
                    for folder in folders:
                        start_over(folder)
                mirrors = [
                    tracked.enter_context(mirrored(first.track, folder.path, one.flat(), begun=folder.is_run))
                    for folder, one in zip(folders, configs, strict=True)
                ]
                watching: list[Iterable[Observer]] = [[*given, *mirrors[0]], *mirrors[1:]]
                training.attach(folders, watching, accept_missing_rows=options.accept_missing_rows)
                publish(folders)
                training.run(stop)
        finally:
            training.close()
    return [Run(folder.path, folder.trust) for folder in folders]


def publish(folders: Sequence[RunFolder]) -> None:
    """Make folders that belong together runs: once the first is one, resuming it makes the others."""
    for folder in folders:
        if not folder.is_run:
            folder.prepare()
    for folder in folders:
        folder.publish()


@contextlib.contextmanager
def _in_words(folder: RunFolder) -> Iterator[None]:
    """A disk that refuses a file of a run ends the run with one sentence; of a folder that is none yet, its making."""
    try:
        yield
    except DiskError as error:
        if not folder.is_run:
            raise
        raise RunFailed(f"{error}; mend that, then `stablegrad resume {folder.path}`") from error


@contextlib.contextmanager
def all_held(folders: list[RunFolder]) -> Iterator[list[RunFolder]]:
    with contextlib.ExitStack() as locks:
        for folder in folders:
            locks.enter_context(folder.lock())
        yield folders


def run_in_turn(
    folders: Sequence[RunFolder], observers: Iterable[Watcher], *, options: Resumption = Resumption()
) -> list[Run]:
    """Train in these folders, one after the other; when one is stopped, those after it are too.

    `options` are for the last one, which was asked for.
    """
    runs = [Run(folder.path, folder.trust) for folder in folders]
    for number, folder in enumerate(folders, 1):
        _go_on(folder, observers, options if number == len(folders) else Resumption())
        if folder.status["state"] == "stopped":
            for waiting in folders[number:]:
                waiting.set_status("stopped", waiting.status["step"])
            break
    return runs


def _go_on(folder: RunFolder, observers: Iterable[Watcher], options: Resumption) -> Run:
    """Train in a folder that exists, from its newest checkpoint."""
    return run_one(folder.config, lambda training: folder.lock(), observers, options=options)


@contextlib.contextmanager
def _torch_settings(config: RunConfig) -> Iterator[None]:
    """Threads and matmul precision are process-wide in torch: set for the run, put back after it."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(config.run.threads or available_cores())
    torch.set_float32_matmul_precision(config.run.matmul_precision)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
