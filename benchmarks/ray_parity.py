"""Runs of a finished sweep again, as Ray tasks: are the numbers the same?

    python benchmarks/ray_parity.py runs/depth_collapse --out runs/depth_collapse_ray --runs 6 \\
        --json benchmarks/results/ray_parity.json

Trains the first six done runs of the sweep under Ray (this machine, or --address), into a folder of their own, and
compares byte by byte every game's score and step, and every tensor of the last checkpoint: parameters, optimizer,
environments, generators. Asked again, it goes on where it stopped. `--negative_control` compares each run with the
next one instead, which must differ.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from stablegrad.runs.files import read_json, sha256
from stablegrad.runs.folder import RunFolder
from stablegrad.sweeps.folder import SweepFolder, ensure_run
from stablegrad.sweeps.ray_executor import RayExecutor


def compare(left: Path, right: Path) -> dict[str, bool]:
    """Whether two runs' games and last checkpoints are the same bytes."""
    return {
        "games": sha256(left / "episodes.jsonl") == sha256(right / "episodes.jsonl"),
        "tensors": _tensors(left) == _tensors(right),
    }


def _tensors(run: Path) -> dict[str, str]:
    newest = max((run / "checkpoints").iterdir())
    return {path.name: sha256(path) for path in sorted(newest.glob("*.safetensors"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--address")
    parser.add_argument("--negative_control", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    sweep = SweepFolder.open(arguments.sweep)
    done = [entry for entry in sweep.entries if sweep.progress(entry).state == "done"][: arguments.runs]
    local = [sweep.run_path(entry) for entry in done]
    under_ray = [ensure_run(arguments.out, RunFolder(path).config) for path in local]
    if waiting := [path for path in under_ray if RunFolder(path).status["state"] != "done"]:
        RayExecutor(arguments.address).run(waiting)
    if arguments.negative_control:
        under_ray = under_ray[1:] + under_ray[:1]
    record: list[dict[str, Any]] = []
    for entry, here, there in zip(done, local, under_ray, strict=True):
        record.append({"run": entry.run, "arm": entry.arm, "seed": entry.seed, **compare(here, there)})
        print(record[-1])
    if arguments.json:
        machine = read_json(under_ray[0] / "manifest.json")
        record_of = {"runs": record, "machine": {k: machine[k] for k in machine if k not in ("command", "host")}}
        arguments.json.write_text(json.dumps(record_of, indent=1) + "\n")


if __name__ == "__main__":
    main()
