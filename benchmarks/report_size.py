"""A report of very many runs: seconds, processor seconds, memory and the size of the page; and a large bootstrap.

    python benchmarks/report_size.py --runs 500 --json benchmarks/results/report_size.json

The runs are made up (tests/reports/synthetic_runs.py), in the shape of the paper's: 10 games, 5 seeds, 4 arms at each
size, 200 rows a run with gradients by layer. Processor seconds count the command's own work where other processes
share the machine. The bootstrap is the IQM of 57 games x 5 seeds, resampled 50,000 times.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from stablegrad.reports.stats import bootstrap_interval, iqm
from stablegrad.runs.folder import describe_machine
from stablegrad.tables.suites import SUITES

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reports"))
from synthetic_runs import write_sweep

ARMS, SEEDS = 4, 5


def bootstrap_seconds() -> float:
    scores = np.random.default_rng(0).normal(size=(SEEDS, 57))
    start = time.perf_counter()
    bootstrap_interval(scores, iqm, rng=np.random.default_rng(1), resamples=50_000)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500, help="rounded up to whole sizes of 200 runs, then cut")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "sweep"
        games = SUITES["Atari-10"]
        sizes = -(-arguments.runs // (ARMS * SEEDS * len(games)))
        paths = write_sweep(root, games=games, seeds=SEEDS, depths=("small", "medium", "large")[:sizes], rows=200)
        kept = paths[: arguments.runs]
        start = time.perf_counter()
        command = [sys.executable, "-m", "stablegrad", "report", *map(str, kept), "--out", f"{folder}/report.html"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
        wall = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        record = {
            "runs": len(kept),
            "seconds": round(wall, 1),
            "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
            "peak_memory_mb": round(used.ru_maxrss / 1024),
            "page_mb": round(Path(folder, "report.html").stat().st_size / 1e6, 2),
            "bootstrap_seconds": round(min(bootstrap_seconds() for _ in range(3)), 2),
            "machine": {name: value for name, value in describe_machine().items() if name not in ("command", "host")},
        }
    print(json.dumps(record, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
