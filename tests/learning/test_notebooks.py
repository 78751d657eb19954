"""The notebooks in examples/ run from their first cell to their last, as they stand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def program(notebook: Path) -> str:
    """Its code cells, one after the other."""
    cells = json.loads(notebook.read_text())["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def run(text: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    (folder / "notebook.py").write_text(text)
    environment = {**os.environ, "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "notebook.py"], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(notebook: Path, tmp_path: Path) -> None:
    done = run(program(notebook), tmp_path)
    assert done.returncode == 0, done.stderr


def test_there_are_three_and_a_cell_that_fails_would_be_seen(tmp_path: Path) -> None:
    assert len(NOTEBOOKS) == 3
    assert run(program(NOTEBOOKS[0]) + "\nraise KeyError", tmp_path).returncode != 0
