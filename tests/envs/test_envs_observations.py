"""What an agent sees of an environment's observations, shape by shape."""

import numpy as np
import pytest
from gymnasium import spaces
from says_env import VECTOR, built, says

from stablegrad.envs import EnvSpec, make
from stablegrad.envs.border import BrokenPromise
from stablegrad.envs.contract import violations
from stablegrad.envs.observations import Observations, channels_last
from stablegrad.errors import UserError
from stablegrad.nn.parts import PartsBox


def as_found(shape):
    """The old guess: of the first and the last axis the shorter is the channels."""
    return not shape[0] < shape[-1]


@pytest.mark.parametrize(
    ("shape", "last"),
    [
        ((210, 160, 3), True),
        ((3, 210, 160), False),
        ((84, 84, 1), True),
        ((4, 84, 84), False),
        ((84, 84, 4), True),
        ((10, 10, 7), True),
        ((7, 10, 10), False),
        ((19, 19, 17), True),
        ((17, 19, 19), False),
        ((6, 7, 2), True),
        ((4, 5, 3), True),
        ((3, 4, 5), False),
    ],
)
def test_a_shape_that_tells_where_the_channels_are_is_believed(shape, last):
    assert channels_last(shape, "auto") is last is as_found(shape)


@pytest.mark.parametrize(
    "shape", [(8, 8, 8), (10, 10, 12), (7, 7, 20), (12, 10, 10), (6, 7, 20), (5, 3, 5), (8, 8, 111)]
)
def test_a_shape_that_does_not_tell_is_an_error_that_names_the_flag(shape):
    """As found, [7, 7, 20] and [10, 10, 12] were read as planes first."""
    space = spaces.Box(0, 1, shape, np.uint8)
    with pytest.raises(UserError, match=r"say --image_layout channels_first, channels_last, or flat"):
        built(says(space))
    rows, columns, planes = shape
    assert built(says(space), image_layout="channels_last").observation_space.shape == (planes, rows, columns)
    assert built(says(space), image_layout="channels_first").observation_space.shape == shape
    assert built(says(space), image_layout="flat").observation_space.shape == (rows * columns * planes,)


def test_the_layout_that_is_named_wins_over_the_shape():
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    space = spaces.Box(0, 255, image.shape, np.uint8)
    seen = {
        layout: built(says(space, first=image), image_layout=layout).obs[0] for layout in ("auto", "channels_first")
    }
    assert np.array_equal(seen["auto"], image.transpose(2, 0, 1))
    assert np.array_equal(seen["channels_first"], image)


@pytest.mark.parametrize(
    ("space", "shape", "dtype"),
    [
        (spaces.Box(0, 1, (12, 12, 3), np.float32), (3, 12, 12), np.float32),  # as found: a vector of 432
        (spaces.Box(0, 9, (6, 7, 2), np.int64), (2, 6, 7), np.float32),
        (spaces.Box(0, 1, (10, 10, 4), np.bool_), (4, 10, 10), np.uint8),
        (spaces.Box(0, 255, (10, 10), np.uint8), (1, 10, 10), np.uint8),
        (spaces.Box(0, 255, (4, 20, 16, 3), np.uint8), (12, 20, 16), np.uint8),  # a stack of colours: a vector of 3840
        (spaces.Box(0, 255, (4, 3, 20, 16), np.uint8), (12, 20, 16), np.uint8),
        (spaces.Box(-1, 1, (4, 6), np.float32), (24,), np.float32),  # a stack of vectors
        (spaces.Box(0, 255, (2, 3, 1), np.uint8), (6,), np.float32),  # too small for any convolution
        (spaces.Box(0, 255, (6,), np.uint8), (6,), np.float32),
    ],
)
def test_what_is_an_image_and_what_a_vector(space, shape, dtype):
    env = built(says(space))
    assert env.observation_space.shape == shape
    assert env.observation_space.dtype == dtype
    assert violations(lambda num_envs, **_: built(says(space, space.high), num_envs=num_envs), steps=12) == []


def test_a_stack_of_images_has_its_channels_one_behind_another():
    stack = np.arange(2 * 5 * 4 * 3, dtype=np.uint8).reshape(2, 5, 4, 3)
    seen = built(says(spaces.Box(0, 255, stack.shape, np.uint8), first=stack)).obs[0]
    for number in range(6):
        assert np.array_equal(seen[number], stack[number // 3, :, :, number % 3])


def test_a_layout_without_an_image_is_an_error():
    with pytest.raises(UserError, match="--image_layout channels_last: there is no image in the observations"):
        built(says(VECTOR), image_layout="channels_last")
    with pytest.raises(UserError, match="--image_layout does not apply to MinAtar/Breakout"):
        EnvSpec.resolve({"env_id": "MinAtar/Breakout", "image_layout": "flat"})


ROBOT = spaces.Dict(
    {
        "camera": spaces.Box(0, 255, (48, 48, 3), np.uint8),
        "arm": spaces.Dict({"angles": spaces.Box(-4, 4, (2,), np.float64), "grip": spaces.Discrete(3)}),
    }
)


def robot(place=(1.5, -2.0)):
    image = np.arange(48 * 48 * 3).reshape(48, 48, 3).astype(np.uint8)
    return {"camera": image, "arm": {"angles": np.array(place), "grip": 2}}


def test_a_dict_with_an_image_travels_as_the_bytes_of_its_parts():
    env = built(says(ROBOT, robot(), first=robot()), num_envs=2)
    space = env.observation_space
    assert isinstance(space, PartsBox)
    assert [(part.name, part.space.shape, part.space.dtype) for part in space.parts] == [
        ("arm/angles", (2,), np.float32),
        ("arm/grip", (3,), np.float32),
        ("camera", (3, 48, 48), np.uint8),
    ]
    for obs in (env.obs, env.step(np.zeros(2, int)).obs):
        seen = space.apart(obs)
        assert seen["arm/angles"].tolist() == [[1.5, -2.0]] * 2
        assert seen["arm/grip"].tolist() == [[0, 0, 1]] * 2
        assert np.array_equal(seen["camera"][1], robot()["camera"].transpose(2, 0, 1))
    assert (
        violations(lambda num_envs, **_: built(says(ROBOT, robot(), first=robot()), num_envs=num_envs), steps=12) == []
    )


def test_as_found_it_was_one_vector_of_bytes_and_angles_and_is_on_request():
    flat = built(says(ROBOT, first=robot()), image_layout="flat")
    assert flat.observation_space.shape == spaces.flatten_space(ROBOT).shape == (6917,)
    assert np.allclose(flat.obs[0], spaces.flatten(ROBOT, robot()))


@pytest.mark.parametrize(
    ("obs", "said"),
    [
        (robot(place=(0, 5)), r"the observation\['arm'\]\['angles'\] at \[1\] is 5\.0, and -4\.0 to 4\.0 are promised"),
        (robot(place=(np.nan, 0)), r"the observation\['arm'\]\['angles'\] at \[0\] is nan"),
        ({**robot(), "camera": np.full((48, 48, 3), 0.5)}, r"the observation\['camera'\] at \[0, 0, 0\] is 0\.5"),
    ],
)
def test_a_part_that_breaks_its_promise_is_named(obs, said):
    with pytest.raises(BrokenPromise, match=said):
        built(says(ROBOT, obs, first=robot())).step(np.zeros(1, int))


def test_a_dict_of_vectors_is_one_vector():
    """Its layer for each key is the trunk's first one: a linear layer of all is the sum of one for each."""
    space = spaces.Dict({"goal": VECTOR, "place": VECTOR})
    assert Observations(space).space == spaces.Box(-10, 10, (6,), np.float32)


def test_parts_with_one_name_are_refused():
    image = spaces.Box(0, 255, (12, 12, 3), np.uint8)
    with pytest.raises(UserError, match="have one name"):
        Observations(spaces.Dict({"a": spaces.Dict({"b": image}), "a/b": image}))


def test_runs_of_the_first_version_read_observations_as_they_did():
    """The shorter of the first and the last axis of bytes that are alone, the last if equal; all else is one vector."""
    camera = spaces.Dict({"speed": spaces.Box(-1, 1, (2,), np.float32), "eye": spaces.Box(0, 255, (9, 9, 3), np.uint8)})
    shown = {
        (10, 10, 12): (10, 10, 12),
        (12, 10, 7): (7, 12, 10),
        (8, 8, 8): (8, 8, 8),
        (10, 5): (1, 10, 5),
    }  # fmt: skip
    for shape, expected in shown.items():
        assert Observations(spaces.Box(0, 1, shape, np.uint8), "shorter").space.shape == expected
    cube = np.arange(512, dtype=np.uint8).reshape(8, 8, 8)
    row = np.empty((8, 8, 8), np.uint8)
    Observations(spaces.Box(0, 255, (8, 8, 8), np.uint8), "shorter").show([cube], row)
    assert np.array_equal(row, cube.transpose(2, 0, 1))
    for space, numbers in ((spaces.Box(0, 1, (6, 6, 3), np.float32), 108), (camera, 245)):
        old = Observations(space, "shorter")
        assert old.space == spaces.Box(
            spaces.flatten_space(space).low.astype(np.float32), spaces.flatten_space(space).high.astype(np.float32)
        )
        sample, row = space.sample(), np.empty(numbers, np.float32)
        arrays = [sample[key] for key in space.spaces] if isinstance(space, spaces.Dict) else [sample]
        old.show(arrays, row)
        assert np.array_equal(row, spaces.flatten(space, sample).astype(np.float32))
        assert Observations(space).space.shape != (numbers,), "the control: today's reading is another one"


def test_a_schedule_shows_the_parts_of_its_games_and_moves_none_of_their_places(tmp_path):
    (tmp_path / "robot.py").write_text(_ROBOT)
    task = f"{tmp_path}/robot.py:Robot"
    spec = EnvSpec.resolve({"task_schedule": [task, f"{task}+flip_reward"], "change_points": [4]})
    env = make(spec, num_envs=1, seed=1)
    assert isinstance(env.observation_space, PartsBox)
    steps = [env.step(np.zeros(1, int)) for _ in range(6)]
    assert [step.reward.tolist() for step in steps] == [[1.0]] * 4 + [[-1.0]] * 2
    assert env.observation_space.apart(env.obs)["touch"].tolist() == [[1.0, 1.0]]
    with pytest.raises(UserError, match="permute_obs changes the order of one image or one vector"):
        make(
            EnvSpec.resolve({"task_schedule": [task, f"{task}+permute_obs:1"], "change_points": [4]}),
            num_envs=1,
            seed=1,
        )


_ROBOT = """
import gymnasium
import numpy as np
from gymnasium import spaces


class Robot(gymnasium.Env):
    observation_space = spaces.Dict(
        {"camera": spaces.Box(0, 255, (6, 6, 3), np.uint8), "touch": spaces.Box(-1, 1, (2,), np.float32)}
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return self._look(), {}

    def step(self, action):
        return self._look(), 1.0, False, False, {}

    def _look(self):
        return {"camera": np.zeros((6, 6, 3), np.uint8), "touch": np.ones(2, np.float32)}
"""
