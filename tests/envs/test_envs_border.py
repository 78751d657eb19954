"""What somebody else's environment returns is taken as what it means, or is one error, before any cast.

The found behaviour stands beside each error as its control: what a plain cast or assignment makes of the same value.
"""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from says_env import IMAGE, VECTOR, Says, built, says

from stablegrad.envs.border import Border, BrokenPromise
from stablegrad.envs.contract import violations
from stablegrad.errors import UserError
from stablegrad.runs.config import RunConfig

DICT = spaces.Dict({"place": VECTOR, "key": spaces.Discrete(3)})
HALF = np.full((6, 6, 3), 0.5)


def one_step(build, **values):
    return built(build, **values).step(np.zeros(1, int))


@pytest.mark.parametrize(
    ("value", "cast"),
    [
        (HALF, 0),  # floats from 0 to 1, as networks like them
        (np.full((6, 6, 3), -1), 255),
        (np.full((6, 6, 3), 256), 0),
        (np.full((6, 6, 3), np.nan), 0),
    ],
)
def test_a_cast_that_would_lose_is_an_error_that_names_environment_step_and_value(value, cast):
    with np.errstate(invalid="ignore"):
        assert (value.astype(np.uint8) == cast).all()  # as found: an agent that sees all zeros, in silence
    with pytest.raises(BrokenPromise) as caught:
        one_step(says(IMAGE, value))
    (sentence,) = caught.value.problems
    assert sentence.startswith("Says-v0, environment 0, at step 1 of the episode with seed ")
    assert (
        f"the observation at [0, 0, 0] is {value[0, 0, 0]} ({value.dtype}), which the promised uint8 cannot" in sentence
    )


@pytest.mark.parametrize("value", [1e300, -1e300, np.inf, np.nan])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_float32_cannot_hold_is_an_error(value, dtype):
    with np.errstate(over="ignore"):
        assert not np.isfinite(np.float32(value))  # as found: it goes into the network
    space = spaces.Box(-np.inf, np.inf, (3,), dtype)
    with pytest.raises(BrokenPromise, match=r"at \[1\] is (-?1e\+300|inf|nan)"):
        one_step(says(space, np.array([0, value, 0]), first=np.zeros(3)))


@pytest.mark.parametrize("obs", [np.zeros(1), np.zeros(5), np.zeros((3, 1)), np.zeros((1, 3)), np.zeros(0)])
def test_another_shape_is_an_error(obs):
    if obs.size == 1:
        shown = np.empty(3)
        shown[:] = obs  # as found: spread over all places
        assert shown.tolist() == [0, 0, 0]
    with pytest.raises(BrokenPromise, match=r"has shape \(\S+\), and \(3,\) is promised"):
        one_step(says(VECTOR, obs))


@pytest.mark.parametrize("obs", ["abc", {"a": 1}, object(), np.array(["x"] * 3), [1, [2], 3]])
def test_what_is_no_array_of_numbers_is_an_error(obs):
    with pytest.raises(BrokenPromise, match=r"an array \(3,\) of float32 is promised"):
        one_step(says(VECTOR, obs))


@pytest.mark.parametrize(("entry", "within"), [(10.0, True), (np.nextafter(np.float32(10), 11), False), (-10.5, False)])
def test_a_number_outside_its_bounds_is_an_error(entry, within):
    build = says(VECTOR, np.array([0, 0, entry], np.float32))
    if within:
        assert one_step(build).obs[0, 2] == entry
        return
    with pytest.raises(BrokenPromise, match=rf"at \[2\] is {entry}, and -10\.0 to 10\.0 are promised"):
        one_step(build)


def test_bounds_may_be_ignored_and_what_is_not_finite_may_not():
    beyond = says(VECTOR, np.array([0, 0, 99], np.float32))
    assert one_step(beyond, check_bounds=False).obs.tolist() == [[0, 0, 99]]
    with pytest.raises(BrokenPromise, match=r"at \[1\] is inf, and finite numbers"):
        one_step(says(VECTOR, np.array([0, np.inf, 99], np.float32)), check_bounds=False)
    board = spaces.Box(0, 1, (4, 4, 2), np.uint8)
    assert one_step(says(board, board.high + 1), check_bounds=False).obs.max() == 2
    with pytest.raises(BrokenPromise, match=r"0 to 2 are promised$"):
        one_step(says(spaces.Discrete(3), 3, first=0), check_bounds=False)


def test_a_run_recorded_before_bounds_were_looked_at_goes_on_without():
    config = RunConfig.resolve("pqn", {"env_id": "CartPole-v1"})
    recorded = {name: value for name, value in config.flat().items() if name != "check_bounds"}
    assert (config.env.check_bounds, RunConfig.from_flat(recorded).env.check_bounds) == (True, False)
    assert RunConfig.from_flat(recorded).name == config.name


def test_the_environment_that_broke_its_promise_is_named():
    numbers = iter(range(3))

    def build():
        bad = next(numbers) == 1
        return says(VECTOR, np.array([0, 0, 99 if bad else 0], np.float32))()

    with pytest.raises(BrokenPromise, match=r"environment 1, at step 1 "):
        built(build, num_envs=3).step(np.zeros(3, int))


@pytest.mark.parametrize(
    ("space", "given", "seen"),
    [
        (VECTOR, np.array([1, 2, 3.5]), [1, 2, 3.5]),  # float64
        (VECTOR, [1, 2, 3], [1, 2, 3]),
        (VECTOR, np.array([1, 0, 1], bool), [1, 0, 1]),
        (spaces.Box(-1, 1, (1,), np.float32), 0.5, [0.5]),
        (spaces.Box(-1, 1, (), np.float32), np.array([0.5]), [0.5]),
        (spaces.Discrete(3), 2, [0, 0, 1]),
        (spaces.Discrete(3), np.array([2]), [0, 0, 1]),
        (spaces.Discrete(3, start=-1), -1.0, [1, 0, 0]),
        (spaces.MultiDiscrete([2, 3], start=[0, 5]), [1, 5], [0, 1, 1, 0, 0]),
        (spaces.MultiBinary(3), [True, False, True], [1, 0, 1]),
        (DICT, {"key": np.int64(1), "place": [1, 2, 3]}, [0, 1, 0, 1, 2, 3]),
        (spaces.Tuple([spaces.Discrete(2), VECTOR]), (1, [1, 2, 3]), [0, 1, 1, 2, 3]),
    ],
)
def test_what_can_only_mean_one_thing_is_taken_as_that(space, given, seen):
    env = built(says(space, given, first=given))
    assert env.obs.tolist() == [seen]
    assert env.step(np.zeros(1, int)).obs.tolist() == [seen]


def test_bytes_may_come_in_any_type_that_holds_them_exactly():
    image = np.arange(108).reshape(6, 6, 3)
    for dtype in (np.uint8, np.int64, np.float32):
        obs = one_step(says(IMAGE, image.astype(dtype))).obs
        assert np.array_equal(obs[0], image.transpose(2, 0, 1))
        assert obs.dtype == np.uint8


@pytest.mark.parametrize(
    ("space", "given", "said"),
    [
        (spaces.Discrete(3), 3, r"is 3, and 0 to 2 are promised"),
        (spaces.Discrete(3), -1, r"is -1, and 0 to 2 are promised"),
        (spaces.Discrete(3), 1.5, r"is 1\.5 \(float64\), which the promised int64 cannot hold"),
        (spaces.Discrete(3), None, r"the observation is None, and a number \(int64\) is promised"),
        (spaces.MultiDiscrete([2, 3]), [1, 3], r"at \[1\] is 3, and 0 to 2 are promised"),
        (spaces.MultiBinary(2), [0, 2], r"at \[1\] is 2\.0, and 0 to 1 are promised|at \[1\] is 2, and 0 to 1"),
        (DICT, {"key": 1}, r"the observation has no \['place'\]"),
        (DICT, {"key": 1, "place": [1, 2, 3], "more": 1}, r"has \['more'\], which the space has not"),
        (DICT, {"key": 1, "place": [1, 2]}, r"the observation\['place'\] has shape \(2,\)"),
        (DICT, [1, [1, 2, 3]], r"the observation is a list of 2, and a dict is promised"),
        (spaces.Tuple([VECTOR, VECTOR]), ([1, 2, 3],), r"and a tuple of 2 is promised"),
    ],
)
def test_what_has_no_place_is_an_error(space, given, said):
    first = DICT.sample() if space is DICT else space.sample()
    with pytest.raises(BrokenPromise, match=said):
        one_step(says(space, given, first=first))


@pytest.mark.parametrize(
    ("reward", "meant"),
    [(np.array([2.5]), 2.5), (np.float32(2.5), 2.5), (np.array([[3]]), 3.0), (3, 3.0), (True, 1.0), ([1.5], 1.5)],
)
def test_a_reward_is_one_number_however_it_comes(reward, meant):
    assert one_step(says(VECTOR, reward=reward)).reward.tolist() == [meant]


@pytest.mark.parametrize("reward", [None, "1", np.zeros(2), [], np.nan, np.inf, 1e300, 1j])
def test_what_is_not_one_finite_number_is_no_reward(reward):
    with pytest.raises(BrokenPromise, match=r"at step 1 .*: the reward is .* is promised"):
        one_step(says(VECTOR, reward=reward))


@pytest.mark.parametrize("raw", [np.True_, np.array([True]), np.array(True), 1, np.int64(1), [True]])
def test_an_end_is_true_however_it_comes(raw):
    step = one_step(says(VECTOR, ended=raw))
    assert step.terminated.tolist() == [True]
    assert step.truncated.tolist() == [False]


@pytest.mark.parametrize("raw", [None, "no", 2, 0.5, np.array([True, False]), {}])
def test_what_is_not_true_or_false_is_no_end(raw):
    with pytest.raises(BrokenPromise, match=r"terminated is .*, and true or false is promised"):
        one_step(says(VECTOR, ended=raw))


@pytest.mark.parametrize("lives", [2, np.int64(2), np.array([2]), np.array([[2.0]])])
def test_lives_are_a_number_however_they_come(lives):
    env = built(
        lambda: Says(VECTOR, (VECTOR.low, {"lives": 3}), lambda t: (VECTOR.low, 0.0, False, False, {"lives": lives}))
    )
    assert env.step(np.zeros(1, int)).life_lost.tolist() == [True]
    assert env.step(np.zeros(1, int)).life_lost.tolist() == [False]


@pytest.mark.parametrize("lives", [None, "three", np.array([1, 2]), 1.5, np.nan])
def test_what_is_no_whole_number_is_no_lives(lives):
    with pytest.raises(BrokenPromise, match=r"info\['lives'\] is .*, and a whole number is promised"):
        built(says(VECTOR, lives=lives))


@pytest.mark.parametrize(
    ("done", "info", "ends"),
    [
        (False, {}, (False, False)),
        (True, {}, (True, False)),
        (np.True_, {"TimeLimit.truncated": True}, (False, True)),
        (True, {"TimeLimit.truncated": False}, (True, False)),
    ],
)
def test_a_step_of_gyms_old_interface_is_taken_as_what_it_means(done, info, ends):
    step = one_step(says(VECTOR, step=(VECTOR.high, 1.5, done, info)))
    assert (step.terminated.tolist(), step.truncated.tolist()) == ([ends[0]], [ends[1]])
    assert (step.reward.tolist(), step.next_obs.tolist()) == ([1.5], [[10, 10, 10]])


class OldGame(gymnasium.Env):
    """Seeded by a method, and its `reset` returns the observation alone."""

    observation_space, action_space = VECTOR, spaces.Discrete(2)

    def seed(self, seed):
        self.number = seed % 7

    def reset(self):
        return np.full(3, self.number)

    def step(self, action):
        return np.full(3, self.number), 1.0, False, {}


def test_a_game_of_gyms_old_interface_is_played_and_seeded():
    env = built(OldGame, num_envs=8, max_episode_steps=3)
    assert len(set(env.obs[:, 0].tolist())) > 1
    assert violations(lambda **options: built(OldGame, max_episode_steps=3, **_known(options))) == []


def _known(options):
    return {"num_envs": options["num_envs"]}


@pytest.mark.parametrize("step", [None, 5, (1, 2), (VECTOR.low, 1.0, False, False), (VECTOR.low, 1.0, False, {}, 1, 2)])
def test_a_step_of_no_interface_is_an_error(step):
    build = lambda: Says(VECTOR, (VECTOR.low, {}), lambda t: step)  # noqa: E731
    with pytest.raises(BrokenPromise, match=r"not \(observation, reward, terminated, truncated, info\)"):
        one_step(build)


@pytest.mark.parametrize("info", [None, [], "info"])
def test_info_is_a_dict(info):
    with pytest.raises(BrokenPromise, match=r"info is .*, and a dict is promised"):
        one_step(lambda: Says(VECTOR, (VECTOR.low, {}), lambda t: (VECTOR.low, 1.0, False, False, info)))


def test_a_reset_that_cannot_be_seeded_is_refused():
    class Unseedable(OldGame):
        seed = None

    with pytest.raises(UserError, match=r"its reset takes no seed; write `def reset"):
        built(Unseedable)


class Raises(Says):
    def step(self, action):
        raise KeyError("door")


class Quits(Says):
    def reset(self, *, seed=None, options=None):
        raise SystemExit(0)


def test_an_environment_without_spaces_is_refused():
    class Bare(OldGame):
        action_space = None

    with pytest.raises(UserError, match="Says-v0 has no action_space: set it to one of"):
        built(Bare)


def test_copies_with_other_spaces_are_refused():
    sizes = iter((3, 3, 4))
    with pytest.raises(UserError, match=r"environment 2 has other spaces \(Box\(-1\.0, 1\.0, \(4,\), float32\)"):
        built(lambda: says(spaces.Box(-1, 1, (next(sizes),), np.float32))(), num_envs=3)


def test_what_an_environment_raises_is_one_error_that_says_where():
    with pytest.raises(
        BrokenPromise, match=r"at step 1 .*: step\(0 \(int\)\) ended with KeyError: 'door' \(.*line \d+\)"
    ):
        one_step(lambda: Raises(VECTOR, (VECTOR.low, {}), None))
    with pytest.raises(BrokenPromise, match=r"at its reset .*: reset ended with a call of sys\.exit\(0\)"):
        built(lambda: Quits(VECTOR, None, None))


def test_before_the_first_step_it_is_bad_usage_and_later_a_failure():
    for build, code in ((says(VECTOR, first=np.full(3, 99)), 2), (says(VECTOR, np.full(3, 99)), 1)):
        with pytest.raises(BrokenPromise) as caught:
            one_step(build)
        assert caught.value.exit_code == code


def test_every_environment_is_closed_where_the_first_reset_fails():
    closed = []

    class Watched(Says):
        def close(self):
            closed.append(self)

    with pytest.raises(BrokenPromise):
        built(lambda: Watched(VECTOR, (np.full(3, 99), {}), None), num_envs=3)
    assert len(closed) == 3


def test_the_checks_see_what_comes_and_not_what_a_cast_made_of_it():
    """As found, the checks looked behind the cast, where zeros are as good as any bytes."""
    found = violations(lambda num_envs, **_: built(says(IMAGE, HALF), num_envs=num_envs))
    assert [sentence.partition(": ")[2] for sentence in found] == [
        "the observation at [0, 0, 0] is 0.5 (float64), which the promised uint8 cannot hold: return what the"
        " observation space says, or declare a space of the numbers that are returned"
    ]
    assert violations(lambda num_envs, **_: built(says(IMAGE, np.full((6, 6, 3), 5)), num_envs=num_envs)) == []


def test_a_border_counts_the_steps_of_an_episode():
    border = Border(says(VECTOR)(), name="mine", number=4)
    border.reset(17)
    for _ in range(3):
        border.step(0)
    assert str(border.broken("what")) == "mine, environment 4, at step 3 of the episode with seed 17: what"
