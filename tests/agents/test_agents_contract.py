"""`stablegrad check`: ours and the example keep every promise, and each fault is found by its own check."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_setups import SPEC, setup
from gymnasium import spaces

from stablegrad.agents import AGENTS, contract
from stablegrad.agents.base import Agent, AgentSetup
from stablegrad.cli import main
from stablegrad.commands.check import kind_of
from stablegrad.errors import UserError
from stablegrad.nn.contract import check_trunk
from stablegrad.nn.parts import PartsBox
from stablegrad.registry import load_user_object
from stablegrad.runs.config import RunConfig
from stablegrad.training.contract import check_resume

HERE = Path(__file__).parent
EXAMPLE = f"{HERE.parents[1]}/examples/my_agent.py:MyAgent"
SEEDS, COME, LOSS, EVALUATION, ENDS = "same seed", "batches come", "pure function", "evaluation is", "time-out"
LIVES, PRESSES, REWARDS = "a lost life", "what was pressed", "rewards are clipped"
OWN = {
    "pqn": {"num_steps": 5, "num_minibatches": 2},
    "ppo": {"num_steps": 5, "num_minibatches": 2},
    "dqn": {"learning_starts": 10, "batch_size": 16},
    "rainbow": {"learning_starts": 10, "batch_size": 16},
}


PARTS = PartsBox(
    {"camera": spaces.Box(0, 255, (3, 10, 10), np.uint8), "joints": spaces.Box(-np.inf, np.inf, (3,), np.float32)}
)


def broken(name: str, **changes: Any) -> dict[str, list[str]]:
    """The broken promises of an agent, played without an environment."""
    kind, surroundings = AGENTS[name], setup(num_envs=4, **changes)
    config = kind.Config(**OWN.get(name, {}))

    def build(its_setup: AgentSetup):
        return kind(config, its_setup)

    found = contract.checks(build, surroundings, steps=20)
    return {promise: problems for promise, problems in found if problems}


def fault(name: str) -> str:
    return f"{HERE}/broken_agents.py:{name}"


@pytest.mark.parametrize("name", [*OWN, EXAMPLE])
def test_ours_and_the_example_keep_every_promise(name):
    assert broken(name) == {}


@pytest.mark.parametrize("name", [*OWN, EXAMPLE])
def test_they_keep_every_promise_on_observations_of_several_parts(name):
    assert broken(name, observation_space=PARTS) == {}


def test_continuous_ppo_keeps_every_promise_on_observations_of_several_parts():
    """It normalises the vectors among them, and their statistics are frozen in evaluation."""
    assert broken("ppo", observation_space=PARTS, action_space=spaces.Box(-1, 1, (2,), np.float32)) == {}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SoftActorCritic", []),
        ("ActorFirst", []),
        ("SaysNothingOfItsCritic", ["the group 'critic' cannot be called with what probe_inputs gives"]),
        ("NeverLearnsThePolicy", ["no parameter of the group 'actor'", "no parameter of the group 'temperature'"]),
    ],
)
def test_groups_may_come_in_any_order_and_be_left_out_of_updates_but_all_of_them_learn(name, words):
    found = broken(f"{HERE}/soft_actor_critic.py:{name}", action_space=spaces.Box(-1, 1, (2,), np.float32))
    assert set(found) <= {"every parameter group learns, and can be looked at"}
    problems = [problem for problems in found.values() for problem in problems]
    assert [word in problem for word, problem in zip(words, problems, strict=True)] == [True] * len(words)


@pytest.mark.parametrize(
    ("name", "promise", "words"),
    [
        ("GlobalExploration", SEEDS, "act differently"),
        ("GlobalInitialisation", SEEDS, "different parameters"),
        ("Seedless", SEEDS, "another seed gives the same parameters"),
        ("Silent", COME, "brought no batch"),
        ("OwnParametersLoss", LOSS, "ignores the parameters"),
        ("ForgetfulLoss", LOSS, "changes the agent's state"),
        ("RandomLoss", LOSS, "another loss or gradient the second time"),
        ("WritingLoss", LOSS, "writes into the batch"),
        ("AttachedMetrics", LOSS, "losses/loss is not a detached number"),
        ("DeafEvaluation", EVALUATION, "epsilon is ignored"),
        ("RestlessEvaluation", EVALUATION, "other actions the second time"),
        ("HastyEnds", ENDS, "does not depend on final_obs"),
        ("NextEpisode", ENDS, "does not depend on final_obs"),
        ("Endless", ENDS, "depends on the observation behind the end"),
        ("NineLives", LIVES, "depends on the observation behind a lost life"),
        ("NineLives", LIVES, "in the middle of a game changes nothing"),
        ("LivesAtTimeOuts", LIVES, "in the middle of a game changes nothing"),
        ("OneLife", LIVES, "without setup.life_loss_ends"),
        ("Unaware", PRESSES, "takes no notice"),
        ("RawRewards", REWARDS, "rewards of 5 and of 1 differ"),
        ("AlwaysClipped", REWARDS, "are the same"),
    ],
)
def test_each_fault_is_found_by_its_own_check(name, promise, words):
    found = broken(fault(name))
    (problems,) = (problems for sentence, problems in found.items() if promise in sentence)
    assert any(words in problem for problem in problems)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (None, None),
        ("LosesGenerator", "agent/explore"),
        ("LosesTarget", "agent/network/"),
        ("LosesRollout", "agent/"),
        ("Unstorable", "cannot store Random at /agent/chooser"),
    ],
)
def test_what_a_state_forgets_is_named(name, words):
    agent = EXAMPLE if name is None else fault(name)
    settings = {"env_id": "CartPole-v1", "num_envs": 4, "total_timesteps": 160, "mlp_width": 16, "mlp_depth": 1}
    _, problems = check_resume(RunConfig.resolve(agent, {**settings, "threads": 1}))
    assert problems == [] if words is None else any(words in problem for problem in problems)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NormalisedTrunk", "batch normalisation?"),
        ("DroppingTrunk", "dropout?"),
        ("PlainTrunk", "--noisy all has no effect"),
        ("HidingTrunk", "unused gets no gradient"),
        ("HidingTrunk", "not all of it"),
        ("NarrowTrunk", "gives 7 features, but was asked for 512"),
    ],
)
def test_each_fault_of_a_trunk_is_found(name, words):
    problems = [problem for _, found in check_trunk(fault(name), {}) for problem in found]
    assert any(words in problem for problem in problems)


def test_our_trunks_keep_every_promise():
    for name in ("default", "residual", "multiskip_residual", "densenet"):
        small = {"mlp_width": SPEC.mlp_width, "mlp_depth": 1}
        assert [problem for _, found in check_trunk(name, small) for problem in found] == []


def test_the_command_says_what_is_broken_and_exits_with_1(capsys):
    assert main(["check", fault("Endless"), "--threads", "1", "--total_timesteps", "200"]) == 1
    printed = capsys.readouterr().out
    assert "FAIL  a time-out bootstraps" in printed
    assert "ok    stopped three times" in printed
    assert printed.splitlines()[-1] == "1 broken"


def test_code_that_raises_is_told_with_its_line(capsys):
    assert main(["check", fault("Raises")]) == 1
    assert "ZeroDivisionError: a mistake of mine" in capsys.readouterr().out


def test_encoders_and_environments_are_checked_too(capsys):
    assert main(["check", fault("MeanEncoder"), "--env_id", "MinAtar/Breakout"]) == 0
    assert "every promise is kept" in capsys.readouterr().out
    assert main(["check", "CartPole-v1"]) == 0


def test_kinds_are_told_apart_and_strangers_refused():
    names = {"dqn": "agent", "densenet": "trunk", "impala": "encoder", "CartPole-v1": "environment"}
    names |= {fault("Endless"): "agent", fault("PlainTrunk"): "trunk", fault("MeanEncoder"): "encoder"}
    assert {name: kind_of(name) for name in names} == names
    with pytest.raises(UserError, match="cannot tell what"):
        kind_of(fault("not_a_thing"))


def test_the_example_is_short_enough_to_read():
    path = Path(EXAMPLE.rpartition(":")[0])
    assert len(path.read_text().splitlines()) <= 100
    assert issubclass(load_user_object(EXAMPLE), Agent)
