"""Trackers mirror a run and never stop or slow it."""

import json
import logging
import sys
import threading
from types import SimpleNamespace

import pytest

from stablegrad.cli import main
from stablegrad.errors import UserError
from stablegrad.integrations import trackers
from stablegrad.integrations.trackers import Mirror, scalars_of


class Memory:
    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.closed = False

    def log(self, step, scalars):
        self.rows.append((step, dict(scalars)))

    def close(self):
        self.closed = True


def test_every_row_arrives_in_order_and_the_sink_is_closed():
    sink = Memory()
    mirror = Mirror("memory", lambda: sink)
    for step in range(50):
        mirror.on_row({"step": step, "losses/loss": step / 2})
    mirror.close()
    assert sink.rows == [(step, {"losses/loss": step / 2}) for step in range(50)]
    assert sink.closed
    assert mirror.dropped == 0


def test_a_sink_that_raises_is_said_once_and_stops_nothing(caplog):
    class Broken(Memory):
        def log(self, step, scalars):
            raise ConnectionError("no route to host")

    mirror = Mirror("broken", Broken)
    with caplog.at_level(logging.WARNING, logger="stablegrad"):
        for step in range(20):
            mirror.on_row({"step": step})
        mirror.close()
    assert "broken stopped: ConnectionError: no route to host" in caplog.text
    assert mirror.dropped == 19


def test_a_sink_that_cannot_be_opened_stops_nothing(caplog):
    def fail():
        raise OSError("offline")

    mirror = Mirror("offline", fail)
    mirror.on_row({"step": 1})
    with caplog.at_level(logging.WARNING, logger="stablegrad"):
        mirror.close()
    assert "offline" in caplog.text


def test_a_sink_that_hangs_neither_slows_training_nor_keeps_the_process(monkeypatch):
    monkeypatch.setattr(trackers, "_CLOSE_SECONDS", 0.2)
    release = threading.Event()

    class Hanging(Memory):
        def log(self, step, scalars):
            release.wait()

    mirror = Mirror("hanging", Hanging)
    for step in range(5000):
        mirror.on_row({"step": step})  # had training waited for any, this would hang too
    mirror.close()
    release.set()
    assert mirror.dropped > 3000  # the queue is bounded: what it cannot hold is counted, not kept


def test_a_sink_that_is_behind_gets_what_is_queued_and_is_closed():
    release = threading.Event()

    class Behind(Memory):
        def log(self, step, scalars):
            release.wait(30)
            super().log(step, scalars)

    sink = Behind()
    mirror = Mirror("behind", lambda: sink)
    for step in range(2000):
        mirror.on_row({"step": step})
    threading.Timer(0.1, release.set).start()
    mirror.close()
    assert sink.closed
    assert len(sink.rows) + mirror.dropped == 2000
    assert mirror.dropped > 900


_LINE = (
    "pqn --env_id CartPole-v1 --num_envs 2 --num_steps 4 --num_minibatches 2 --mlp_width 8 --threads 1"
    " --diagnostics off --total_timesteps 16 --quiet"
)
_RUN = _LINE.split()


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_an_error_before_the_run(tmp_path, monkeypatch, capsys, name):
    """It was one warning, and hours of training without it."""
    monkeypatch.setattr(trackers, "_installed", lambda module: module != name)
    assert main([*_RUN, "--track", name, "--run_dir", str(tmp_path / "run")]) == 2
    assert f"--track {name}: {name} is not installed: pip install 'stablegrad[{name}]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    text = f'name = "s"\nseeds = [1]\n[settings]\nalgo = "pqn"\nenv_id = "CartPole-v1"\ntrack = ["{name}"]\n'
    (tmp_path / "sweep.toml").write_text(text)
    assert main(["sweep", str(tmp_path / "sweep.toml"), "--out", str(tmp_path / "sweep")]) == 2
    assert not (tmp_path / "sweep").exists()


def test_what_is_installed_is_found():
    """The control."""
    assert trackers._installed("json")
    assert not trackers._installed("no_such_tracker")


OWN = """
class Mine:
    def __init__(self, path, config):
        if (path.parent / "down").exists():
            raise ConnectionError("the server is down")
        self.path = path

    def log(self, step, scalars):
        (self.path.parent / "seen").write_text(str(step))

    def close(self):
        pass
"""


def test_a_tracker_that_cannot_be_built_is_an_error_before_a_run_and_stops_none_that_has_begun(
    tmp_path, capsys, caplog
):
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "down").touch()
    words = [*_RUN, "--track", f"{tmp_path}/mine.py:Mine", "--run_dir", str(tmp_path / "run")]
    assert main(words) == 2
    assert "it cannot be opened (ConnectionError: the server is down)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    (tmp_path / "down").unlink()
    assert main(words) == 0
    assert (tmp_path / "seen").read_text() == "16"
    (tmp_path / "down").touch()
    assert main(["resume", str(tmp_path / "run"), "--start_over", "--trust", "--quiet"]) == 0
    assert "stopped: ConnectionError: the server is down" in caplog.text


def test_one_that_takes_its_time_to_open_is_waited_for_no_longer_than_stated(monkeypatch):
    monkeypatch.setattr(trackers, "_OPEN_SECONDS", 0.1)
    monkeypatch.setattr(trackers, "_CLOSE_SECONDS", 5.0)
    release, sink = threading.Event(), Memory()

    def slow(path, config):
        release.wait(30)
        return sink

    monkeypatch.setattr(trackers, "factories", lambda names: [("slow", slow)])
    with trackers.mirrored(["slow"], None, {}, begun=False) as (mirror,):
        mirror.on_row({"step": 1})
        release.set()
    assert sink.rows == [(1, {})]
    assert sink.closed


def test_only_numbers_are_mirrored():
    assert scalars_of({"step": 3, "a": 1.5, "b": "text", "c": None, "d": 2}) == {"a": 1.5, "d": 2}


def test_an_unknown_tracker_is_named_before_anything_starts():
    with pytest.raises(UserError, match="did you mean 'wandb'"):
        trackers.factories(["wanbd"])


def test_a_run_is_uploaded_later(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"algo": "pqn"}))
    (run / "metrics.jsonl").write_text('{"step": 1, "losses/loss": 2.0}\n{"step": 2, "losses/loss": 1.0}\n{"torn')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):  # what is uploaded again stands there once
        assert main(["upload", str(run), "--to", "tensorboard"]) == 0
        assert "2 rows" in capsys.readouterr().out
        events = EventAccumulator(str(run / "tensorboard"))
        events.Reload()
        assert [(e.step, e.value) for e in events.Scalars("losses/loss")] == [(1, 2.0), (2, 1.0)]


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("ConnectionError('no route to host')", "stopped: ConnectionError: no route to host"),
        ("ModuleNotFoundError(\"No module named 'wandb'\")", "No module named 'wandb'; the extra brings it"),
    ],
)
def test_an_upload_that_fails_is_one_clear_message(tmp_path, capsys, raised, said):
    (tmp_path / "config.json").write_text("{}")
    tracker = tmp_path / "tracker.py"
    tracker.write_text(f"def broken(path, config):\n    raise {raised}\n")
    assert main(["upload", str(tmp_path), "--to", f"{tracker}:broken"]) == 2
    assert said in capsys.readouterr().err


class FakeRun(Memory):
    """What wandb.init and trackio.init return: wandb's counts its steps, which only go up."""

    step = 0

    def log(self, scalars, step):
        super().log(step, scalars)
        self.step = step

    def finish(self):
        self.close()


@pytest.mark.parametrize(("tracker", "folder"), [("wandb", {"dir"}), ("trackio", set())])
def test_runs_are_named_by_their_folder_so_that_a_resumed_one_goes_on(tmp_path, monkeypatch, tracker, folder):
    made, run = [], FakeRun()
    monkeypatch.setitem(sys.modules, tracker, SimpleNamespace(init=lambda **asked: made.append(asked) or run))
    path = tmp_path / "pqn-Breakout-1-a5"
    sink = trackers.TRACKERS[tracker](path, {"algo": "pqn", "seed": 1})
    assert made[0].keys() - {"id"} == {"project", "name", "config", "resume"} | folder
    assert (made[0]["name"], made[0]["resume"], made[0]["config"]) == (path.name, "allow", {"algo": "pqn", "seed": 1})
    for step in (10, 20):
        sink.log(step, {"losses/loss": 1 / step})
    sink.close()
    assert run.rows == [(10, {"losses/loss": 0.1}), (20, {"losses/loss": 0.05})]
    assert run.closed


def test_wandb_is_not_sent_the_steps_that_a_resumed_run_repeats(tmp_path, monkeypatch):
    run = FakeRun()
    run.step = 20  # what the process that was killed had sent
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **asked: run))
    sink = trackers.WandbSink(tmp_path, {})
    for step in (10, 20, 30):
        sink.log(step, {"losses/loss": 1.0})
    assert [step for step, _ in run.rows] == [20, 30]


def test_mlflow_gets_settings_as_parameters_and_rows_as_metrics(tmp_path, monkeypatch):
    calls = []

    class Client:
        def create_run(self, experiment, run_name):
            calls.append(("create", experiment, run_name))
            return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

        def log_param(self, *what):
            calls.append(("param", *what))

        def log_metric(self, *what, step):
            calls.append(("metric", *what, step))

        def set_terminated(self, run):
            calls.append(("end", run))

    experiment = SimpleNamespace(experiment_id="7")
    fake = SimpleNamespace(MlflowClient=Client, set_experiment=lambda name: experiment)
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    sink = trackers.MlflowSink(tmp_path / "run", {"seed": 1})
    sink.log(10, {"losses/loss": 0.5})
    sink.close()
    assert calls == [
        ("create", "7", "run"), ("param", "r1", "seed", 1), ("metric", "r1", "losses/loss", 0.5, 10), ("end", "r1"),
    ]  # fmt: skip
