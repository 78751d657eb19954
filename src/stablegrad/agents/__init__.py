"""Algorithms, one a file. The registry is torch-free; an agent's file is imported when it is asked for."""

from stablegrad.registry import Registry

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
