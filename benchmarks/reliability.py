"""Make every injection of `tests/injection` and print how many there were, by scene (`docs/reliability.md`).

The tests draw a few of them; this makes all. It ends with 1 where one of them loses anything.

    python benchmarks/reliability.py --json benchmarks/results/reliability.json
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "injection"))

import crowd
import torch
from injections import Injection, Workplace, drawn, killed_for_real
from scenes import SCENES, surroundings

from stablegrad.runs.files import write_text
from stablegrad.runs.folder import describe_machine

POWER_SEEDS = 2
CROWDS = 100
REAL_KILLS = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the counts, with the machine, to a file")
    parser.add_argument("--scenes", nargs="+", default=list(SCENES), choices=list(SCENES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started, found, lost = time.monotonic(), {}, []
    with surroundings(), tempfile.TemporaryDirectory() as folder:
        work = Workplace(Path(folder) / "work")
        for scene in arguments.scenes:
            found[scene] = counts = {"operations": len(work.operations(scene))}
            ended = _all(work.injections(scene), work.inject, lost)
            counts["failures"] = sum(n for (kind, _), n in ended.items() if not kind.startswith("kill"))
            counts["kills"] = sum(n for (kind, _), n in ended.items() if kind.startswith("kill"))
            counts["borne"] = sum(n for (_, code), n in ended.items() if code == 0)
            if scene != "report":
                some = drawn(list(range(1, counts["operations"] + 1)), REAL_KILLS, seed=4)
                real = [Injection(scene, at, "kill midway") for at in some]
                counts["SIGKILL"] = sum(_all(real, lambda one: killed_for_real(work, one), lost).values())
            if SCENES[scene].trains:
                cuts = list(work.power_cuts(scene, seeds=POWER_SEEDS))
                counts["power cuts"] = sum(_all(cuts, work.cut_power, lost).values())
            print(scene, counts, flush=True)
        crowds: dict[str, Counter[int]] = {kind: Counter() for kind in crowd.KINDS}
        for number, round_ in enumerate(crowd.rounds(CROWDS)):
            try:
                crowds[round_.kind][len(crowd.play(round_, Path(folder) / str(number), work.runs))] += 1
            except AssertionError as error:
                lost.append(f"{round_}: {error}")
        print(f"processes at once: {crowds}", flush=True)
    _show(found)
    for line in lost:
        print(f"LOST {line}")
    if arguments.json is not None:
        record = {
            "scenes": found, "crowds": {kind: dict(counts) for kind, counts in crowds.items()}, "lost": len(lost),
            "minutes": round((time.monotonic() - started) / 60), "machine": _machine(),
        }  # fmt: skip
        write_text(arguments.json, json.dumps(record, indent=1) + "\n")
    return 1 if lost else 0


def _all(injections: Iterable[Any], make: Callable[[Any], Any], lost: list[str]) -> "Counter[tuple[str, Any]]":
    """Make them all; how often each kind ended how."""
    ended: Counter[tuple[str, Any]] = Counter()
    for one in injections:
        result = None
        try:
            result = make(one)
        except AssertionError as error:
            lost.append(f"{one}: {error}")
        ended[getattr(one, "kind", ""), getattr(result, "code", None)] += 1
    return ended


def _show(found: dict[str, dict[str, int]]) -> None:
    """The table of docs/reliability.md."""
    columns = ("operations", "failures", "borne", "kills", "SIGKILL", "power cuts")
    print(f"| scene | {' | '.join(columns)} |")
    print(f"|---|{'---|' * len(columns)}")
    for scene, counts in found.items():
        print(f"| {scene} | {' | '.join(f'{counts.get(name, 0):,}' for name in columns)} |")
    totals = {name: sum(counts.get(name, 0) for counts in found.values()) for name in columns}
    print(f"| **all** | {' | '.join(f'{totals[name]:,}' for name in columns)} |")


def _machine() -> dict[str, Any]:
    wanted = ("stablegrad", "python", "torch", "platform", "cpu", "cpu_count")
    return {name: value for name, value in describe_machine().items() if name in wanted}


if __name__ == "__main__":
    sys.exit(main())
