"""PQN: targets from the values of the behaviour network, cut and bootstrapped where episodes end."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from agent_setups import Stream, build, play

SMALL = {"num_steps": 8, "num_minibatches": 1, "update_epochs": 1, "gamma": 0.9}


def targets(agent, stream) -> tuple[np.ndarray, list]:
    """The targets [T, B] of one rollout in the order of time, and its steps."""
    first, steps = stream.obs, []
    for _ in range(8):
        steps.append(stream.step(agent.act(stream.obs)))
        agent.observe(steps[-1])
    (batch,) = agent.batches()
    seen = np.stack([first, *(step.obs for step in steps[:-1])])
    order = [[(batch["obs"] == torch.from_numpy(obs)).all(-1).nonzero().item() for obs in row] for row in seen]
    return batch["targets"][torch.tensor(order)].numpy(), steps


def value(agent, obs: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return agent.network(torch.from_numpy(obs)).amax(-1).numpy()


@pytest.mark.parametrize("q_lambda", [0.0, 0.65, 1.0])
@pytest.mark.parametrize("bootstrap_truncated", [True, False])
def test_targets_are_the_lambda_returns_of_a_naive_recursion(q_lambda, bootstrap_truncated):
    agent = build("pqn", {**SMALL, "q_lambda": q_lambda, "bootstrap_truncated": bootstrap_truncated})
    found, steps = targets(agent, Stream(truncated=(3,), terminated=(6,)))
    after = None
    for t in reversed(range(8)):
        step, successor = steps[t], value(agent, steps[t].obs)
        if step.terminated.any():
            expected = step.reward
        elif step.truncated.any():
            expected = step.reward + 0.9 * value(agent, step.final_obs) * bootstrap_truncated
        elif after is None:
            expected = step.reward + 0.9 * successor
        else:
            expected = step.reward + 0.9 * ((1 - q_lambda) * successor + q_lambda * after)
        np.testing.assert_allclose(found[t], expected, rtol=0, atol=1e-5)
        after = expected


def test_a_lost_life_ends_the_return_only_where_the_protocol_says_so():
    for ends in (False, True):
        agent = build("pqn", {**SMALL, "q_lambda": 1.0}, life_loss_ends=ends, reward_clip=True)
        stream = Stream()
        step = stream.step

        def lose_lives(actions, step=step):
            return replace(step(actions), life_lost=np.ones(2, bool), reward=np.full(2, 3.0, np.float32))

        stream.step = lose_lives
        found, _ = targets(agent, stream)
        assert (found == 1.0).all() == ends  # the clipped reward alone


def test_the_learning_rate_stands_still_unless_it_is_annealed():
    for anneal, expected in ((False, [1.0, 1.0]), (True, [1.0, 0.75])):
        agent = build("pqn", {**SMALL, "anneal_lr": anneal}, total_steps=64)
        factors = []
        for _ in range(2):
            for _ in range(7):
                play(agent, Stream(), 1)
            agent.observe(Stream().step(agent.act(Stream().obs)))
            factors.append(agent.learning_rate_factor("q"))
            list(agent.batches())
        assert factors == expected
