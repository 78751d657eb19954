"""What goes wrong: NaN, a full disk, two processes on one folder, signals, kill -9."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_runs import DQN, PPO, PQN, RAINBOW, SMALL, assert_identical, final_state, never, tensors_of

from stablegrad import api
from stablegrad.agents.dqn import DQN as DQNAgent
from stablegrad.agents.pqn import PQN as PQNAgent
from stablegrad.cli import main
from stablegrad.errors import UserError
from stablegrad.runs import checkpoint, files
from stablegrad.runs.config import RunConfig
from stablegrad.runs.folder import RunFolder, RunLocked
from stablegrad.training.loop import RunFailed, Training

CARTPOLE = {"env_id": "CartPole-v1", **PQN, "total_timesteps": 384}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_layer(run, monkeypatch, value):
    original = PQNAgent.loss
    updates = iter(range(1, 10**6))
    before_fifth = {}

    def loss(self, params, batch, generator):
        output = original(self, params, batch, generator)
        if next(updates) != 5:
            return output
        before_fifth.update({name: p.detach().clone() for name, p in params["q"].items()})
        return output._replace(loss=output.loss + value * params["q"]["head.weight"].sum())

    monkeypatch.setattr(PQNAgent, "loss", loss)
    with pytest.raises(RunFailed, match=r"update 5: .*q\.head\.weight"):
        run("pqn", CARTPOLE, name="run")
    folder = RunFolder.open(next(Path(p) for p in run.made if p.name == "run"))
    assert folder.status["state"] == "failed"
    assert "head.weight" in folder.status["reason"]
    failure = checkpoint.load(checkpoint.paths(folder.path / "failure")[0])
    assert failure["batch"]["obs"].shape == (16, 4)
    for name, parameter in before_fifth.items():  # untouched by the update that failed
        assert (failure["groups"]["q"][name] == parameter).all()


def test_what_a_failure_leaves_is_enough_to_see_it_again_and_has_no_replay(run, monkeypatch):
    original = DQNAgent.loss
    monkeypatch.setattr(DQNAgent, "loss", lambda *given: _spoilt(original(*given)))
    with pytest.raises(RunFailed, match=r"the loss is nan.* are in .*failure"):
        run("dqn", {"env_id": "CartPole-v1", **DQN, "total_timesteps": 128})
    failure = checkpoint.load(checkpoint.paths(run.made[0] / "failure")[0])
    assert set(failure) == {"reason", "batch", "groups", "learner"}
    assert failure["batch"]["next_obs"].shape == (8, 4)
    assert not any("segment" in path.name for path in (run.made[0] / "failure").rglob("*"))


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_nan_on_a_full_disk_is_told_as_nan(run, monkeypatch, caplog, status):
    """Whether or not the disk still takes a status of a hundred bytes: a run that nobody works on is not running."""
    loss, set_status = PQNAgent.loss, RunFolder.set_status

    def unless_failed(folder, state, *given, **more):
        (full if state == "failed" else set_status)(folder, state, *given, **more)

    monkeypatch.setattr(PQNAgent, "loss", lambda *given: _spoilt(loss(*given)))
    full_where(monkeypatch, lambda path: "failure" in path.parts)
    if status == "stopped":
        monkeypatch.setattr(RunFolder, "set_status", unless_failed)
    with pytest.raises(RunFailed, match=r"update 1: the loss is nan.*could not be written \(the disk is full\)"):
        run("pqn", CARTPOLE)
    assert RunFolder.open(run.made[0]).status["state"] == status
    assert "failure not written (the disk is full)" in caplog.text


def _spoilt(output):
    return output._replace(loss=output.loss * float("nan"))


def full(*args, **kwargs):
    raise files.DiskError(Path("status.json"), "written", OSError(errno.ENOSPC, "No space left on device"))


def full_where(monkeypatch, there):
    """Let the disk be full for the files of checkpoints whose path `there` says."""
    write_new = files.write_new

    def write(path, data):
        if there(path):
            raise files.DiskError(path, "written", OSError(errno.ENOSPC, "No space left on device"))
        write_new(path, data)

    monkeypatch.setattr(files, "write_new", write)


@pytest.mark.parametrize(("steps", "said"), [(28, True), (32, False)])  # a rollout is 32 steps
def test_a_run_too_short_for_an_update_says_so(run, caplog, steps, said):
    assert run("pqn", {**CARTPOLE, "total_timesteps": steps}).status["state"] == "done"
    assert ("28 steps were too few for a single update" in caplog.text) is said


@pytest.mark.parametrize(
    ("algo", "settings", "said"),
    [
        ("pqn", {"total_timesteps": 1000}, "less than one rollout (num_envs * num_steps = 4,096): no update"),
        ("pqn", {"total_timesteps": 4096}, None),
        ("pqn", {"total_timesteps": 6000}, "the last 1,920 of 6,016 steps will be played and not learned from"),
        ("pqn", {"total_timesteps": 10_000_000}, None),  # 1,664 of 10 million
        ("ppo", {"total_timesteps": 900}, "num_steps = 1,024): no update"),
        ("ppo", {"total_timesteps": 2048}, None),
        ("dqn", {"total_timesteps": 5000}, "ends before the first update, at step 80,004 (--learning_starts 80,000)"),
        ("rainbow", {"total_timesteps": 80_003}, "ends before the first update, at step 80,004"),
        ("rainbow", {"total_timesteps": 80_004}, None),
    ],
)  # fmt: skip
def test_what_a_budget_does_not_suffice_for_is_told(algo, settings, said):
    remarks = RunConfig.resolve(algo, {"env_id": "CartPole-v1", **settings}).remarks()
    assert remarks == [] if said is None else said in remarks[0]


@pytest.mark.parametrize("steps", [28, 60])
def test_it_is_told_before_the_first_step(run, caplog, steps):
    """28 steps are less than a rollout of 32; of 60, the last 28 fill none. The latter was told nowhere."""

    class First:
        told = None

        def on_progress(self, step, total):
            self.told = caplog.text if self.told is None else self.told

        def on_row(self, row):
            pass

        def close(self):
            pass

    watcher = First()
    folder = run("pqn", {**CARTPOLE, "total_timesteps": steps}, observers=[watcher])
    assert ("no update will be made" if steps == 28 else "the last 28 of 60 steps") in watcher.told
    assert final_state(folder)["learner"]["updates"] == (0 if steps == 28 else 4)


def test_a_full_disk_in_the_middle_keeps_the_checkpoint_before_and_goes_on(run, monkeypatch):
    full_where(monkeypatch, lambda path: "000256" in path.parent.name)
    folder = run("pqn", {**CARTPOLE, "checkpoint_every": 128})
    assert folder.status["state"] == "done"
    steps = [int(path.name.removeprefix("step_")) for path in checkpoint.paths(folder.checkpoints)]
    assert steps == [384, 128]  # the one at 256 found no room
    assert not list(folder.checkpoints.glob(".step_*"))


def test_a_disk_that_stays_full_fails_in_words_and_resumes_later(run, monkeypatch):
    with monkeypatch.context() as patch:
        full_where(patch, lambda path: "000384" in path.parent.name)
        with pytest.raises(RunFailed, match=r"disk is full.*stablegrad resume"):
            run("pqn", CARTPOLE, name="full")
    folder = RunFolder.open(next(p for p in run.made if p.name == "full"))
    assert folder.status["state"] == "failed"
    training = Training(folder.config)
    training.attach(folder)
    assert training.run(False) == "done"
    training.close()
    assert_identical(folder, run("pqn", CARTPOLE, name="whole"))


def test_no_room_at_the_start_is_a_usage_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1_000_000})())
    assert main(["pqn", "--env_id", "CartPole-v1", "--run_dir", str(tmp_path / "run")]) == 2
    assert "1 MB are free" in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(("free", "code"), [(0.25e9, 2), (0.35e9, 0)])
def test_room_for_a_checkpoint_counts_the_replay(tmp_path, monkeypatch, capsys, free, code):
    """Ten thousand observations of 10,000 bytes are 0.1 GB, and spare ones, beside the 0.2 GB for any run."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": int(free)})())
    monkeypatch.setattr(Training, "run", lambda training, stop: "done")
    (tmp_path / "wide.py").write_text(_WIDE)
    command = f"dqn --env_id {tmp_path}/wide.py:make --buffer_size 10000 --total_timesteps 20000 --quiet"
    assert main([*command.split(), "--run_dir", str(tmp_path / "run")]) == code
    assert (tmp_path / "run").exists() == (code == 0)
    if code:
        assert re.search(r"250 MB are free .* may take 3[01]\d MB", capsys.readouterr().err)


_WIDE = """
import gymnasium, numpy

class Wide(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2500,), numpy.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return numpy.zeros(2500, numpy.float32), {}

make = Wide
"""


def test_the_second_process_on_a_folder_is_refused_and_a_dead_one_holds_nothing(tmp_path):
    folder = RunFolder.create(tmp_path / "run", RunConfig.resolve("pqn", {**SMALL, **CARTPOLE}))
    holder = subprocess.Popen([sys.executable, "-c", _HOLD, str(folder.path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    try:
        with pytest.raises(RunLocked, match=f"process {holder.pid}"), folder.lock():
            pass
        assert main(["resume", str(folder.path)]) == 1
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with folder.lock():
        pass


_HOLD = """
import sys, time
from pathlib import Path
from stablegrad.runs.folder import RunFolder
with RunFolder.open(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_checkpoint_of_another_config_is_refused_with_the_differences(run):
    folder = run("pqn", CARTPOLE)
    other = RunConfig.resolve("pqn", {**SMALL, **CARTPOLE, "gamma": 0.5})
    training = Training(other)
    try:
        with pytest.raises(UserError, match=r"--gamma: the checkpoint has 0\.99, the run's config 0\.5"):
            training.attach(folder)
    finally:
        training.close()


def _start(folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "stablegrad", "resume", str(folder), "--quiet"])


def _wait_for_step(process: "subprocess.Popen[bytes]", folder: RunFolder, step: int) -> None:
    while not any(row["step"] >= step for row in folder.rows()):
        assert process.poll() is None, "it ended before"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody stops, of seconds: long enough for a signal to meet its like in the middle."""
    settings = {**CARTPOLE, "total_timesteps": 5120, "checkpoint_every": 640, "optimizer": "kron"}
    config = RunConfig.resolve("pqn", {**SMALL, **settings})
    folder = RunFolder.create(tmp_path_factory.mktemp("unbroken") / "whole", config)
    training = Training(config)
    training.attach(folder)
    training.run(never())
    training.close()
    return folder


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_or_stopped_by_a_signal_and_resumed_is_bit_identical(whole, tmp_path, number):
    folder = RunFolder.create(tmp_path / "killed", whole.config)
    process = _start(folder.path)
    _wait_for_step(process, folder, 1280)
    process.send_signal(number)
    code = process.wait()
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 75)
    stopped = int(checkpoint.paths(folder.checkpoints)[0].name.removeprefix("step_"))
    assert 0 < stopped < 5120
    if number != signal.SIGKILL:
        assert folder.status["state"] == "stopped"
        assert folder.status["step"] == stopped
    assert _start(folder.path).wait() == 0
    assert_identical(whole, folder)
    steps = [row["step"] for row in folder.rows()]
    assert steps == [row["step"] for row in whole.rows()]


def test_an_observer_that_raises_is_dropped_and_the_run_goes_on(run):
    class Broken:
        calls = 0

        def on_row(self, row):
            type(self).calls += 1
            raise RuntimeError("a tracker's server is down")

        def on_progress(self, step, total):
            pass

        def close(self):
            pass

    folder = run("pqn", CARTPOLE, observers=[Broken()])
    assert folder.status["state"] == "done"
    assert Broken.calls == 1


def test_a_fork_starts_from_the_checkpoint_with_the_change(run, tmp_path):
    source = run("pqn", CARTPOLE)
    forked = api.fork(
        source.path,
        {"total_timesteps": 512, "learning_rate": 1e-9, "gamma": 0.9},
        run_dir=tmp_path / "fork",
    )
    assert forked.status == {**forked.status, "state": "done", "step": 512}
    assert forked.config.agent.gamma == 0.9
    before = tensors_of(final_state(source)["agent"]["network"])
    after = tensors_of(final_state(forked.folder)["agent"]["network"])
    for name, value in before.items():  # four updates at a rate of 1e-9 leave the parameters where they were
        assert (after[name] - value).abs().max() < 1e-6
    assert [row["step"] for row in forked.metrics][-1] == 512


@pytest.mark.parametrize(
    ("algo", "settings", "changes", "discounts"),
    [
        ("dqn", DQN, {}, {0.0, 0.99}),  # the control: nothing changed
        ("dqn", DQN, {"gamma": 0.5}, {0.0, 0.5}),
        ("rainbow", RAINBOW, {"gamma": 0.5, "n_step": 2}, {0.0, 0.25}),
    ],
)
def test_a_forked_replay_folds_returns_as_the_changed_settings_say(run, tmp_path, algo, settings, changes, discounts):
    """What is left of an episode is shorter than n steps only behind a time-out: CartPole has none so early."""
    source = run(algo, {"env_id": "CartPole-v1", **settings, "total_timesteps": 256})
    forked = api.fork(source.path, {"total_timesteps": 320, **changes}, run_dir=tmp_path / "fork")
    seen = forked.agent().experience.sample(400)["discounts"].unique().tolist()
    assert seen == pytest.approx(sorted(discounts))


@pytest.mark.parametrize(
    ("algo", "settings", "changes", "words"),
    [
        ("dqn", DQN, "--buffer_size 240", "--buffer_size 240: the saved replay is of 120 transitions"),
        ("dqn", DQN, "--num_envs 2", "--num_envs 2: the saved replay is of 120 transitions from 4 environments"),
        ("dqn", DQN, "--buffer_size 2", "--buffer_size 2: 4 environments"),
        ("dqn", DQN, "--optimizer sgd", "--optimizer sgd: the checkpoint has the state of an optimizer with adam"),
        ("pqn", PQN, "--num_envs 8 --end_e 0.2", "--num_envs 8, --end_e 0.2: the saved state is of 4 environments"),
        (
            "pqn",
            PQN,
            "--mlp_width 32",
            "--mlp_width 32: its network trunk.0.linear.weight has the shape [16, 4], where [32",
        ),
        ("ppo", PPO, "--normalize_obs true", "--normalize_obs True: there are no statistics to normalise observations"),
    ],
)
def test_a_fork_that_cannot_fit_is_one_error_and_no_folder(run, tmp_path, capsys, algo, settings, changes, words):
    source = run(algo, {"env_id": "CartPole-v1", **settings, "total_timesteps": 160})
    assert main(["fork", str(source.path), "--run_dir", str(tmp_path / "fork"), "--quiet", *changes.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert not (tmp_path / "fork").exists()


@pytest.mark.parametrize(
    ("optimizer", "changes"),
    [("adamw", {"optimizer_eps": 0.5, "weight_decay": 0.25}), ("kron", {"update_probability": 0.5})],
)
def test_a_forked_optimizer_has_the_changed_settings_and_its_state(run, tmp_path, optimizer, changes):
    source = run("pqn", {**CARTPOLE, "optimizer": optimizer})
    forked = api.fork(source.path, {"total_timesteps": 416, **changes}, run_dir=tmp_path / "fork")
    found = final_state(forked.folder)["learner"]["optimizers"]["q"]
    group = found["param_groups"][0]
    assert {name: group[name.removeprefix("optimizer_")] for name in changes} == changes
    assert {int(state["step"]) for state in found["state"].values()} == {forked.metrics[-1]["update"]}


def test_the_folder_of_a_run_is_not_used_twice(run, tmp_path, capsys):
    folder = run("pqn", CARTPOLE)
    assert main(["pqn", "--env_id", "CartPole-v1", "--run_dir", str(folder.path)]) == 2
    assert "stablegrad resume" in capsys.readouterr().err
    assert os.path.exists(folder.path / "checkpoints")
