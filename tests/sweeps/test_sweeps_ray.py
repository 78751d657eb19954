"""Runs as Ray tasks on a real cluster of two nodes, one of which is killed in the middle."""

import dataclasses
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from stablegrad.errors import DONE, UserError
from stablegrad.runs import checkpoint
from stablegrad.runs.folder import RunFolder
from stablegrad.sweeps import ray_executor
from stablegrad.sweeps.folder import ensure_run
from stablegrad.sweeps.grid import expand
from stablegrad.sweeps.pool import LocalPool
from stablegrad.sweeps.ray_executor import RayExecutor


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"stablegrad\[ray\]"):
        _ = RayExecutor().slots


@pytest.mark.needs("Ray")
def test_an_address_where_nothing_answers_is_an_error_at_once(tmp_path) -> None:
    """Ray itself tries for minutes."""
    with pytest.raises(UserError, match=r"--address 127\.0\.0\.1:1: nothing answers there \(.*refused\)"):
        _ = RayExecutor("127.0.0.1:1").slots


@pytest.mark.needs("Ray")
def test_something_else_that_answers_is_an_error_within_the_stated_time(monkeypatch) -> None:
    monkeypatch.setattr(ray_executor, "_CLUSTER_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with pytest.raises(UserError, match=r"what answers there is no Ray cluster, or did not .* within 3 seconds"):
            _ = RayExecutor(f"127.0.0.1:{port}").slots


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes of one CPU each; the second one may be killed."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    # A dead node is noticed within seconds, not half a minute.
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 6}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": quick}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


@pytest.mark.needs("Ray")
def test_a_lost_nodes_runs_go_on_elsewhere_and_end_as_in_the_local_pool(cluster, sweep_of, tmp_path) -> None:
    sweep = sweep_of()
    settings = {**sweep.settings, "total_timesteps": 6144, "checkpoint_every": 256, "log_every": 256}
    configs = [cell.config for cell in expand(dataclasses.replace(sweep, settings=settings)).cells]
    local, spread = tmp_path / "local", tmp_path / "ray"
    lost = next(node for node in cluster.list_all_nodes() if node is not cluster.head_node)
    killed: list[Path] = []

    def kill_the_second_node() -> None:
        folders = [spread / config.name for config in configs]
        while not killed:
            time.sleep(0.05)
            for folder in folders:
                process = holder(folder)
                if process is None or raylet_of(process) != raylet_pid(lost):
                    continue
                if 0 < RunFolder(folder).status["step"] < 5000:
                    # A lost machine saves nothing and says nothing: all of it stands still, then all is gone.
                    machine = (process, parent(process))
                    for part in machine:
                        os.kill(part, signal.SIGSTOP)
                    cluster.remove_node(lost, allow_graceful=False)
                    for part in machine:
                        os.kill(part, signal.SIGKILL)
                    killed.append(folder)
                    break

    killer = threading.Thread(target=kill_the_second_node, daemon=True)
    killer.start()
    executor = RayExecutor(cluster.address)
    assert executor.slots == 2
    codes = executor.run([ensure_run(spread, config) for config in configs])
    killer.join(1)
    assert len(killed) == 1, "a node was to be killed while it was at work"
    assert set(codes.values()) == {DONE}
    assert len(codes) == 2

    LocalPool(2).run([ensure_run(local, config) for config in configs])
    for config in configs:
        assert_same(final(local / config.name), final(spread / config.name))
        assert rows(local / config.name) == rows(spread / config.name)
    first, second = (final(spread / config.name) for config in configs)
    with pytest.raises(AssertionError):
        assert_same(first, second)


def holder(folder: Path) -> int | None:
    """The process that trains a run."""
    try:
        words = (folder / "lock").read_text().split()
        return int(words[1]) if words else None
    except (OSError, ValueError):
        return None


def raylet_of(process: int) -> int | None:
    """The training process is a child of a worker, which is a child of its node's raylet."""
    try:
        return parent(parent(process))
    except OSError:
        return None


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def raylet_pid(node: Any) -> int:
    return next(iter(node.all_processes["raylet"])).process.pid


def final(folder: Path) -> dict[str, Any]:
    state = checkpoint.load(checkpoint.paths(folder / "checkpoints")[0])
    return {"step": state["step"], "agent": state["agent"], "learner": state["learner"]}


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_same(left, right)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def rows(folder: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if not name.startswith("time/") and name != "seconds"}
        for row in RunFolder(folder).rows()
    ]
