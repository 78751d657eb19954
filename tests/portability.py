"""Other processors, imitated: torch's own kernels, oneDNN and MKL are held to older instruction sets.

Sums then have other orders, and exponentials other last digits.

As a program (`make portability`) it runs the numeric tests on each of them, with one thread and with two.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

PROCESSORS = {
    "SSE4": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}

NUMERIC = ("agents", "diagnostics", "integrations", "learning", "nn", "optim", "replay", "rl", "supervised")
"""The folders whose tests have the marker `numeric`: what they assert hangs on floating-point arithmetic."""


def main() -> int:
    """Run the numeric tests on every processor; the value is 0 when they passed on all."""
    failed = []
    for (name, variables), threads in itertools.product(PROCESSORS.items(), ("1", "2")):
        # Threads that wait do not spin: pytest's two workers have two each.
        variables = {**variables, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive"}
        print("\n==", *(f"{key}={value}" for key, value in variables.items()), flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "-m", "numeric and not evidence and not oracle"]
        done = subprocess.run(command, env={**os.environ, **variables}, cwd=Path(__file__).parents[1], check=False)
        if done.returncode:
            failed.append(f"{name} with {threads} thread(s)")
    print("\nfailed on: " + ", ".join(failed) if failed else "\npassed on every processor")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
