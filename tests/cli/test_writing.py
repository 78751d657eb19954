"""What is to be written is tried before the work for it, and a folder that cannot be written is said to be one."""

import errno
import io
import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stablegrad import api
from stablegrad import run as run_module
from stablegrad.cli import main
from stablegrad.reports import report
from stablegrad.sweeps import file as sweep_file

_LINE = "--env_id CartPole-v1 --num_envs 2 --num_steps 8 --num_minibatches 2 --mlp_width 8 --threads 1"
SMALL = [*_LINE.split(), "--total_timesteps", "64", "--diagnostics", "off"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("writing") / "run"
    assert main(["pqn", *SMALL, "--log_every", "16", "--quiet", "--run_dir", str(folder)]) == 0
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def work(*args: Any, **options: Any) -> None:
    raise AssertionError("the work began")


@pytest.mark.parametrize(
    ("line", "target"),
    [
        (["report", "RUN", "--out"], "x" * 300),
        (["report", "RUN", "--out"], "file/page.html"),
        (["report", "RUN", "--out"], "/dev/null"),
        (["report", "RUN", "--out"], f"{'x' * 250}.html"),  # and its figures in a folder of a longer name
        (["bench", "pqn", *SMALL, "--json"], "x" * 300),
        (["bench", "pqn", *SMALL, "--json"], "folder"),
        (["bench", "pqn", *SMALL, "--json"], "file/x.json"),
        (["eval", "RUN", "--video"], f"{'x' * 300}.gif"),
        (["eval", "RUN", "--video"], "nowhere/x.gif"),
    ],
)
def test_what_is_to_be_written_is_tried_before_the_work(run, tmp_path, monkeypatch, capsys, line, target):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    monkeypatch.setattr(report, "load_runs", work)
    monkeypatch.setattr(api, "train", work)
    monkeypatch.setattr(run_module, "evaluate", work)
    line = [str(run) if part == "RUN" else part for part in line]
    assert main([*line, target]) == 2
    assert capsys.readouterr().err.count("error: ") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize(
    ("line", "target"),
    [
        (["report", "RUN", "--out"], "new/page.html"),
        (["bench", "pqn", *SMALL, "--json"], "new.json"),
        (["eval", "RUN", "--video"], "new.gif"),
    ],
)
def test_the_work_begins_where_it_can_be_written(run, tmp_path, monkeypatch, line, target):
    """The negative control."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "load_runs", work)
    monkeypatch.setattr(api, "train", work)
    monkeypatch.setattr(run_module, "evaluate", work)
    with pytest.raises(AssertionError, match="the work began"):
        main([*(str(run) if part == "RUN" else part for part in line), target])


@pytest.fixture
def read_only(run, monkeypatch) -> Path:
    """The run's folder on a disk that takes nothing; whoever the tests run as, permissions would not do it for root."""

    def guard(function: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
        def guarded(path: Any, *args: Any, **options: Any) -> Any:
            inside = isinstance(path, str | os.PathLike) and Path(path).absolute().is_relative_to(run)
            if inside and writes(*args, **options):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return function(path, *args, **options)

        return guarded

    changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | getattr(os, "O_TMPFILE", 0)
    monkeypatch.setattr(os, "open", guard(os.open, lambda flags, *rest, **options: bool(flags & changing)))
    monkeypatch.setattr(io, "open", guard(io.open, lambda mode="r", *rest, **options: bool(set(mode) & set("wax+"))))
    for name in ("mkdir", "rename", "replace", "unlink"):
        monkeypatch.setattr(os, name, guard(getattr(os, name), lambda *rest, **options: True))
    return run


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        (["doctor", "RUN", "--json"], {0}),
        (["watch", "RUN", "--once"], {0}),
        (["fork", "RUN", "--run_dir", "new", "--total_timesteps", "96", "--quiet"], {0}),
        (["eval", "RUN", "--episodes", "1"], {0, 2}),  # where it is recorded, that cannot be
        (["report", "RUN", "--no_files", "--out", "page"], {0}),
        (["report", "RUN"], {2}),
        (["resume", "RUN", "--quiet"], {1, 2}),
    ],
)
def test_a_disk_that_takes_nothing_is_read_from_or_said(run, tmp_path, monkeypatch, capsys, request, line, codes):
    monkeypatch.chdir(tmp_path)
    if line[0] == "resume":
        status = json.loads((run / "status.json").read_text())
        (run / "status.json").write_text(json.dumps({**status, "state": "stopped"}))
    before = contents(run)
    request.getfixturevalue("read_only")
    code = main([str(run) if part == "RUN" else part for part in line])
    error = capsys.readouterr().err
    assert code in codes
    assert error.count("error: ") == (code != 0)
    assert contents(run) == before


def test_a_sweep_is_written_as_toml_that_reads_back():
    """Dates, what is no number, and names that are no bare keys: `json.dumps` wrote what TOML does not read."""
    settings = {"a b": 1, "day": tomllib.loads("d = 1979-05-27")["d"], "rate": float("inf"), "plain": "x"}
    written = sweep_file.write(sweep_file.SweepFile("s", (1,), settings=settings))
    assert tomllib.loads(written)["settings"] == settings


def test_a_sweep_of_more_cells_than_anybody_runs_is_refused(tmp_path, capsys):
    """Three lists of 60 values: 216,000 cells were resolved one by one, for minutes."""
    many = "".join(f"{name} = {list(range(1, 61))}\n" for name in ("num_steps", "update_epochs", "mlp_width"))
    (tmp_path / "s.toml").write_text(f'name = "s"\n[settings]\nalgo = "pqn"\n[grid]\n{many}')
    assert main(["sweep", str(tmp_path / "s.toml")]) == 2
    assert "more than 100,000 cells" in capsys.readouterr().err
    (tmp_path / "s.toml").write_text('name = "s"\nseeds = 100000000000\n[settings]\nalgo = "pqn"\n')
    assert main(["sweep", str(tmp_path / "s.toml")]) == 2
    assert "at most 100,000" in capsys.readouterr().err
