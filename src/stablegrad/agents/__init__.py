"""Algorithms, one a file. The registry is torch-free; an agent's file is imported when it is asked for."""

from typing import Any

from stablegrad.registry import Registry, is_user_file

AGENTS = Registry(
    "algorithm",
    {
        "pqn": "stablegrad.agents.pqn:PQN",
        "ppo": "stablegrad.agents.ppo:PPO",
        "dqn": "stablegrad.agents.dqn:DQN",
        "rainbow": "stablegrad.agents.rainbow:Rainbow",
        "cifar": "stablegrad.supervised.classifier:Classifier",
    },
)


def agent_kind(name: str) -> Any:
    """The class of an algorithm, ours or the user's. UserError where the user's is none."""
    kind = AGENTS[name]
    if is_user_file(name):
        from stablegrad.agents.own import check_kind

        check_kind(name, kind)
    return kind
