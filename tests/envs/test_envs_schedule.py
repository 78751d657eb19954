"""The grammar of task schedules: what it says, and what it refuses with every mistake at once."""

import pytest

from stablegrad.envs import EnvSpec
from stablegrad.envs.schedule import GameTask, equal_change_points, parse_schedule, parse_task
from stablegrad.errors import UserError

BREAKOUT, ASTERIX = "MinAtar/Breakout", "MinAtar/Asterix"


def problems_of(call, *arguments, **named):
    with pytest.raises(UserError) as raised:
        call(*arguments, **named)
    return list(raised.value.problems)


def test_a_task_is_a_game_and_its_changes_in_any_order():
    task = parse_task("MinAtar/Breakout-v0 + permute_obs:7 + flip_reward")
    assert task == GameTask(env_id=BREAKOUT, flip_reward=True, permute_obs=7)
    assert task.text == "MinAtar/Breakout+flip_reward+permute_obs:7"
    assert parse_task(task.text) == task


def test_the_switches_of_the_console_belong_to_atari():
    assert parse_task("breakout+mode:12+difficulty:1") == GameTask(env_id="Breakout-v5", mode=12, difficulty=1)
    (said,) = problems_of(parse_task, "MinAtar/Breakout+mode:1")
    assert "switch of the Atari console" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("MinAtar/Breakou", "did you mean 'MinAtar/Breakout'"),
        ("MinAtar/Breakout+flip_rewards", "did you mean 'flip_reward'"),
        ("MinAtar/Breakout+permute_obs", "needs a number of 0 or more, as in permute_obs:1"),
        ("MinAtar/Breakout+permute_obs:-1", "needs a number of 0 or more"),
        ("MinAtar/Breakout+permute_obs:1+permute_obs:2", "is there twice"),
        ("MinAtar/Breakout+flip_reward:1", "takes no number"),
    ],
)
def test_a_mistake_is_named(text, said):
    assert said in problems_of(parse_task, text)[0]


def test_all_mistakes_of_all_tasks_are_said_at_once():
    assert len(problems_of(parse_schedule, ["MinAtar/Asterx+foo", "Pong-v5+mode:x"])) == 3


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ([BREAKOUT], "at least two tasks"),
        ([BREAKOUT, "Pong-v5"], "mixes atari and minatar"),
        (["MinAtar/Breakout-v1", ASTERIX], "leave -v1 out"),
    ],
)
def test_tasks_have_to_fit_together(schedule, said):
    assert said in problems_of(parse_schedule, schedule)[0]


def test_tasks_of_equal_length_unless_change_points_are_given():
    assert equal_change_points(3, 100) == (33, 66)
    spec = EnvSpec.resolve({"task_schedule": f"{BREAKOUT},{ASTERIX},{BREAKOUT}"}).scheduled_over(1000)
    assert spec.env_id == BREAKOUT
    assert spec.change_points == (333, 666)
    assert [spec.task_at(step) for step in (0, 332, 333, 665, 666, 999)] == [0, 0, 1, 1, 2, 2]
    given = EnvSpec.resolve({"task_schedule": [BREAKOUT, ASTERIX], "change_points": [70]}).scheduled_over(100)
    assert [given.task_at(step) for step in (69, 70)] == [0, 1]
    # Of 8 environments, the step that ends at 72 began at 64 and belongs to task 1; alone, the 72nd is of task 2.
    assert [given.task_behind(72, num_envs=envs) for envs in (8, 1)] == [0, 1]
    assert EnvSpec.resolve({"env_id": BREAKOUT}).task_behind(72, num_envs=8) is None


@pytest.mark.parametrize(
    ("points", "said"),
    [((10, 20), "has 2 steps"), ((0,), "not rising"), ((100,), "not rising"), ((500,), "inside a run of 100")],
)
def test_change_points_lie_inside_the_run(points, said):
    spec = EnvSpec.resolve({"task_schedule": [BREAKOUT, ASTERIX], "change_points": points})
    assert said in problems_of(spec.scheduled_over, 100)[0]


def test_a_task_gives_every_environment_a_step():
    """A task begins at a vector step: a shorter one would be passed over."""
    spec = EnvSpec.resolve({"task_schedule": [BREAKOUT, ASTERIX, BREAKOUT], "change_points": (32, 40)})
    assert spec.scheduled_over(100, num_envs=8).change_points == (32, 40)
    with pytest.raises(UserError, match="a task of 8 steps is over before each of 16 environments has made one"):
        spec.scheduled_over(100, num_envs=16)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"task_schedule": [BREAKOUT, ASTERIX], "env_id": ASTERIX}, "is not the first game"),
        ({"change_points": [5], "env_id": BREAKOUT}, "needs a --task_schedule"),
        ({"task_schedule": ["Pong-v5", "Breakout-v5"], "full_action_space": False}, "different actions"),
        ({"task_schedule": ["CartPole-v1", "MountainCar-v0"]}, "different time limits"),
    ],
)
def test_what_does_not_fit_a_schedule_is_refused(values, said):
    assert any(said in problem for problem in problems_of(EnvSpec.resolve, values))


def test_different_atari_games_share_the_console_s_actions_and_one_game_keeps_its_own():
    assert EnvSpec.resolve({"task_schedule": ["Pong-v5", "Breakout-v5"]}).full_action_space
    assert not EnvSpec.resolve({"task_schedule": ["Pong-v5", "Pong-v5+mode:1"]}).full_action_space


def test_resolving_twice_changes_nothing():
    spec = EnvSpec.resolve({"task_schedule": ["Pong-v5", "breakout+mode:4"]})
    assert EnvSpec.resolve(vars(spec)) == spec
