"""Two to four processes at once on one folder: what each said, and what is there when all have ended."""

import multiprocessing
import multiprocessing.context
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from faulty_disk import tree
from scenes import (
    SWEEP,
    Ended,
    assert_same,
    command,
    finish,
    lines_but_torn,
    options,
    start,
    stopped,
    surroundings,
    trained,
)  # fmt: skip

from stablegrad.runs import records
from stablegrad.runs.files import read_json
from stablegrad.runs.folder import RunFolder

PRELOADED = ["stablegrad.commands.train", "stablegrad.commands.report", "stablegrad.commands.evaluate",
             "stablegrad.commands.sweep", "stablegrad.reports.compose", "stablegrad.envs.single"]  # fmt: skip
KINDS = ("start", "resume", "fork", "sweep")


class Round(NamedTuple):
    """`count` processes begin at once; `kind` says what they fight over."""

    kind: str
    count: int
    seed: int


def rounds(number: int) -> list[Round]:
    return [Round(KINDS[n % len(KINDS)], 2 + n // len(KINDS) % 3, n) for n in range(number)]


def context() -> multiprocessing.context.ForkServerContext:
    """Processes that are forked from one that has imported everything and done nothing."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(PRELOADED)
    return made


def play(round_: Round, root: Path, runs: dict[str, dict[str, Any]]) -> list[Ended]:
    """Do it, and see that what has to hold holds: AssertionError where it does not. `runs` nothing happened to."""
    root.mkdir()
    run, rng = root / "run", np.random.default_rng(round_.seed)
    also = [["report", str(run), "--no_files"], ["resume", str(run), "--quiet"], ["eval", str(run), "--episodes", "1"]]
    match round_.kind:
        case "start":
            words = [["dqn", *options(), "--run_dir", str(run), "--quiet", "--seed", str(n % 2 + 1)] for n in range(4)]
        case "resume":
            stopped(run, at=12)
            words = [also[1], also[1], *also]
        case "fork":
            stopped(root / "source", at=12)
            forked = ["fork", str(root / "source"), "--run_dir", str(run), "--learning_rate", "1e-3", "--quiet"]
            words = [forked, forked, ["resume", str(root / "source"), "--quiet"], forked]
        case _:
            (root / "sweep.toml").write_text(SWEEP.replace("[1]", "[1, 2]"))
            words = [["sweep", str(root / "sweep.toml"), "--out", str(root / "sweep")]] * 4
    chosen = words[:2] + [words[2:][n] for n in rng.permutation(len(words) - 2)[: round_.count - 2]]
    ended = together(chosen)
    for words_, one in zip(chosen, ended, strict=True):
        assert one.code in (0, 1, 2), (words_, one)
        assert "Traceback" not in one.said, (words_, one)
        assert len(one.errors) == (one.code != 0), (words_, one)
    _CHECKS[round_.kind](root, chosen, ended, runs)
    assert not [name for name in tree(root) if Path(name).name.startswith(".")], "nothing half-done is left"
    return ended


def together(commands: Sequence[Sequence[str]]) -> list[Ended]:
    """Run each command in a process of its own, all at once."""
    work = context()
    gate, said = work.Barrier(len(commands)), work.Queue()
    processes = [work.Process(target=_one, args=(n, words, gate, said)) for n, words in enumerate(commands)]
    for process in processes:
        process.start()
    found = dict(said.get(timeout=240) for _ in processes)
    for process in processes:
        process.join()
    return [found[n] for n in range(len(commands))]


def _one(number: int, words: Sequence[str], gate: Any, said: Any) -> None:
    import torch

    torch.set_num_threads(1)
    with surroundings():
        gate.wait()
        said.put((number, command(*words)))


def _one_wins(commands: Sequence[Sequence[str]], ended: Sequence[Ended], name: str) -> None:
    codes = [one.code for words, one in zip(commands, ended, strict=True) if words[0] == name]
    assert codes.count(0) == 1, codes


def _check_start(root: Path, commands: Any, ended: Any, runs: Any) -> None:
    _one_wins(commands, ended, "dqn")
    seed = read_json(root / "run/config.json")["seed"]
    assert_same(trained(root / "run"), runs[f"seed {seed}"])


def _check_resume(root: Path, commands: Any, ended: Any, runs: Any) -> None:
    assert 0 in [one.code for words, one in zip(commands, ended, strict=True) if words[0] == "resume"]
    assert_same(trained(root / "run"), runs["run"])
    asked = sum(words[0] == "eval" and one.code == 0 for words, one in zip(commands, ended, strict=True))
    made = lines_but_torn(root / "run/evaluations.jsonl")
    assert sum(line.get("by") == records.BY_EVAL for line in made) == asked


def _check_fork(root: Path, commands: Any, ended: Any, runs: Any) -> None:
    _one_wins(commands, ended, "fork")
    finish(root / "source", lambda: start(root / "source"))
    assert_same(trained(root / "source"), runs["run"])
    found = trained(root / "run")
    # The source may have gone on before the fork looked at it.
    began = [line["step"] for line in found["rows"]]
    assert began == [line["step"] for line in runs["fork"]["rows"]]
    assert RunFolder(root / "run").config.optimizer.learning_rate == 1e-3


def _check_sweep(root: Path, commands: Any, ended: Any, runs: Any) -> None:
    assert [one.code for one in ended] == [0] * len(ended)
    cells = [path for path in sorted((root / "sweep").iterdir()) if path.is_dir()]
    assert len(cells) == 2
    for seed, path in enumerate(cells, 1):
        assert_same(trained(path), runs[f"seed {seed}"])


_CHECKS = {"start": _check_start, "resume": _check_resume, "fork": _check_fork, "sweep": _check_sweep}
