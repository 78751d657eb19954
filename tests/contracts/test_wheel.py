"""The wheel: built from the checkout, installed where nothing of the checkout is, it has all that the commands need."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
PACKAGES = Path(sysconfig.get_path("purelib"))
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

_RUN = """
import sys

checkout, packages = sys.argv[1:]
read = []


def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(checkout):
        read.append(arguments[0])


sys.addaudithook(watch)
from stablegrad import cli


def ends(*line):
    try:
        return cli.main(line)
    except SystemExit as ended:
        return ended.code


small = "--env_id MinAtar/Breakout --num_envs 4 --num_steps 8 --num_minibatches 2 --mlp_width 16 --threads 1".split()
codes = {command: ends(command, "--help") for command in cli.COMMANDS}
codes["a training"] = ends("pqn", *small, "--total_timesteps", "256", "--run_dir", "run")
codes["a metric"] = ends("explain", "ranks/srank")
codes["the presets"] = ends("sweep", "presets")
print("ended:", {name: code for name, code in codes.items() if code != 0})
print("of the checkout:", [path for path in read if not path.startswith(packages)])
print("from:", cli.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built, as pip does it, from a copy of what git keeps: setuptools leaves its folders beside its sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPO / name, source)
    shutil.copytree(REPO / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(out)], cwd=source, check=True, capture_output=True)
    (built,) = out.glob("stablegrad-*.whl")
    return built


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    files = {path.relative_to(REPO / "src").as_posix() for path in (REPO / "src" / "stablegrad").rglob("*.*")}
    files = {name for name in files if "__pycache__" not in name}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == files
    assert {Path(name).suffix for name in files} >= {".py", ".toml", ".css", ".js", ".typed"}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel. Other packages are ours: their folder is on its path, what .pth files add is not.

    So the checkout, which an editable install adds by a .pth file, is not there.
    """
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", "--no-compile", str(wheel)], env=ENVIRONMENT, check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(f"{PACKAGES}\n{sysconfig.get_path('platlib')}\n")
    return home


def test_commands_work_where_nothing_of_the_checkout_is(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(_RUN)
    commands = [
        [installed / "bin" / "stablegrad", "--version"],
        [installed / "bin" / "python", "run.py", str(REPO), str(PACKAGES)],
    ]
    version, done = (
        subprocess.run(list(map(str, command)), cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
        for command in commands
    )
    assert version.stdout == "stablegrad 0.1.0\n"
    assert done.stdout.splitlines()[-3:] == [
        "ended: {}",
        "of the checkout: []",
        f"from: {next(installed.glob('lib/python*/site-packages'))}/stablegrad/cli.py",
    ], done.stderr
    assert "<html" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
