"""Whatever fails, ends or loses its power, nothing is lost: some of what `benchmarks/reliability.py` does in full.

docs/reliability.md says how many injections there are.
"""

import contextlib
from pathlib import Path

import crowd
import pytest
from faulty_disk import Failing, in_place
from injections import Injection, PowerCut, Workplace, drawn, killed_for_real
from scenes import SCENES, start

from stablegrad.runs import files
from stablegrad.runs.folder import RunFolder

QUICK = [name for name in SCENES if name != "report"]
"""A report takes a second of processor time."""


@pytest.mark.parametrize("scene", QUICK)
def test_whatever_operation_fails_or_is_the_last_nothing_is_lost(work: Workplace, scene: str) -> None:
    for injection in drawn(list(work.injections(scene)), 6, seed=1):
        work.inject(injection)


@pytest.mark.parametrize("scene", [scene for scene in QUICK if SCENES[scene].trains])
def test_whenever_the_power_goes_nothing_is_lost(work: Workplace, scene: str) -> None:
    for cut in drawn(list(work.power_cuts(scene, seeds=2)), 6, seed=2):
        work.cut_power(cut)
    whole = len(work.noted(scene).events)
    work.cut_power(PowerCut(scene, whole, "nothing", 0))


def test_a_report_that_the_disk_does_not_take_leaves_the_run_alone(work: Workplace) -> None:
    writes = [at for at, name in enumerate(work.operations("report"), 1) if name == "replace"]
    work.inject(Injection("report", writes[-1], "ENOSPC"))


@pytest.mark.parametrize("scene", ["start", "fork"])
def test_a_process_that_the_system_kills_is_no_different(work: Workplace, scene: str) -> None:
    writes = [at for at, name in enumerate(work.operations(scene), 1) if name == "write"]
    killed_for_real(work, Injection(scene, drawn(writes, 1, seed=3)[0], "kill midway"))


@pytest.mark.parametrize("round_", crowd.rounds(8)[4:], ids=lambda round_: round_.kind)
def test_processes_at_once_on_one_folder_leave_one_run(work: Workplace, tmp_path: Path, round_: crowd.Round) -> None:
    crowd.play(round_, tmp_path / "round", work.runs)


# The controls: what these tests look for is seen.


def test_a_folder_that_is_not_synced_would_be_seen(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the machine comes up with a run that said it was done and is not there: kill -9 cannot show that."""
    monkeypatch.setattr(files, "sync", lambda path: None)
    work.forget("start")
    with pytest.raises(AssertionError, match="what the command said was done is not"):
        work.cut_power(PowerCut("start", len(work.noted("start").events), "nothing", 0))
    work.forget("start")


def test_a_file_that_is_not_synced_would_be_seen(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names may be on the disk before what they name: a checkpoint of empty files, which is damaged."""

    def unsynced(path: Path, data: bytes) -> None:
        handle = files.os.open(path, files.os.O_WRONLY | files.os.O_CREAT)
        files.os.write(handle, data)
        files.os.close(handle)

    monkeypatch.setattr(files, "write_new", unsynced)
    work.forget("start")
    with pytest.raises(AssertionError):
        work.cut_power(PowerCut("start", len(work.noted("start").events), "names", 0))
    work.forget("start")


def test_a_fork_that_is_a_run_before_it_has_a_checkpoint_would_be_seen(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was: killed after its config.json and before its checkpoint, it went on from random weights."""
    begin = RunFolder._begin

    def begin_as_a_run(folder: RunFolder, config: object) -> None:
        begin(folder, config)  # type: ignore[arg-type]
        folder.publish()

    monkeypatch.setattr(RunFolder, "_begin", begin_as_a_run)
    place = work.place("fork")
    with in_place(Failing(10**9, 0)) as disk:
        SCENES["fork"].act(place)
    folders = [at for at, name in enumerate(disk.names, 1) if name == "mkdir"]  # the run's, checkpoints/, the first
    with pytest.raises(AssertionError):
        work.inject(Injection("fork", folders[2], "kill"))


def test_a_line_that_is_lost_in_silence_would_be_seen(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    append = files.append

    def heedless(handle: int, path: Path, data: bytes) -> None:
        with contextlib.suppress(OSError):
            append(handle, path, data)

    place = work.place("start")
    with in_place(Failing(10**9, 0)) as disk:
        start(place / "run")
    rows = [at for at, name in enumerate(disk.names, 1) if name == "write"]
    monkeypatch.setattr(files, "append", heedless)
    spoilt = [at for at in rows if not _holds(work, Injection("start", at, "ENOSPC"))]
    assert spoilt


def _holds(work: Workplace, injection: Injection) -> bool:
    try:
        work.inject(injection)
    except AssertionError:
        return False
    return True


@pytest.mark.evidence
@pytest.mark.parametrize("scene", SCENES)
def test_all_injections(work: Workplace, scene: str) -> None:
    for injection in work.injections(scene):
        work.inject(injection)


@pytest.mark.evidence
@pytest.mark.parametrize("scene", [scene for scene in QUICK if SCENES[scene].trains])
def test_all_power_cuts(work: Workplace, scene: str) -> None:
    for cut in work.power_cuts(scene, seeds=2):
        work.cut_power(cut)


@pytest.mark.evidence
def test_a_hundred_crowds(work: Workplace, tmp_path: Path) -> None:
    for number, round_ in enumerate(crowd.rounds(100)):
        crowd.play(round_, tmp_path / str(number), work.runs)


@pytest.mark.evidence
@pytest.mark.parametrize("scene", QUICK)
def test_more_processes_that_the_system_kills(work: Workplace, scene: str) -> None:
    for at in drawn(list(range(1, len(work.operations(scene)) + 1)), 10, seed=4):
        killed_for_real(work, Injection(scene, at, "kill midway"))
