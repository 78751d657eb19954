"""A run goes on from what it recorded, or says why it cannot; nothing recorded is cut or overwritten unasked."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import PPO, PQN, SMALL, assert_identical, final_state, tensors_of

from stablegrad import api
from stablegrad.agents.pqn import PQN as PQNAgent
from stablegrad.cli import main
from stablegrad.envs.episodes import EpisodicEnv
from stablegrad.errors import UserError
from stablegrad.runs import checkpoint, files, records
from stablegrad.runs.folder import RunFolder, RunLocked
from stablegrad.training import numerics
from stablegrad.training.loop import RunFailed, Training
from stablegrad.training.stop import StopRequest

CARTPOLE = {"env_id": "CartPole-v1", **PQN, "total_timesteps": 384, "checkpoint_every": 128}
FLAT = {"algo": "pqn", **SMALL, **CARTPOLE}


@pytest.fixture
def torn(run):
    """A run that was torn out of its loop at step 300: its checkpoints are of 256 and 128, its last row of 256."""
    folder = run("pqn", CARTPOLE, name="torn")
    for path in (folder.metrics, folder.episodes):
        kept = [line for line in path.read_text().splitlines(keepends=True) if json.loads(line)["step"] <= 340]
        path.write_text("".join(kept))
    shutil.rmtree(checkpoint.paths(folder.checkpoints)[0])
    folder.set_status("running", 256)
    assert [checkpoint.step_of(path) for path in checkpoint.paths(folder.checkpoints)] == [256]
    return folder


def damage(path: Path) -> None:
    (path / "state.json").write_text("{}")


def records_of(folder: RunFolder) -> dict[str, bytes]:
    return {name: (folder.path / name).read_bytes() for name in records.NAMES if (folder.path / name).exists()}


# Coming into being


def test_a_fork_that_is_killed_before_its_checkpoint_is_no_run(run, tmp_path, monkeypatch):
    source, new = run("pqn", CARTPOLE), tmp_path / "fork"
    fork = {"path": source.path, "changes": {"total_timesteps": 512}, "run_dir": new}
    save = checkpoint.save

    def killed(*given, **more):
        os._exit(9)

    child = os.fork()
    if child == 0:
        checkpoint.save = killed
        api.fork(**fork)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert checkpoint.save is save
    assert (new / "metrics.jsonl").exists()
    with pytest.raises(UserError, match="is not a run"):
        api.resume(new)
    assert api.fork(**fork).status["state"] == "done"
    before, after = (tensors_of(final_state(one)["agent"]["network"]) for one in (source, RunFolder(new)))
    assert any((before[name] != after[name]).any() for name in before)
    assert RunFolder(new).rows()[:6] == source.rows()


def test_as_it_was_a_killed_fork_would_go_on_from_random_weights(run, tmp_path):
    """The control: a folder that is a run before its checkpoint is there begins at step 0."""
    source = run("pqn", CARTPOLE)
    folder = RunFolder.create(tmp_path / "fork", source.config)
    training = Training(folder.config)
    training.attach(folder)
    training.close()
    assert training.step == 0


def test_of_two_starts_on_one_folder_one_wins_and_the_other_gets_one_error(tmp_path, monkeypatch, capsys):
    """The second begins while the first writes its first checkpoint."""
    second, losses = [], []
    save = checkpoint.save

    def start_another(*given, **more):
        if not second:
            second.append(main([*_words({**FLAT, "seed": 2}), "--run_dir", str(tmp_path / "run")]))
            losses.append(capsys.readouterr().err)
        return save(*given, **more)

    monkeypatch.setattr(checkpoint, "save", start_another)
    run = api.train(FLAT, run_dir=tmp_path / "run")
    assert second == [1]
    (said,) = losses
    assert said.count("error: ") == 1
    assert f"in use by process {os.getpid()}" in said
    assert run.config.run.seed == 1
    assert main([*_words({**FLAT, "seed": 2}), "--run_dir", str(run.path)]) == 2


def _words(flat: dict) -> list[str]:
    return [flat["algo"], "--quiet", *(f"--{name}={value}" for name, value in flat.items() if name != "algo")]


def test_a_start_that_the_disk_refuses_leaves_no_folder(tmp_path, monkeypatch):
    def full(path, data):
        raise files.DiskError(path, "written", OSError(errno.ENOSPC, ""))

    monkeypatch.setattr(files, "write_new", full)
    with pytest.raises(UserError, match="the disk is full"):
        api.train(FLAT, run_dir=tmp_path / "runs" / "run")
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_folder_with_a_run_s_records_but_no_config_is_not_written_over(run, tmp_path):
    folder = run("pqn", CARTPOLE)
    (folder.path / "config.json").rename(tmp_path / "config.json")
    before = records_of(folder)
    with pytest.raises(UserError, match=r"has manifest\.json, .*metrics\.jsonl.* but no config\.json"):
        api.train(FLAT, run_dir=folder.path)
    assert records_of(folder) == before


# Damage


@pytest.mark.parametrize("how", ["damaged", "deleted", "folder deleted"])
def test_without_a_valid_checkpoint_resume_refuses_and_changes_nothing(run, capsys, how):
    folder = run("pqn", CARTPOLE)
    folder.set_status("stopped", 384)
    for path in checkpoint.paths(folder.checkpoints):
        damage(path) if how == "damaged" else shutil.rmtree(path)
    if how == "folder deleted":
        folder.checkpoints.rmdir()
    before = records_of(folder)
    assert main(["resume", str(folder.path)]) == 2
    said = capsys.readouterr().err
    assert "has no valid checkpoint to go on from; it has metrics.jsonl, episodes.jsonl" in said
    assert "--start_over" in said
    assert ("step_000000000384: state.json is damaged" in said) is (how == "damaged")
    assert records_of(folder) == before


def test_starting_over_is_a_flag_and_moves_what_is_there_aside(run):
    folder = run("pqn", CARTPOLE)
    rows, before = folder.rows(), records_of(folder)
    newest, older = checkpoint.paths(folder.checkpoints)
    damage(newest)
    files.write_json(folder.path / "status.json", {"state": "stopped", "step": 384})
    with folder.lock():
        pass
    assert main(["resume", str(folder.path), "--start_over", "--quiet"]) == 0
    aside = folder.path / "superseded" / "step_000000000000"
    assert {name: (aside / name).read_bytes() for name in ("metrics.jsonl", "episodes.jsonl")} == {
        name: before[name] for name in ("metrics.jsonl", "episodes.jsonl")
    }
    assert [path.name for path in checkpoint.paths(aside / "checkpoints")] == [newest.name, older.name]
    again = [{k: v for k, v in row.items() if not k.startswith(("time/", "seconds"))} for row in folder.rows()]
    assert again == [{k: v for k, v in row.items() if not k.startswith(("time/", "seconds"))} for row in rows]
    assert main(["resume", str(folder.path), "--start_over", "--quiet"]) == 0
    assert sorted(path.name for path in aside.parent.iterdir()) == ["step_000000000000", "step_000000000000.2"]


def test_a_run_that_goes_on_keeps_what_it_recorded_after_its_checkpoint(run, torn):
    later = [line for line in torn.metrics.read_text().splitlines(keepends=True) if json.loads(line)["step"] > 256]
    assert later
    assert api.resume(torn.path).status["state"] == "done"
    assert_identical(torn, run("pqn", CARTPOLE, name="whole"))
    assert (torn.path / "superseded/step_000000000256/metrics.jsonl").read_text() == "".join(later)
    steps = [row["step"] for row in torn.rows()]
    assert steps == sorted(set(steps))


def test_a_damaged_checkpoint_is_moved_aside_with_the_lines_after_the_one_before(run):
    folder = run("pqn", CARTPOLE)
    whole = final_state(folder)
    newest, _ = checkpoint.paths(folder.checkpoints)
    damage(newest)
    folder.set_status("stopped", 384)
    api.resume(folder.path)
    aside = folder.path / "superseded/step_000000000256"
    assert [path.name for path in (aside / "checkpoints").iterdir()] == ["step_000000000384"]
    assert [row["step"] for row in files.read_lines(aside / "metrics.jsonl")] == [320, 384]
    for name, value in tensors_of(whole["agent"]).items():
        assert (tensors_of(final_state(folder)["agent"])[name] == value).all()


def test_as_it_was_damaged_checkpoints_ahead_would_push_out_the_valid_ones(tmp_path):
    """Two damaged ones of later steps, two kept: what is saved after falling back to step 1 has to stay."""
    for step in (1, 8, 9):
        checkpoint.save(tmp_path, step, {"w": torch.ones(1)}, keep=3)
    for path in checkpoint.paths(tmp_path)[:2]:
        damage(path)
    checkpoint.save(tmp_path, 2, {"w": torch.zeros(1)}, keep=2)
    kept = [checkpoint.step_of(path) for path in checkpoint.paths(tmp_path)]
    assert kept == [9, 8, 2, 1]
    assert kept[:2] != [2, 1], "the control: the two newest by name are the damaged ones"


@pytest.mark.parametrize(
    ("name", "how", "words"),
    [
        ("metrics.jsonl", "deleted", "metrics.jsonl is not there, and the checkpoint counts"),
        ("metrics.jsonl", "short", "metrics.jsonl has 100 bytes, and the checkpoint counts"),
        ("episodes.jsonl", "deleted", "episodes.jsonl is not there"),
        ("metrics.jsonl", "another", "metrics.jsonl is not the file that the checkpoint counts"),
        ("metrics.jsonl", "link", "metrics.jsonl is a link, and a run touches nothing outside its folder"),
    ],
)
def test_missing_rows_are_said_and_never_made_up(run, tmp_path, capsys, name, how, words):
    folder = run("pqn", CARTPOLE, stops=(50,))
    folder.set_status("stopped", folder.status["step"])
    path, elsewhere = folder.path / name, tmp_path / "elsewhere"
    text = path.read_bytes()
    match how:
        case "deleted":
            path.unlink()
        case "short":
            path.write_bytes(text[:100])
        case "another":
            path.write_bytes(text.replace(b"\n", b" "))
        case "link":
            path.rename(elsewhere)
            path.symlink_to(elsewhere)
    before = records_of(folder)
    assert main(["resume", str(folder.path)]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "--accept_missing_rows" in said
    assert records_of(folder) == before
    accepted = main(["resume", str(folder.path), "--accept_missing_rows", "--quiet"])
    assert accepted == (1 if how == "link" else 0)
    if how == "link":
        assert elsewhere.read_bytes() == text
    else:
        assert b"\0" not in path.read_bytes()
        assert [line for line in path.read_bytes().splitlines() if not line.startswith(b"{")] == []


def test_as_it_was_a_cut_beyond_the_end_would_fill_a_file_with_zeros(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b"{}\n")
    files.cut(tmp_path / "metrics.jsonl", 8)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"{}\n\0\0\0\0\0"


def test_what_eval_recorded_stays_when_a_run_goes_on(torn):
    """The run's own lines after the checkpoint are moved aside and made again, those of eval are nobody's to move."""
    with torn.evaluations.open("a") as file:
        file.write('{"step": 300, "scores": [1.0]}\n{"step": 256, "scores": [2.0], "by": "eval"}\n{"torn')
    api.load_run(torn.path).evaluate(episodes=1, seed=0)
    assert len(list(files.read_lines(torn.evaluations))) == 3
    api.resume(torn.path)
    left = list(files.read_lines(torn.evaluations))
    assert [(line["step"], line.get("by")) for line in left] == [(256, "eval"), (256, "eval")]
    moved = list(files.read_lines(torn.path / "superseded/step_000000000256/evaluations.jsonl"))
    assert [line["step"] for line in moved] == [300, 256, 256]


# Writes that fail


def _failing(monkeypatch, name: str, number: int, *, at_step: int) -> None:
    """From a step on every line that is added to a file of this name meets this error."""
    append = files.append

    def fail(handle, path, data):
        if path.name == name and json.loads(data)["step"] >= at_step:
            raise files.DiskError(path, "written", OSError(number, os.strerror(number)))
        append(handle, path, data)

    monkeypatch.setattr(files, "append", fail)


@pytest.mark.parametrize("name", ["metrics.jsonl", "episodes.jsonl", "evaluations.jsonl"])
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EACCES, "permission denied"),
    ],
)
def test_a_line_that_the_disk_does_not_take_ends_training_with_one_error(run, tmp_path, capsys, name, number, words):
    settings = {**FLAT, "eval_every": 64, "eval_episodes": 1, "eval_max_episode_steps": 5}
    path = tmp_path / "full"
    with pytest.MonkeyPatch.context() as patch:
        _failing(patch, name, number, at_step=200)
        assert main([*_words(settings), "--run_dir", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.count("error: ") == 1
    assert f"{name} cannot be written: {words}; mend that, then `stablegrad resume {path}`" in said
    folder = RunFolder(path)
    assert folder.status["state"] == "failed"
    assert words in folder.status["reason"]
    assert [checkpoint.step_of(saved) for saved in checkpoint.paths(folder.checkpoints)] == [128, 0]
    api.resume(path)
    assert_identical(folder, run("pqn", {k: v for k, v in settings.items() if k != "algo"}, name="whole"))
    steps = [row["step"] for row in folder.rows()]
    assert steps == [64, 128, 192, 256, 320, 384]


def test_a_run_whose_end_nobody_could_record_does_not_count_as_running(tmp_path, monkeypatch, capsys):
    """Even the status finds no room: nobody holds the folder, so the run is not running."""
    write_json, step = files.write_json, [0]

    def full(path, value):
        if path.name == "status.json" and value["state"] != "created" and step[0]:
            raise files.DiskError(path, "written", OSError(errno.ENOSPC, ""))
        step[0] += value.get("state") == "running"
        write_json(path, value)

    monkeypatch.setattr("stablegrad.runs.folder.write_json", full)
    assert main([*_words(FLAT), "--run_dir", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err.count("error: ") == 1
    assert json.loads((tmp_path / "run/status.json").read_text())["state"] == "running"
    assert RunFolder(tmp_path / "run").status == {
        **RunFolder(tmp_path / "run").status,
        "state": "stopped",
        "reason": "its process is gone without a word: killed, or the machine went down",
    }


def test_an_error_in_somebody_s_code_leaves_a_status_that_says_so(run, monkeypatch):
    def broken(*given):
        raise ZeroDivisionError("somebody's mistake")

    monkeypatch.setattr(PQNAgent, "loss", broken)
    with pytest.raises(ZeroDivisionError):
        run("pqn", CARTPOLE)
    status = RunFolder.open(run.made[0]).status
    assert (status["state"], status["reason"]) == ("failed", "somebody's mistake")


# Other ends


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"], ids=["discrete", "continuous"])
def test_an_observation_that_is_nan_is_one_error_in_ppo_too(run, monkeypatch, env_id):
    step = EpisodicEnv.step

    def spoilt(envs, actions):
        result = step(envs, actions)
        envs.obs = envs.obs * np.nan
        return result

    monkeypatch.setattr(EpisodicEnv, "step", spoilt)
    with pytest.raises(
        RunFailed, match=r"at step 4, update 1: the policy is not finite: an observation.* are in .*fail"
    ):
        run("ppo", {"env_id": env_id, **PPO, "total_timesteps": 64})
    folder = RunFolder.open(run.made[0])
    assert folder.status["state"] == "failed"
    failure = checkpoint.load(checkpoint.paths(folder.path / "failure")[0])
    assert torch.isnan(failure["batch"]["obs"]).all()


def test_a_terminal_that_is_closed_is_a_request_to_stop(tmp_path):
    """SIGHUP, as a session's leader gets it when its terminal goes away, its output with it."""
    leader, follower = os.openpty()
    words = [*_words({**FLAT, "total_timesteps": 10**6, "log_every": 64}), "--run_dir", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-m", "stablegrad", *words],
        stdin=follower, stdout=follower, stderr=follower, start_new_session=True, preexec_fn=_own_terminal,
    )  # fmt: skip
    os.close(follower)
    folder = RunFolder(tmp_path / "run")
    deadline = time.monotonic() + 200
    while not (folder.is_run and folder.rows()) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.close(leader)
    assert process.wait(60) == 75
    assert folder.status["state"] == "stopped"
    assert folder.status["step"] == checkpoint.step_of(checkpoint.paths(folder.checkpoints)[0]) > 0


def _own_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize(("before", "after"), [(signal.SIG_DFL, False), (signal.SIG_IGN, True)])
def test_a_run_under_nohup_outlives_its_terminal(before, after):
    own = signal.signal(signal.SIGHUP, before)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert bool(stop) is not after
    finally:
        signal.signal(signal.SIGHUP, own)


# What cannot be exact


def test_resume_says_where_it_cannot_be_exact(run, monkeypatch, caplog):
    folder = run("pqn", CARTPOLE, stops=(50,))
    folder.set_status("stopped", 200)
    shutil.rmtree(checkpoint.paths(folder.checkpoints)[0])
    now = numerics.here("cpu")
    for name, value in (("torch", "1.0"), ("cpu", "another"), ("threads", 7), ("instructions", "NO AVX")):
        monkeypatch.setattr(numerics, "here", lambda device, name=name, value=value: {**now, name: value})
        caplog.clear()
        training = Training(folder.config)
        training.attach(folder)
        training.close()
        shown = {"cpu": "processor", "instructions": "instruction set"}.get(name, name)
        assert f"goes on with {shown} {value} (was {now[name]}): its last bits may differ" in caplog.text
    monkeypatch.setattr(numerics, "here", lambda device: now)
    caplog.clear()
    assert api.resume(folder.path).status["state"] == "done"
    assert "last bits" not in caplog.text


def test_a_checkpoint_of_the_first_format_is_compared_with_the_run_s_manifest(run, caplog):
    folder = run("pqn", CARTPOLE, stops=(50,))
    folder.set_status("stopped", 200)
    for path in checkpoint.paths(folder.checkpoints):
        as_format_1(path)
    manifest = json.loads((folder.path / "manifest.json").read_text())
    files.write_json(folder.path / "manifest.json", {**manifest, "torch": "0.9"})
    shutil.rmtree(checkpoint.paths(folder.checkpoints)[0])
    assert api.resume(folder.path).status["state"] == "done"
    assert f"goes on with torch {torch.__version__.partition('+')[0]}" in caplog.text
    assert "(was 0.9)" in caplog.text
    assert_identical(folder, run("pqn", CARTPOLE, name="whole"))


def as_format_1(path: Path) -> None:
    """A checkpoint as versions before wrote it."""
    manifest = json.loads((path / "manifest.json").read_text())
    old = {name: value for name, value in manifest.items() if name not in ("sha256", "made_under")}
    (path / "manifest.json").write_text(json.dumps({**old, "format": 1}, indent=2))


def test_the_lock_is_waited_for_as_long_as_a_look_takes(run):
    """Whoever asks who is at work holds the lock for an instant: no reason to refuse a run."""
    folder = run("pqn", CARTPOLE)
    looks = [folder.status["state"] for _ in range(3)]
    assert looks == ["done"] * 3
    with folder.lock(), pytest.raises(RunLocked), RunFolder(folder.path).lock():
        pass
