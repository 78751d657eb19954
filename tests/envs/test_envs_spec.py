"""What flags resolve to, and what is refused before anything is built."""

import dataclasses
import subprocess
import sys

import pytest
from envs_by_hand import LADDER

from stablegrad.envs import EnvSpec
from stablegrad.errors import UserError

# sticky, life loss, all 18 actions, no-ops, fire, clip, epsilon: ecosystem notes, section 4.3, row by row.
TABLE = {
    "published": (0.0, "signal", False, 30, True, True, 0.005),
    "machado2018": (0.25, "none", True, 0, False, True, 0.001),
    "cleanrl": (0.0, "signal", False, 30, True, True, 0.01),
    "atari100k": (0.0, "signal", False, 30, False, True, 0.001),
}


@pytest.mark.parametrize("protocol", TABLE)
def test_a_protocol_is_its_row_of_the_table(protocol):
    spec = EnvSpec.resolve({"env_id": "Qbert-v5", "protocol": protocol})
    assert (
        spec.repeat_action_probability,
        spec.life_loss,
        spec.full_action_space,
        spec.noop_max,
        spec.fire_reset,
        spec.reward_clip,
        spec.eval_epsilon,
    ) == TABLE[protocol]
    assert (spec.protocol, spec.frame_skip, spec.frame_stack) == (protocol, 4, 4)
    assert spec.max_episode_steps * spec.frame_skip == 108_000
    assert spec.eval_max_episode_steps == 27_000


def test_nothing_given_is_the_published_set_up():
    assert EnvSpec.resolve({}) == EnvSpec.resolve({"env_id": "Breakout-v5", "protocol": "published"})


@pytest.mark.parametrize("spelling", ["Breakout-v5", "ALE/Breakout-v5", "BreakoutNoFrameskip-v4", "breakout"])
def test_four_spellings_resolve_to_one_spec(spelling):
    spec = EnvSpec.resolve({"env_id": spelling})
    assert (spec.env_id, spec.backend) == ("Breakout-v5", "atari")
    assert spec == EnvSpec.resolve({})


def test_what_is_given_wins_over_the_protocol():
    spec = EnvSpec.resolve({"protocol": "machado2018", "noop_max": 1, "full_action_space": False, "protocol_": 1})
    assert (spec.noop_max, spec.full_action_space, spec.repeat_action_probability) == (1, False, 0.25)


def test_text_from_a_command_line_is_understood():
    spec = EnvSpec.resolve({"fire_reset": "false", "frame_stack": "2", "eval_epsilon": "0.05", "env_backend": "auto"})
    assert (spec.fire_reset, spec.frame_stack, spec.eval_epsilon) == (False, 2, 0.05)


@pytest.mark.parametrize(
    ("values", "backend", "canonical", "sticky", "limit"),
    [
        ({"env_id": "MinAtar/Breakout"}, "minatar", "MinAtar/Breakout", 0.1, 10_000),
        ({"env_id": "MinAtar/Breakout-v0"}, "minatar", "MinAtar/Breakout", 0.1, 10_000),
        ({"env_id": "MinAtar/SpaceInvaders-v1"}, "minatar", "MinAtar/SpaceInvaders-v1", 0.1, 10_000),
        ({"env_id": "MinAtar/space_invaders"}, "minatar", "MinAtar/SpaceInvaders", 0.1, 10_000),
        ({"env_id": "CartPole-v1"}, "gym", "CartPole-v1", 0.0, 500),
        ({"env_id": "Blackjack-v1"}, "gym", "Blackjack-v1", 0.0, None),
        ({"env_id": LADDER}, "file", LADDER, 0.0, None),
    ],
)
def test_other_back_ends_have_their_own_protocol(values, backend, canonical, sticky, limit):
    spec = EnvSpec.resolve(values)
    assert (spec.backend, spec.env_id, spec.protocol) == (backend, canonical, None)
    assert (spec.repeat_action_probability, spec.max_episode_steps, spec.eval_max_episode_steps) == (
        sticky,
        limit,
        limit,
    )
    assert (spec.frame_skip, spec.frame_stack, spec.noop_max, spec.life_loss) == (1, 1, 0, "none")
    assert (spec.reward_clip, spec.eval_epsilon) == (False, 0.0)


@pytest.mark.parametrize("env_id", ["breakout", "MinAtar/Breakout-v1", "CartPole-v1", LADDER])
def test_resolving_twice_changes_nothing(env_id):
    spec = EnvSpec.resolve({"env_id": env_id, "max_episode_steps": 100})
    assert EnvSpec.resolve(dataclasses.asdict(spec)) == spec
    assert EnvSpec(**dataclasses.asdict(spec)) == spec


def test_evaluation_has_its_own_time_limit():
    spec = EnvSpec.resolve({"env_id": "MinAtar/Breakout", "max_episode_steps": 50})
    assert spec.for_evaluation().max_episode_steps == 10_000
    assert dataclasses.replace(spec.for_evaluation(), max_episode_steps=50) == spec


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"env_id": "Brekout-v5"}, "unknown environment 'Brekout-v5' (did you mean 'Breakout-v5'?)"),
        ({"env_id": "kung_fu_mster"}, "did you mean 'KungFuMaster-v5'?"),
        ({"env_id": "Breakout-v4"}, "unknown environment 'Breakout-v4' (did you mean 'Breakout-v5'?)"),
        ({"env_id": "MinAtar/Brekout"}, "unknown environment 'MinAtar/Brekout' (did you mean 'MinAtar/Breakout'?)"),
        ({"env_id": "MinAtar/Breakout-v2"}, "known: MinAtar/Asterix, MinAtar/Breakout"),
        ({"env_id": "CartPole-v9"}, "did you mean 'CartPole-v1'?"),
        ({"env_id": "CartPole"}, "did you mean 'CartPole-v1'?"),
        ({"env_id": "no_such_package:Thing-v0"}, "the module 'no_such_package' could not be imported"),
        ({"env_id": "nowhere.py:Ladder"}, "no such file"),
        ({"env_id": LADDER.replace("Ladder", "Lader")}, "has no 'Lader' (did you mean 'Ladder'?)"),
        (
            {"env_id": LADDER.replace("Ladder", "NOT_CALLABLE")},
            "must be a callable that returns a Gymnasium environment",
        ),
        ({"protocol": "machado"}, "(did you mean 'machado2018'?)"),
        ({"life_loss": "reset"}, "--life_loss 'reset': must be one of none, signal"),
        ({"noop_max": "many"}, "--noop_max 'many': must be a whole number"),
        ({"noop_max": -1}, "--noop_max -1: must be at least 0"),
        ({"frame_skip": 0}, "--frame_skip 0: must be at least 1"),
        ({"max_episode_steps": 0}, "--max_episode_steps 0: must be at least 1"),
        ({"repeat_action_probability": 1.5}, "--repeat_action_probability 1.5: must be a probability"),
        ({"eval_epsilon": float("nan")}, "--eval_epsilon nan: must be a finite number"),
        ({"env_id": "CartPole-v1", "noop_max": 30}, "--noop_max does not apply to CartPole-v1"),
        ({"env_id": "CartPole-v1", "protocol": "published"}, "--protocol does not apply to CartPole-v1"),
        ({"env_id": "CartPole-v1", "env_backend": "envpool"}, "--env_backend does not apply to CartPole-v1"),
        ({"env_id": "MinAtar/Breakout", "full_action_space": True}, "--full_action_space does not apply to MinAtar/"),
        ({"env_id": "MinAtar/Breakout", "life_loss": "signal"}, "--life_loss does not apply to MinAtar/Breakout"),
        ({"env_id": LADDER, "frame_stack": 4}, "--frame_stack does not apply to"),
    ],
)
def test_a_mistake_is_named(values, sentence):
    with pytest.raises(UserError) as caught:
        EnvSpec.resolve(values)
    assert len(caught.value.problems) == 1
    assert sentence in caught.value.problems[0]


def test_all_mistakes_are_named_at_once():
    with pytest.raises(UserError) as caught:
        EnvSpec.resolve({"env_id": "Brekout", "noop_max": -1, "eval_epsilon": 2, "frame_stack": "four"})
    assert len(caught.value.problems) == 4
    with pytest.raises(UserError) as caught:
        EnvSpec.resolve({"env_id": "CartPole-v1", "noop_max": 3, "fire_reset": True, "max_episode_steps": 0})
    assert len(caught.value.problems) == 3


def test_envpool_must_be_there_and_plays_a_no_op(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        EnvSpec.resolve({"env_backend": "envpool", "protocol": "machado2018"})
    assert "pip install 'stablegrad[envpool]'" in caught.value.problems[0]
    assert "--noop_max 1" in caught.value.problems[1]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert EnvSpec.resolve({"env_backend": "envpool"}).backend == "envpool"


def test_a_spec_out_of_range_cannot_be_made():
    with pytest.raises(UserError, match="frame_skip 0"):
        EnvSpec(frame_skip=0)


def test_every_field_says_what_it_is():
    for field in dataclasses.fields(EnvSpec):
        assert len(field.metadata["help"]) > 20, field.name


def test_resolving_needs_neither_torch_nor_a_game():
    code = (
        "import sys; from stablegrad.envs import EnvSpec; EnvSpec.resolve({'env_id': 'MinAtar/Breakout'});"
        "print(sorted({'torch', 'ale_py', 'minatar', 'envpool'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
