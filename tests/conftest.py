"""What holds for every test: it sees the repository and its extras, and nothing else of the machine."""

import contextlib
import inspect
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

from image_files import write_idx_pair
from optional_parts import OPTIONAL
from portability import NUMERIC

TESTS = Path(__file__).parent

ACCOUNTS = ("WANDB_", "MLFLOW_", "TRACKIO_", "STABLEGRAD_", "XDG_", "MPL", "MATPLOTLIB", "TORCH_HOME", "TORCH_LOGS")
"""Beginnings of environment variables that lead to somebody's data, caches, settings or accounts."""

# One thread for each worker, as there is one core for each: more would wait for each other, spinning. Torch reads it
# when it is imported, which the folders' own conftests do. `make portability` asks for two.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Random examples would be others on every machine, a database of them is a fact about one, and so is a deadline.
hypothesis.settings.register_profile("same everywhere", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("same everywhere")


def pytest_configure(config: pytest.Config) -> None:
    """Hide the machine before any test module is imported; the workers of pytest-xdist inherit what is set here."""
    if hasattr(config, "workerinput"):
        return
    home = Path(tempfile.mkdtemp(prefix="stablegrad-home-"))
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    for name in [name for name in os.environ if name.startswith(ACCOUNTS)]:
        del os.environ[name]
    os.environ["HOME"] = str(home)
    os.environ["XDG_DATA_DIRS"] = str(home / "share")  # not there: no data folders of the system


@pytest.fixture(scope="session", autouse=True)
def _in_an_empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`./data` and `./runs` of whoever starts the tests are out of sight."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("working"))
    yield
    os.chdir(before)


@pytest.fixture
def few_calls() -> contextlib.AbstractContextManager[None]:
    """A context in which calls may nest 100 deep beyond the caller's: what recurses once a folder shows at once."""

    @contextlib.contextmanager
    def lowered() -> Iterator[None]:
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(len(inspect.stack(0)) + 100)
        try:
            yield
        finally:
            sys.setrecursionlimit(before)

    return lowered()


@pytest.fixture(autouse=True)
def _threads_are_put_back() -> Iterator[None]:
    """A run sets its number of threads for the whole process: the next test has the usual one again."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture
def write_fashion_mnist() -> Callable[..., Path]:
    """Fill a folder with files named and laid out as Fashion-MNIST's, `train` and `test` images of noise."""

    def write(folder: Path, *, train: int = 6, test: int = 3, zipped: bool = True) -> Path:
        rng = np.random.default_rng(0)
        for split, count in (("train", train), ("t10k", test)):
            images = rng.integers(0, 256, size=(count, 28, 28), dtype=np.uint8)
            labels = np.arange(count, dtype=np.uint8) % 10
            write_idx_pair(folder, split, images, labels, zipped=zipped)
        return folder

    return write


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    there: dict[str, bool] = {}
    for item in items:
        if item.path.parent.parent == TESTS and item.path.parent.name in NUMERIC:
            item.add_marker("numeric")
        for mark in item.iter_markers("needs"):
            (part,) = mark.args
            if part not in OPTIONAL:
                raise pytest.UsageError(f"{item.nodeid} needs '{part}', which is none of {', '.join(OPTIONAL)}")
            if not there.setdefault(part, OPTIONAL[part]()):
                item.add_marker(pytest.mark.skip(reason=f"needs {part}"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Iterator[None]:
    """One line about what was not there, and how many tests were skipped for it."""
    yield
    reasons = (str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []))
    skipped = Counter(reason.partition("needs ")[2] for reason in reasons)
    absent = [part for part, there in OPTIONAL.items() if not there()]
    said = [f"{part} ({skipped[part]} skipped)" if skipped[part] else part for part in absent]
    terminalreporter.write_line(f"optional parts that are not here: {', '.join(said) or 'none'}")
