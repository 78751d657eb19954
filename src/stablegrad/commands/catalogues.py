"""`stablegrad list` and `stablegrad explain`: what there is, and what a metric is."""

from collections.abc import Iterable

from stablegrad.commands.parsing import Parser
from stablegrad.errors import DONE, UserError, nearest
from stablegrad.text import say


def list_names(argv: list[str]) -> int:
    parser = Parser("list", "Names that flags accept.", example="stablegrad list optimizers")
    parser.add_argument("kind", nargs="?", help="one of the kinds (default: all of them)")
    kind = parser.parse(argv).kind
    if kind == "published_flags":
        say(_published_flags().rstrip("\n"))
        return DONE
    kinds = _kinds()
    if kind is not None and kind not in kinds:
        raise UserError(f"unknown kind '{kind}'{nearest(kind, kinds)}; known: {', '.join(kinds)}")
    for name, values in kinds.items():
        if kind is None:
            say(f"{name}: {', '.join(values)}")
        elif kind == name:
            say(*values)
    return DONE


def explain(argv: list[str]) -> int:
    from stablegrad.diagnostics import catalogue

    parser = Parser("explain", "What a metric is: unit, definition, measuring point, source.",
                    example="stablegrad explain ranks/srank")  # fmt: skip
    parser.add_argument("metric", help="a metric's name, as in metrics.jsonl")
    say(catalogue.explain(parser.parse(argv).metric))
    return DONE


def _published_flags() -> str:
    from stablegrad.agents import AGENTS
    from stablegrad.runs import published
    from stablegrad.runs.config import known_fields

    return published.markdown(
        {
            algo: {*known_fields(algo), *getattr(AGENTS[algo], "aliases", {})}
            for algo in published.FLAGS
            if algo in AGENTS
        }
    )


def _kinds() -> dict[str, Iterable[str]]:
    from stablegrad.agents import AGENTS
    from stablegrad.diagnostics import catalogue
    from stablegrad.envs.spec import PROTOCOLS
    from stablegrad.integrations.trackers import TRACKERS
    from stablegrad.nn.spec import ACTIVATIONS, ENCODERS, TRUNKS
    from stablegrad.optim.info import OPTIMIZERS
    from stablegrad.tables.games import GAMES

    return {
        "algorithms": AGENTS,
        "encoders": ENCODERS,
        "trunks": TRUNKS,
        "activations": ACTIVATIONS,
        "optimizers": OPTIMIZERS,
        "protocols": PROTOCOLS,
        "trackers": TRACKERS,
        "metrics": [entry.name for entry in catalogue.entries()],
        "games": GAMES,
    }
