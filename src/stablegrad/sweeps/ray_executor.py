"""Runs as Ray tasks: past one machine, over storage that all nodes share. Needs the extra `[ray]`.

A task does what a slot of the local pool does, with the same process and the same claim. When a node is lost, Ray
gives its tasks to another one, and the runs go on from their checkpoints: nothing about a run lives in Ray.
"""

import logging
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stablegrad.errors import DONE, FAILED, UserError
from stablegrad.runs.folder import RunFolder
from stablegrad.sweeps.pool import Stop, Tick, never, unwatched
from stablegrad.sweeps.process import RunProcess, claim

log = logging.getLogger("stablegrad")

_POLL_SECONDS = 0.25
_ANSWER_SECONDS = 10.0
_CLUSTER_SECONDS = 60.0
_PROBE = "import logging, sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)"
# More than there is room for, so that none waits for the driver when another ends.
_SUBMITTED_PER_SLOT = 2


def train_folder(folder: str, threads: int) -> int:
    """The body of a task: train one run's folder; the value is as in `Executor.run`.

    Where the run is still claimed (its former node was cut off, but lives), the task waits until it is not.
    """
    path = Path(folder)
    claimed = claim(path)
    while claimed is None:
        time.sleep(_POLL_SECONDS)
        claimed = claim(path)
    state = RunFolder(path).status["state"]
    if state in ("done", "failed"):
        os.close(claimed)
        return DONE if state == "done" else FAILED
    process = RunProcess.start(path, claimed, threads=threads, environment={})
    try:
        while (code := process.poll()) is None:
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        # How Ray tells a task that it was cancelled.
        process.ask_to_stop()
        return process.finish()
    return code


@dataclass
class RayExecutor:
    """Runs of `threads` CPUs and `gpus` GPUs (a fraction: several runs share one) on the cluster at `address`.

    None as the address starts Ray on this machine. The folders must be visible to all nodes under one path.
    """

    address: str | None = None
    threads: int = 1
    gpus: float = 0.0

    @property
    def slots(self) -> int:
        """Runs that the cluster has room for now."""
        have = _connect(self.address).cluster_resources()
        room = have.get("CPU", 0) // self.threads
        if self.gpus:
            room = min(room, have.get("GPU", 0) // self.gpus)
        return max(1, int(room))

    def run(self, folders: Iterable[Path], *, stop: Stop = never, on_tick: Tick = unwatched) -> dict[Path, int]:
        """See `Executor.run`. Ray decides which node a run goes to, and queues what there is no room for yet."""
        ray = _connect(self.address)
        # A lost node is no fault of the run: its task is tried again for as long as it takes.
        task = ray.remote(num_cpus=self.threads, num_gpus=self.gpus, max_retries=-1, retry_exceptions=False)(
            train_folder
        )
        waiting = iter(folders)
        submitted: dict[Any, Path] = {}
        codes: dict[Path, int] = {}
        try:
            while not stop():
                for path in _next(waiting, _SUBMITTED_PER_SLOT * self.slots - len(submitted)):
                    submitted[task.remote(str(path.resolve()), self.threads)] = path
                if not submitted:
                    break
                ended, _ = ray.wait(list(submitted), timeout=_POLL_SECONDS)
                codes.update({submitted.pop(reference): _code(ray, reference) for reference in ended})
                on_tick([path for path in submitted.values() if RunFolder(path).status["state"] == "running"])
        finally:
            for reference in submitted:
                ray.cancel(reference)
            codes.update({path: _code(ray, reference) for reference, path in submitted.items()})
            ray.shutdown()
        on_tick([])
        return {path: code for path, code in codes.items() if code != _NEVER_STARTED}


_NEVER_STARTED = -1


def _next(waiting: Iterator[Path], count: int) -> Iterator[Path]:
    for _, path in zip(range(count), waiting, strict=False):
        yield path


def _code(ray: Any, reference: Any) -> int:
    """The code of an ended task, or of a cancelled one, once its run has saved. What goes wrong around one run (its
    node does not see the folder, say) takes no other along."""
    try:
        return ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return _NEVER_STARTED
    except ray.exceptions.RayTaskError as error:
        log.warning("a run ended without a result: %s", error.cause)
        return FAILED


def _connect(address: str | None) -> Any:
    try:
        import ray
    except ImportError:
        raise UserError("--executor ray needs Ray: pip install 'stablegrad[ray]'") from None
    if ray.is_initialized():
        return ray
    # Ray's usage reports go to a third party; whoever wants to send them can say so in the environment.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is not None:
        _require_cluster(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except ConnectionError as error:
        raise UserError(f"--address {address}: no Ray cluster answers there ({error})") from None
    return ray


def _require_cluster(address: str) -> None:
    """UserError, within a stated time, where no Ray cluster answers at `address`: Ray itself waits for minutes."""
    host = re.fullmatch(r"\[?([^/\]]+)\]?:(\d{1,5})", address)
    if host is not None:
        try:
            socket.create_connection((host[1], int(host[2])), timeout=_ANSWER_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise UserError(
                f"--address {address}: nothing answers there ({error}); `ray status` on a node of the cluster tells"
                " its address"
            ) from None
    try:
        # In a process of its own, which can be ended: what waits inside Ray cannot.
        tried = subprocess.run(
            [sys.executable, "-c", _PROBE, address], capture_output=True, text=True, timeout=_CLUSTER_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"--address {address}: what answers there is no Ray cluster, or did not let a driver in within"
            f" {_CLUSTER_SECONDS:.0f} seconds"
        ) from None
    if tried.returncode != 0:
        said = (tried.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise UserError(f"--address {address}: no Ray cluster answers there ({said})")
