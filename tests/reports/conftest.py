"""Synthetic run folders as fixtures."""

import pytest
from synthetic_runs import write_run, write_sweep


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


@pytest.fixture(scope="session")
def sweep(tmp_path_factory):
    """Four arms, two games, three seeds: shared, so never written to."""
    root = tmp_path_factory.mktemp("sweep")
    write_sweep(root, games=("MinAtar/Breakout", "MinAtar/Asterix"), rows=24)
    return root


@pytest.fixture
def make_run(tmp_path):
    """Write a run called `name` with these settings; see `write_run`."""
    return lambda name, **settings: write_run(tmp_path / name, **settings)


@pytest.fixture
def make_sweep(tmp_path):
    return lambda **options: write_sweep(tmp_path / "sweep", **options)
