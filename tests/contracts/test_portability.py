"""A short part of `make portability`: numeric tests on another processor, imitated."""

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from portability import PROCESSORS

REPO = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="not an x86-64 processor")

# Each is quick, and together they go through many kernels: convolutions and norms, products under vmap, triangular
# products, eigenvalues and singular values, exponentials, whole small runs.
PART = [
    "tests/nn/test_nn_cifar.py",
    "tests/supervised/test_supervised_seeds.py::test_every_seed_ends_where_its_own_run_does[adamw]",
    "tests/optim/test_psgd.py::test_triangular_products_equal_the_dense_ones",
    "tests/optim/test_kron.py::test_the_update_is_clipped_to_its_root_mean_square",
    "tests/diagnostics/test_diag_ranks.py",
    "tests/rl/test_losses.py",
]

_OLD = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import pytest
from {Path(__file__).stem} import bits_of_a_product, torch

torch.conv2d(torch.ones(2, 16, 9, 9), torch.ones(8, 16, 3, 3))
print("torch:", torch.backends.cpu.get_cpu_capability())
print("product:", bits_of_a_product())
sys.exit(pytest.main(["-q", "-n", "0", "-p", "no:cacheprovider", *{PART}]))
"""


def bits_of_a_product() -> str:
    """Of float64 matrices, by MKL: its order of the sums is in the last bits."""
    rows = torch.randn(64, 3000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return hashlib.sha256((rows @ rows.T).numpy().tobytes()).hexdigest()


@pytest.fixture(scope="module")
def old() -> "subprocess.CompletedProcess[str]":
    """A process that takes this processor for one of 2008, and runs `PART`; oneDNN says what it takes it for."""
    path = os.pathsep.join([str(REPO / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **PROCESSORS["SSE4"], "ONEDNN_VERBOSE": "1", "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-c", _OLD], cwd=REPO, env=environment, capture_output=True, text=True)


def test_the_variables_take_effect(old: "subprocess.CompletedProcess[str]") -> None:
    """The control: what is imitated is another processor, for each of the three libraries."""
    assert "info,cpu,isa:Intel SSE4.1\n" in old.stdout
    assert "torch: DEFAULT\n" in old.stdout
    assert torch.backends.cpu.get_cpu_capability() != "DEFAULT"
    assert "product: " in old.stdout
    assert f"product: {bits_of_a_product()}\n" not in old.stdout


def test_numeric_tests_pass_on_an_old_processor(old: "subprocess.CompletedProcess[str]") -> None:
    said = "\n".join(line for line in old.stdout.splitlines() if not line.startswith("onednn_verbose"))
    assert old.returncode == 0, said
    assert " passed" in said
    assert "skipped" not in said
