"""Arguments for an environment, a wrapper of one's own, and the render_mode of a video."""

import gymnasium
import numpy as np
import pytest

from stablegrad import api
from stablegrad.cli import main
from stablegrad.commands.parsing import Parser, add_settings
from stablegrad.envs import EnvSpec, make
from stablegrad.envs.arguments import as_texts, parse_arguments
from stablegrad.envs.render import Rendering
from stablegrad.errors import UserError
from stablegrad.runs.config import RunConfig

ROOM = '''
import gymnasium
import numpy as np
from gymnasium import spaces


class Room(gymnasium.Env):
    """A room of a size, in a colour; it is over after as many steps."""

    action_space = spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 5}

    def __init__(self, size, colour="grey", doors=(), render_mode=None):
        self.size, self.colour, self.doors, self.render_mode = size, colour, doors, render_mode
        self.observation_space = spaces.Box(0, 100, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._look(), {}

    def step(self, action):
        self.t += 1
        return self._look(), 1.0, self.t == self.size, False, {}

    def render(self):
        return np.full((20, 20, 3), self.t, np.uint8)

    def _look(self):
        return np.array([self.size, len(self.doors)], np.float32)


class Doubled(gymnasium.RewardWrapper):
    def reward(self, reward):
        return 2 * reward


class Blind(Room):
    """Knows no render_mode."""

    def __init__(self, size=3):
        super().__init__(size)


def lost(env):
    return None


def broken(env):
    raise LookupError("no such door")


NUMBER = 3
'''


@pytest.fixture
def file(tmp_path):
    (tmp_path / "room.py").write_text(ROOM)
    return tmp_path / "room.py"


def room(file, **values):
    return make(EnvSpec.resolve({"env_id": f"{file}:Room", **values}), num_envs=1, seed=1)


@pytest.mark.parametrize(
    ("given", "texts", "arguments"),
    [
        ("size=5", ("size=5",), {"size": 5}),
        ("size=5,colour=red", ("colour=red", "size=5"), {"size": 5, "colour": "red"}),
        ("colour='a, b',doors=[1, 2]", ("colour='a, b'", "doors=[1, 2]"), {"colour": "a, b", "doors": [1, 2]}),
        (["size=5", "slip=false"], ("size=5", "slip=false"), {"size": 5, "slip": False}),
        ({"size": 0.5, "colour": "5"}, ('colour="5"', "size=0.5"), {"size": 0.5, "colour": "5"}),
        ({"doors": [1, [2]], "map": {"a b": True}}, ("doors=[1, [2]]", 'map={"a b" = true}'), None),
        ("path=/tmp/x=y", ("path=/tmp/x=y",), {"path": "/tmp/x=y"}),
        ("", (), {}),
    ],
)
def test_arguments_are_typed_as_toml_types_them(given, texts, arguments):
    assert as_texts(given) == texts
    assert as_texts(texts) == texts
    expected = {"doors": [1, [2]], "map": {"a b": True}} if arguments is None else arguments
    found = parse_arguments(texts)
    assert found == expected
    assert [type(value) for value in found.values()] == [type(expected[name]) for name in found]


@pytest.mark.parametrize("given", ["size", "=5", "size=", "5=size", "a b=1", "size=1,size=2", {"size": None}])
def test_what_is_no_argument_is_an_error_that_says_how_to_write_one(given):
    with pytest.raises(UserError, match=r"--env_kwargs"):
        as_texts(given)


def test_an_option_may_be_given_again_and_again():
    parser = Parser("pqn", "", example="")
    add_settings(parser, "environment", EnvSpec, {})
    given = parser.parse(["--env_kwargs", "size=5", "--env-kwargs=doors=[1, 2]", "--task_schedule", "a,b"])
    assert given.env_kwargs == "size=5,doors=[1, 2]"
    assert EnvSpec.resolve({"env_id": "CartPole-v1", "env_kwargs": given.env_kwargs}).env_kwargs == (
        "doors=[1, 2]",
        "size=5",
    )


def test_an_environment_gets_its_arguments(file):
    assert room(file, env_kwargs="size=5,doors=[1, 2]").obs.tolist() == [[5, 2]]
    assert room(file, env_kwargs={"size": 7}).obs.tolist() == [[7, 0]]
    plain, slippery = (
        make(EnvSpec.resolve({"env_id": "FrozenLake-v1", "env_kwargs": kwargs}), num_envs=1, seed=1)
        for kwargs in ("map_name=4x4", "map_name=8x8,is_slippery=false")
    )
    assert (plain.observation_space.shape, slippery.observation_space.shape) == ((16,), (64,))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, r"room\.py:Room cannot be built: TypeError: .*'size'"),
        (
            {"env_kwargs": "size=5,colours=2"},
            r"with --env_kwargs colours=2,size=5 cannot be built: TypeError.*colours",
        ),
        (
            {"env_id": "CartPole-v1", "env_kwargs": "length=2"},
            r"CartPole-v1 with --env_kwargs length=2 cannot be",
        ),
        ({"env_id": "MinAtar/Breakout", "env_kwargs": "a=1"}, "--env_kwargs does not apply to MinAtar/Breakout"),
        ({"env_id": "Breakout-v5", "wrapper": "x.py:f"}, "--wrapper does not apply to Breakout-v5"),
        ({"wrapper": "nowhere.py:f"}, "--wrapper: no such file"),
        ({"wrapper": "Doubled"}, "--wrapper Doubled: say path/to/file.py:name"),
        ({"wrapper": "@NUMBER"}, r"--wrapper \S+ is a int, not a function"),
        (
            {"wrapper": "@lost", "env_kwargs": "size=5"},
            r"--wrapper \S+ returns a NoneType, not a Gymnasium",
        ),
        (
            {"wrapper": "@broken", "env_kwargs": "size=5"},
            r"--wrapper \S+ cannot be built: LookupError: no such door \(\S+room\.py, line \d+\)",
        ),
    ],
)
def test_what_does_not_fit_is_one_error(file, values, said):
    values = {name: str(value).replace("@", f"{file}:") for name, value in values.items()}
    with pytest.raises(UserError, match=said):
        room(file, **values)


def test_a_wrapper_stands_around_the_environment(file):
    env = room(file, env_kwargs="size=2", wrapper=f"{file}:Doubled")
    steps = [env.step(np.zeros(1, int)) for _ in range(2)]
    assert [step.reward.tolist() for step in steps] == [[2.0], [2.0]]
    assert steps[1].episodes[0].score == 4.0
    cartpole = make(EnvSpec.resolve({"env_id": "CartPole-v1", "wrapper": f"{file}:Doubled"}), num_envs=1, seed=1)
    assert cartpole.step(np.zeros(1, int)).reward.tolist() == [2.0]


def test_a_run_has_them_from_the_command_line_and_from_a_file_and_resumes(file, tmp_path, capsys):
    short = "--num_envs 2 --num_steps 4 --num_minibatches 2 --total_timesteps 32 --mlp_width 8 --threads 1 --quiet"
    line = f"pqn --env_id {file}:Room --env_kwargs size=4 --env_kwargs doors=[1] --wrapper {file}:Doubled"
    assert main([*line.split(), *short.split(), "--run_dir", str(tmp_path / "run")]) == 0
    run = api.load_run(tmp_path / "run", trust=True)
    assert {end["score"] for end in run.episodes} == {8.0}
    assert run.config.env.env_kwargs == ("doors=[1]", "size=4")
    (tmp_path / "run.toml").write_text(
        f'env_id = "{file}:Room"\nwrapper = "{file}:Doubled"\nenv_kwargs = {{size = 4, doors = [1]}}\n'
    )
    line = f"pqn --config {tmp_path}/run.toml {short} --run_dir {tmp_path}/again"
    assert main(line.split()) == 0
    assert api.load_run(tmp_path / "again", trust=True).config == run.config
    assert RunConfig.from_flat(run.config.flat()) == run.config
    capsys.readouterr()
    assert main(["eval", str(run.path), "--episodes", "2", "--json", "--trust"]) == 0
    assert '"mean": 8.0' in capsys.readouterr().out


def test_check_takes_arguments_too(file, capsys):
    assert main(["check", f"{file}:Room", "--env_kwargs", "size=5"]) == 0
    assert "every promise is kept" in capsys.readouterr().out
    with pytest.raises(
        UserError, match="cannot tell what"
    ):  # the control: what it is cannot be seen from its arguments
        main(["check", f"{file}:Room", "--traceback"])


def test_a_video_asks_for_a_picture(file):
    """As found, no render_mode was passed to a file's environment, and the error said that it had none."""
    rendering = Rendering(EnvSpec.resolve({"env_id": f"{file}:Room", "env_kwargs": "size=3,render_mode=ansi"}))
    shown = list(rendering.play(5, np.zeros(3, int)))
    rendering.close()
    assert [int(picture.max()) for picture, _ in shown] == [0, 1, 2, 3]
    assert rendering.pictures_per_second == 5


def test_what_shows_nothing_says_what_it_was_asked_for_and_has(file):
    with pytest.raises(
        UserError, match=r"no render_mode 'rgb_array', but None, and its metadata name \['rgb_array', 'an"
    ):
        Rendering(EnvSpec.resolve({"env_id": f"{file}:Blind"}))


class Colours(gymnasium.Env):
    """Four channels, as RGBA has."""

    observation_space = gymnasium.spaces.Box(0, 255, (40, 40, 4), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action):
        return self._draw(), 1.0, False, False, {}

    def _draw(self):
        return self.np_random.integers(0, 255, (40, 40, 4), np.uint8)


def test_colours_that_are_no_stack_name_the_flag_that_stores_them_whole(tmp_path, capsys):
    gymnasium.register("Colours-v0", entry_point=Colours)
    line = "dqn --env_id Colours-v0 --buffer_size 50 --total_timesteps 8 --cnn_size 2 --mlp_width 8 --threads 1 --quiet"
    try:
        assert main([*line.split(), "--run_dir", str(tmp_path / "run")]) == 1
        assert "say --share_frames false" in capsys.readouterr().err
        assert main([*line.split(), "--run_dir", str(tmp_path / "whole"), "--share_frames", "false"]) == 0
    finally:
        del gymnasium.registry["Colours-v0"]
