"""What was pressed in an agent's place: on-policy agents leave it out, replays store what was played."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from agent_setups import Stream, build

PRESSED = {2: [3, -1], 3: [-1, 1], 5: [0, 2]}
"""Vector step of the rollout -> what is pressed in each of its two environments; -1: nothing."""


def observed(agent, steps):
    """The observations [T, 2, 3] that were acted on, the agent's actions [T, 2], and what was pressed."""
    stream = Stream()
    seen, actions = [], []
    for t in range(steps):
        seen.append(stream.obs)
        actions.append(agent.act(stream.obs))
        step = stream.step(actions[-1])
        agent.observe(replace(step, pressed=np.array(PRESSED.get(t, [-1, -1]))))
    return np.stack(seen), np.stack(actions)


@pytest.mark.parametrize("algo", ["pqn", "ppo"])
def test_an_on_policy_agent_learns_from_its_own_actions_alone(algo):
    agent = build(algo, {"num_steps": 8, "num_minibatches": 2, "update_epochs": 1})
    seen, actions = observed(agent, 8)
    batches = list(agent.batches())
    learnt = {tuple(row.tolist()): int(a) for b in batches for row, a in zip(b["obs"], b["actions"], strict=True)}
    chosen = np.array([[press < 0 for press in PRESSED.get(t, [-1, -1])] for t in range(8)])
    own = zip(seen[chosen], actions[chosen], strict=True)
    assert learnt == {tuple(obs.tolist()): int(action) for obs, action in own}
    assert [len(b["obs"]) for b in batches] == [6, 6], "16 rows, 4 of them pressed"


@pytest.mark.parametrize("algo", ["pqn", "ppo"])
def test_a_checkpoint_of_before_there_were_presses_has_chosen_everything(algo):
    agent = build(algo, {"num_steps": 8, "num_minibatches": 2, "update_epochs": 1})
    observed(agent, 4)
    state = agent.state_dict()
    del state["rollout"]["fields"]["chosen"]
    restored = build(algo, {"num_steps": 8, "num_minibatches": 2, "update_epochs": 1})
    restored.load_state_dict(state)
    observed(restored, 4)
    assert sum(len(batch["obs"]) for batch in restored.batches()) == 14, "of the second four steps two were pressed"


@pytest.mark.parametrize("algo", ["dqn", "rainbow"])
def test_a_replay_stores_what_was_played(algo):
    agent = build(algo, {"learning_starts": 4, "batch_size": 4, "buffer_size": 100})
    _, actions = observed(agent, 8)
    pressed = np.array([PRESSED.get(t, [-1, -1]) for t in range(8)])
    stored = agent.experience.replay.gather(np.arange(16)).action.reshape(8, 2)
    assert stored.tolist() == np.where(pressed < 0, actions, pressed).tolist()
    assert stored.tolist() != actions.tolist()


def test_a_minibatch_of_one_row_has_no_advantage():
    from stablegrad.rl.losses import normalized

    assert normalized(torch.tensor([3.0])).tolist() == [0.0]
    assert normalized(torch.tensor([1.0, 3.0])).tolist() == pytest.approx([-(0.5**0.5), 0.5**0.5], abs=1e-7)
