"""A machine that has only Python and make: the tests see no more of any other, and CI makes one of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]

_LOOK = """
import os
from pathlib import Path

import pytest

from stablegrad.supervised.catalogue import FASHION_MNIST, find, search_roots


def test_no_images_no_home_no_settings():
    assert find(FASHION_MNIST, search_roots(None)) is None
    assert list(Path.home().iterdir()) == []
    assert not {"STABLEGRAD_DATA", "WANDB_API_KEY", "MPLCONFIGDIR"} & set(os.environ)


@pytest.mark.needs("Chromium")
def test_something():
    raise AssertionError
"""


@pytest.fixture
def lived_in(tmp_path: Path, write_fashion_mnist) -> dict[str, str]:
    """The environment of a machine that has much: images in all the usual places, a home with a cache, no Chromium."""
    home = tmp_path / "home"
    (home / ".cache").mkdir(parents=True)
    for folder in ("work/data", "variable", "system/datasets/fashion-mnist"):
        write_fashion_mnist(tmp_path / folder)
    (tmp_path / "work" / "test_look.py").write_text(_LOOK)
    lived = {"HOME": home, "STABLEGRAD_DATA": tmp_path / "variable", "XDG_DATA_DIRS": tmp_path / "system"}
    path = os.pathsep.join([str(REPO / "tests"), str(REPO / "src")])
    return {**{name: str(value) for name, value in lived.items()}, "PYTHONPATH": path, "PATH": "/nowhere"}


def _look(lived_in: dict[str, str], tmp_path: Path, *options: str) -> str:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-o",
        "markers=needs",
        *options,
        "test_look.py",
    ]
    return subprocess.run(command, env=lived_in, cwd=tmp_path / "work", capture_output=True, text=True).stdout


def test_tests_see_nothing_of_the_machine(lived_in: dict[str, str], tmp_path: Path) -> None:
    said = _look(lived_in, tmp_path, "-p", "conftest").splitlines()
    assert "1 passed, 1 skipped" in said[-1]
    assert said[-2].startswith("optional parts that are not here: ")
    assert "Chromium (1 skipped)" in said[-2]


def test_the_machine_would_be_seen(lived_in: dict[str, str], tmp_path: Path) -> None:
    """The control: the same tests without our conftest."""
    assert "2 failed" in _look(lived_in, tmp_path)


_CI = """
test:
	@env; echo "in the home:" $$(ls -A "$$HOME"); exit 7
"""


def test_ci_starts_with_an_empty_home_and_gives_the_exit_code_of_make(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(REPO / ".ci" / "run", tmp_path / ".ci")
    (tmp_path / "Makefile").write_text(_CI)
    config = tmp_path / "home" / ".config" / "pip" / "pip.conf"
    config.parent.mkdir(parents=True)
    config.write_text("[global]\n")
    ours = {"HOME": str(tmp_path / "home"), "STABLEGRAD_DATA": "/data", "WANDB_API_KEY": "secret", "PIP_INDEX_URL": "x"}
    # Without our own python3 on the path, a shim that asks for its folder in the home would be taken.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, **ours, "PATH": path, "PIP_CACHE_DIR": "/cache"}
    environment.pop("PIP_CONFIG_FILE", None)  # there where CI itself runs this test
    done = subprocess.run(["bash", ".ci/run"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, "what make says of a command that failed"
    assert "in the home:\n" in done.stdout
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert not {"STABLEGRAD_DATA", "WANDB_API_KEY", "PIP_CACHE_DIR"} & seen.keys()
    assert (seen["PIP_CONFIG_FILE"], seen["PIP_INDEX_URL"]) == (str(config), "x")
    assert not Path(seen["HOME"]).exists(), "its home goes with it"


def test_torch_alone_comes_from_another_index() -> None:
    """That index lacks the pinned versions of what torch needs."""
    command = ["make", "--dry-run", "--always-make", "demo", "TORCH_INDEX=https://elsewhere"]
    lines = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout.splitlines()
    elsewhere = [index for index, line in enumerate(lines) if "elsewhere" in line]
    rest = next(index for index, line in enumerate(lines) if line.endswith("--editable ."))
    assert len(elsewhere) == 1
    assert lines[elsewhere[0]].endswith("--index-url https://elsewhere --no-deps torch")
    assert elsewhere[0] < rest, "else torch would be there already, from the usual index"
