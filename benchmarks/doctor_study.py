"""How often the doctor is right: hits on runs made sick on purpose, false alarms on healthy ones, as counts.

    python benchmarks/doctor_study.py run fresh --slots 2
    python benchmarks/doctor_study.py judge

`run` trains what is missing of a set (asked again, it goes on where it stopped) and keeps of every run only what the
doctor reads. `judge` examines all runs of all sets and writes benchmarks/results/doctor_study.json and, for FRESH, the
tables of docs/doctor.md. What the sets are made of is in doctor_cases.py.
"""

import argparse
import math
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from doctor_cases import FRESH, HEALTHY, HELD_OUT, NAMES_THAT_HIT, TUNING, Case, Design

from stablegrad.commands.sweep import deadline, parse_time
from stablegrad.doctor import examine
from stablegrad.runs.config import RunConfig
from stablegrad.runs.files import write_json
from stablegrad.runs.folder import RunFolder
from stablegrad.sweeps.pool import LocalPool

SETS: Mapping[str, Sequence[Design]] = {"fresh": FRESH, "tuning": TUNING, "held_out": HELD_OUT}
RESULTS = Path("benchmarks/results/doctor_study.json")
PAGE = Path("docs/doctor.md")
_KEPT = {"config.json", "manifest.json", "status.json", "metrics.jsonl", "episodes.jsonl"}
_BEGIN, _END = "<!-- study: begin -->", "<!-- study: end -->"


def run(name: str, root: Path, *, slots: int, budget: float | None) -> None:
    """Train the missing runs of a set."""
    over = deadline(budget)
    started = time.monotonic()
    cases = [case for design in SETS[name] for case in design.cases()]
    waiting = [path for path in (_folder(root / name, case) for case in cases) if _state(path) != "done"]
    codes = LocalPool(slots).run(waiting, stop=over)
    for path in codes:
        if _state(path) == "done":
            _slim(path)
    states = Counter(_state(root / name / case.label) for case in cases)
    print(f"{name}: {dict(states)} of {len(cases)} runs, {time.monotonic() - started:.0f} s")


def _folder(root: Path, case: Case) -> Path:
    path = root / case.label
    if not (path / "config.json").exists():
        RunFolder.create(path, RunConfig.resolve(case.algo, case.settings))
    return path


def _state(path: Path) -> str:
    return str(RunFolder(path).status["state"])


def _slim(path: Path) -> None:
    for entry in path.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name not in _KEPT:
            entry.unlink()


def judge(root: Path) -> None:
    """Examine every run of every set that is there, and write counts and table."""
    record = {}
    for name, designs in SETS.items():
        cases = [case for design in designs for case in design.cases()]
        cases = [case for case in cases if _state(root / name / case.label) in ("done", "failed")]
        if cases:
            record[name] = _counts([_verdict(root / name, case) for case in cases])
    write_json(RESULTS, {"names_that_hit": {k: sorted(v) for k, v in NAMES_THAT_HIT.items()}, "sets": record})
    text = "\n".join(_tables(record["fresh"]))
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    PAGE.write_text(f"{before}{_BEGIN}\n\n{text}\n{_END}{after}", encoding="utf-8")
    print(text)


def _verdict(root: Path, case: Case) -> dict[str, Any]:
    """What the doctor said of one run: warnings by name, remarks apart; and how the games of its last tenth scored."""
    examination = examine(root / case.label)
    found, games = examination.findings, examination.signals.games
    last = None if games is None else games.since(0.9 * examination.signals.last_step).values.mean()
    return {
        "run": case.label,
        "truth": case.truth,
        "algo": case.algo.rpartition(":")[2],
        "game": case.settings["env_id"],
        "last_score": None if last is None else round(float(last), 2),
        "net": case.net,
        "findings": [finding.name for finding in found if finding.severity != "info"],
        "remarks": [finding.name for finding in found if finding.severity == "info"],
    }


def _counts(verdicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Hits by harm, false alarms by name, and the verdicts they were counted from."""
    sick: dict[str, dict[str, int]] = {}
    named_in_all = 0
    for truth in NAMES_THAT_HIT:
        mine = [verdict for verdict in verdicts if verdict["truth"] == truth]
        hits = sum(map(_named, mine))
        any_warning = sum(bool(verdict["findings"]) for verdict in mine)
        sick[truth] = {"runs": len(mine), "named": hits, "any_warning": any_warning}
        named_in_all += hits
    sick_runs = sum(row["runs"] for row in sick.values())
    healthy = [verdict for verdict in verdicts if verdict["truth"] == HEALTHY]
    alarms = Counter(name for verdict in healthy for name in verdict["findings"])
    accused = sum(bool(verdict["findings"]) for verdict in healthy)
    return {
        "sick": sick,
        "all_sick": {"runs": sick_runs, "named": named_in_all, "named_95": wilson(named_in_all, sick_runs)},
        "healthy": {
            "runs": len(healthy),
            "accused": accused,
            "accused_95": wilson(accused, len(healthy)),
            "alarms": dict(alarms.most_common()),
        },
        "verdicts": list(verdicts),
    }


def wilson(hits: int, runs: int, *, z: float = 1.96) -> tuple[float, float]:
    """The 95 % score interval of a share, [0, 1] (Wilson, 1927); it holds for few runs and for 0 or all of them."""
    if not runs:
        return 0.0, 1.0
    share, slack = hits / runs, z * z / runs
    middle = (share + slack / 2) / (1 + slack)
    half = z * math.sqrt(share * (1 - share) / runs + slack / (4 * runs)) / (1 + slack)
    return max(0.0, middle - half), min(1.0, middle + half)


def _tables(counts: Mapping[str, Any]) -> list[str]:
    """By harm, by agent, and every run that was judged wrongly."""
    every, healthy, verdicts = counts["all_sick"], counts["healthy"], counts["verdicts"]
    lines = ["| what was done to the run | runs | named | some warning |", "|---|---|---|---|"]
    for truth, row in counts["sick"].items():
        lines.append(f"| {truth} | {row['runs']} | {row['named']} | {row['any_warning']} |")
    lines.append(f"| all of these | {every['runs']} | **{every['named']}** ({_per_cent(every['named_95'])}) | |")
    accused = f"**{healthy['accused']} accused** ({_per_cent(healthy['accused_95'])})"
    lines += [f"| nothing (healthy) | {healthy['runs']} | – | {accused} |", ""]
    lines += ["| agent | sick | named | healthy | accused |", "|---|---|---|---|---|"]
    for agent in ("pqn", "ppo", "dqn", "rainbow"):
        mine = [one for one in verdicts if str(one["run"]).lower().split("-")[0].endswith(agent)]
        well = [one for one in mine if one["truth"] == HEALTHY]
        ill = [one for one in mine if one["truth"] != HEALTHY]
        named, accused = sum(map(_named, ill)), sum(bool(one["findings"]) for one in well)
        lines.append(f"| {agent} | {len(ill)} | {named} | {len(well)} | {accused} |")
    missed = [one for one in verdicts if one["truth"] != HEALTHY and not _named(one)]
    wrong = [one for one in verdicts if one["truth"] == HEALTHY and one["findings"]]
    for title, ones in (("Not named", missed), ("Healthy and accused", wrong)):
        listed = [f"- `{one['run']}`: {_said(one)}" for one in ones]
        lines += ["", f"{title}:", "", *(listed or ["- none"])]
    return [*lines, ""]


def _named(verdict: Mapping[str, Any]) -> bool:
    return bool(NAMES_THAT_HIT[verdict["truth"]] & set(verdict["findings"]))


def _said(verdict: Mapping[str, Any]) -> str:
    return f"{', '.join(verdict['findings']) or 'nothing'} (last score {verdict['last_score']})"


def _per_cent(interval: Sequence[float]) -> str:
    return f"{interval[0]:.0%} to {interval[1]:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "judge"))
    parser.add_argument("set", nargs="?", choices=tuple(SETS), help="for `run`")
    parser.add_argument("--out", type=Path, default=Path("runs/doctor_study"))
    parser.add_argument("--slots", type=int, default=1, help="runs at a time")
    parser.add_argument("--time-budget", help="stop cleanly after this long: 9m, 90s")
    arguments = parser.parse_args()
    if arguments.what == "judge":
        judge(arguments.out)
    elif arguments.set is None:
        parser.error(f"say which set to run: {', '.join(SETS)}")
    else:
        budget = None if arguments.time_budget is None else parse_time(arguments.time_budget, "--time-budget")
        run(arguments.set, arguments.out, slots=arguments.slots, budget=budget)


if __name__ == "__main__":
    main()
