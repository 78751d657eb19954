"""Facts about Gymnasium's environments and a user's own file."""

import gymnasium
import numpy as np
import pytest
from envs_by_hand import LADDER
from gymnasium import spaces

from stablegrad.envs import EnvSpec, make, single
from stablegrad.envs.contract import violations
from stablegrad.errors import UserError


def user_file(tmp_path, body):
    """An id for an environment whose class body is `body`."""
    path = tmp_path / "mine.py"
    header = "import gymnasium\nimport numpy as np\nfrom gymnasium import spaces\n\n\nclass Mine(gymnasium.Env):\n"
    path.write_text(header + "".join(f"    {line}\n" for line in body.strip().splitlines()))
    return f"{path}:Mine"


def built(env_id, num_envs=1, **values):
    return make(EnvSpec.resolve({"env_id": env_id, **values}), num_envs=num_envs, seed=1)


IMAGES = """
observation_space = spaces.Box(0, 255, {shape}, np.uint8)
action_space = spaces.Discrete(2, start=3)

def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return self.observation_space.low, {{}}

def step(self, action):
    assert 3 <= action <= 4
    image = np.arange(np.prod(self.observation_space.shape), dtype=np.uint8).reshape(self.observation_space.shape)
    return image, float(action), False, False, {{}}
"""


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        ((4, 5, 3), np.arange(60).reshape(4, 5, 3).transpose(2, 0, 1)),
        ((3, 4, 5), np.arange(60).reshape(3, 4, 5)),
        ((4, 5), np.arange(20).reshape(1, 4, 5)),
    ],
)
def test_images_come_channels_first(tmp_path, shape, seen):
    env = built(user_file(tmp_path, IMAGES.format(shape=shape)))
    step = env.step(np.array([1]))
    assert np.array_equal(step.obs[0], seen)
    assert env.observation_space == spaces.Box(0, 255, seen.shape, np.uint8)


def test_actions_count_from_zero(tmp_path):
    env = built(user_file(tmp_path, IMAGES.format(shape=(4, 5))), num_envs=2)
    assert env.action_space == spaces.Discrete(2)
    assert env.step(np.array([0, 1])).reward.tolist() == [3.0, 4.0]


def test_bytes_that_are_no_image_are_a_vector(tmp_path):
    env = built(user_file(tmp_path, IMAGES.format(shape=(6,))))
    assert env.observation_space.dtype == np.float32
    assert env.step(np.array([0])).obs.tolist() == [[0, 1, 2, 3, 4, 5]]


def test_discrete_observations_are_one_hot():
    env = built("FrozenLake-v1")
    assert env.observation_space.shape == (16,)
    assert env.obs[0].tolist() == [1.0] + [0.0] * 15


def test_composed_observations_are_flattened():
    env = built("Blackjack-v1")
    assert env.observation_space.shape == (32 + 11 + 2,)
    assert env.obs.sum() == 3


def test_box_actions_are_clipped_to_their_bounds():
    """Pendulum's torque is bounded by 2: what is beyond makes no difference, what is within does."""
    outcomes = []
    for torque in (2.0, 50.0, 1.0):
        env = built("Pendulum-v1")
        assert env.action_space.shape == (1,)
        step = env.step(np.full((1, 1), torque, np.float32))
        outcomes.append((step.obs.tolist(), step.reward.tolist()))
    assert outcomes[0] == outcomes[1] != outcomes[2]
    assert violations(lambda **o: make(EnvSpec.resolve({"env_id": "Pendulum-v1"}), **o), steps=220) == []


def test_the_registered_time_limit_truncates():
    env = built("Pendulum-v1")
    steps = [env.step(np.zeros((1, 1), np.float32)) for _ in range(200)]
    assert [step.truncated[0] for step in steps].index(True) == 199
    assert not any(step.terminated[0] for step in steps)


def test_a_longer_time_limit_may_be_asked_for():
    env = built("Pendulum-v1", max_episode_steps=250)
    assert not any(env.step(np.zeros((1, 1), np.float32)).truncated[0] for _ in range(249))
    assert env.step(np.zeros((1, 1), np.float32)).truncated[0]


def test_episodes_are_those_of_gymnasium_for_their_seeds():
    env = built("CartPole-v1", num_envs=2)
    from stablegrad.envs.base import episode_seed

    for slot in range(2):
        first, _ = gymnasium.make("CartPole-v1").reset(seed=episode_seed(1, slot, 0))
        assert np.array_equal(env.obs[slot], first)


@pytest.mark.parametrize(("name", "extra"), [("box2d", "box2d"), ("mujoco", "mujoco")])
def test_a_missing_extra_is_named(monkeypatch, name, extra):
    def fails(*args, **kwargs):
        raise gymnasium.error.DependencyNotInstalled(f'{name.upper()} is not installed, run `pip install "x[{name}]"`')

    monkeypatch.setattr(gymnasium, "make", fails)
    env_id = {"box2d": "LunarLander-v3", "mujoco": "HalfCheetah-v5"}[name]
    with pytest.raises(UserError, match=rf"{env_id}: {name} is not installed: pip install 'stablegrad\[{extra}\]'"):
        built(env_id)


def test_another_missing_package_is_named(monkeypatch):
    def fails(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'jax'")

    monkeypatch.setattr(gymnasium, "make", fails)
    with pytest.raises(UserError, match=r"a package that it needs is not installed .*jax"):
        built("phys2d/CartPole-v1")


def test_what_is_no_environment_is_refused():
    with pytest.raises(UserError, match="returns a str, not a Gymnasium environment"):
        built(LADDER.replace("Ladder", "not_an_environment"))


def test_actions_of_another_kind_are_refused(tmp_path):
    body = "observation_space = spaces.Box(0, 1, (1,), np.float32)\naction_space = spaces.Text(5)"
    with pytest.raises(UserError, match="only Discrete and continuous Box actions"):
        built(user_file(tmp_path, body))


def test_observations_without_a_fixed_size_are_refused(tmp_path):
    body = "observation_space = spaces.Sequence(spaces.Discrete(3))\naction_space = spaces.Discrete(2)"
    with pytest.raises(UserError, match="cannot be made an array of fixed size"):
        built(user_file(tmp_path, body))


def test_a_game_without_an_end_is_cut_only_where_asked():
    unending = LADDER.replace("Ladder", "Unending")
    env = built(unending)
    assert not any(env.step(np.array([0])).ended[0] for _ in range(300))
    env = built(unending, max_episode_steps=7)
    assert [env.step(np.array([0])).truncated[0] for _ in range(7)] == [False] * 6 + [True]


def test_the_example_in_the_docstring_runs(tmp_path):
    lines = single.__doc__.splitlines()
    start = next(i for i, line in enumerate(lines) if "my_env.py, then" in line)
    stop = next(i for i, line in enumerate(lines) if line.startswith("All that is asked"))
    path = tmp_path / "my_env.py"
    path.write_text("\n".join(line.removeprefix("    ") for line in lines[start:stop]))
    assert violations(lambda **o: make(EnvSpec.resolve({"env_id": f"{path}:Corridor"}), **o)) == []


def test_environments_are_closed(tmp_path):
    closed = []

    class Watched(gymnasium.Env):
        observation_space = spaces.Box(0, 1, (1,), np.float32)
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {}

        def close(self):
            closed.append(self)

    gymnasium.register("Watched-v0", entry_point=Watched)
    try:
        built("Watched-v0", num_envs=3).close()
    finally:
        del gymnasium.registry["Watched-v0"]
    assert len(closed) == 3
