"""Videos of evaluation games: the game that is drawn is the game that is scored."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import nn

from stablegrad.envs import EnvSpec, make
from stablegrad.envs.base import episode_seed
from stablegrad.envs.render import Rendering
from stablegrad.errors import UserError
from stablegrad.training import video
from stablegrad.training.evaluate import Evaluation, evaluate

BLIND = f"{Path(__file__).parents[1]}/learning/tiny_envs.py:Short"

CASES = [
    {"env_id": "MinAtar/Breakout"},
    {"env_id": "CartPole-v1"},
    {"env_id": "Breakout-v5", "eval_max_episode_steps": 40, "repeat_action_probability": 0.25},
    {"env_id": "Breakout-v5", "eval_max_episode_steps": 40, "repeat_action_probability": 0.25, "mode": 12},
]


class Uniform:
    """An agent that acts at random."""

    def __init__(self, spec: EnvSpec) -> None:
        envs = make(spec, num_envs=1, seed=0)
        self.groups = {"none": nn.Linear(1, 1)}
        self.n = int(envs.action_space.n)
        envs.close()

    def evaluate(self, obs: np.ndarray, *, epsilon: float, generator: torch.Generator) -> np.ndarray:
        return torch.randint(self.n, (len(obs),), generator=generator).numpy()


def played(spec: EnvSpec, **options) -> Evaluation:
    return evaluate(Uniform(spec), spec, episodes=3, seed=5, **options)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["env_id"] + str(case.get("mode", "")))
def test_pictures_are_of_the_scored_game(case, tmp_path: Path):
    import imageio_ffmpeg

    spec = EnvSpec.resolve(case)
    result = played(spec)
    film = video.Video(tmp_path / "game.mp4", spec)
    pictures = film.write(result)
    film.close()
    assert pictures == result.lengths[0] + 1
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "game.mp4"))[0] == pictures
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "game.mp4"))
    assert next(reader)["size"][0] >= 320
    assert np.frombuffer(next(reader), np.uint8).std() > 0
    reader.close()
    assert [path.name for path in tmp_path.iterdir()] == ["game.mp4"]
    assert played(spec) == result, "drawing changed what is played"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["env_id"] + str(case.get("mode", "")))
def test_the_score_on_the_last_picture_is_the_reported_one(case):
    spec = EnvSpec.resolve(case)
    result = played(spec)
    rendering = Rendering(spec.for_evaluation())
    shown = list(rendering.play(result.first_seed, result.first_actions))
    other = list(rendering.play(episode_seed(1, 0, 0), result.first_actions[:5]))
    rendering.close()
    assert shown[-1].score == result.scores[0]
    assert any((shown[0].picture != later.picture).any() for later in shown[1:])
    assert len(other) == 6


def test_atari_is_shown_in_colour_at_the_size_of_the_console():
    spec = EnvSpec.resolve({"env_id": "Breakout-v5"})
    rendering = Rendering(spec)
    picture = next(rendering.play(3, np.empty(0))).picture
    rendering.close()
    assert picture.shape == (420, 320, 3)
    assert (picture[..., 0] != picture[..., 2]).any(), "no colour"
    assert rendering.pictures_per_second == 15


def test_a_name_in_gif_needs_no_extra(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    spec = EnvSpec.resolve({"env_id": "MinAtar/Breakout"})
    result = played(spec)
    film = video.Video(tmp_path / "game.gif", spec)
    film.write(result)
    film.close()
    with Image.open(tmp_path / "game.gif") as moving:
        lasted = sum(frame.info["duration"] for frame in ImageSequence.Iterator(moving))
    assert lasted == pytest.approx((result.lengths[0] + 1) * 1000 / 12, rel=0.05)


def test_a_game_that_does_not_come_out_as_scored_gives_no_video(tmp_path: Path):
    spec = EnvSpec.resolve({"env_id": "CartPole-v1"})
    result = played(spec)
    film = video.Video(tmp_path / "game.gif", spec)
    wrong = dataclasses.replace(result, scores=(result.scores[0] + 1,))
    with pytest.raises(UserError, match="not a function of its seed and actions"):
        film.write(wrong)
    film.close()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_drawn_is_said_before_a_game_is_played(tmp_path: Path, monkeypatch):
    minatar = EnvSpec.resolve({"env_id": "MinAtar/Breakout"})
    with pytest.raises(UserError, match=r"game\.avi: the name ends in \.mp4 or \.gif"):
        video.Video(tmp_path / "game.avi", minatar)
    with pytest.raises(UserError, match="there is no folder"):
        video.Video(tmp_path / "nowhere" / "game.mp4", minatar)
    with pytest.raises(UserError, match="cannot be written: File name too long"):
        video.Video(tmp_path / f"{'x' * 251}.gif", minatar)  # 255 letters, and one more while it is unfinished
    blind = EnvSpec.resolve({"env_id": BLIND})
    with pytest.raises(UserError, match="cannot be shown: it has no render_mode 'rgb_array'"):
        video.Video(tmp_path / "game.mp4", blind)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'stablegrad\[video\]'"):
        video.Video(tmp_path / "game.mp4", minatar)
