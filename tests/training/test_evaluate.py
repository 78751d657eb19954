"""Which games an evaluation plays, and that none of them counts twice."""

import numpy as np
import torch

from stablegrad.api import resolve
from stablegrad.envs import make
from stablegrad.training.evaluate import evaluate

GAME = """
import gymnasium
import numpy as np
from gymnasium import spaces

class Coin(gymnasium.Env):
    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 20 if self.np_random.random() < 0.5 else 1
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.zeros(1, np.float32), 1.0, self.left == 0, False, {}
"""


class Still:
    """An agent that always takes the first action."""

    def __init__(self) -> None:
        self.groups = {"q": torch.nn.Linear(1, 2)}

    def evaluate(self, obs: np.ndarray, *, epsilon: float, generator: torch.Generator) -> np.ndarray:
        return np.zeros(len(obs), np.int64)


def test_short_games_are_not_counted_more_often(tmp_path):
    """Half of the games last 20 steps, half of them 1; the first that end all last 1."""
    (tmp_path / "coin.py").write_text(GAME)
    spec = resolve({"algo": "pqn", "env_id": f"{tmp_path / 'coin.py'}:Coin"}).env
    scores = np.array(evaluate(Still(), spec, episodes=200, seed=1, epsilon=0.0).scores)
    assert 0.4 < np.mean(scores == 20) < 0.6

    envs, first_to_end = make(spec, num_envs=64, seed=1), []
    while len(first_to_end) < 40:
        first_to_end += [end.score for end in envs.step(np.zeros(64, np.int64)).episodes]
    envs.close()
    assert set(first_to_end) == {1.0}


def test_the_same_seed_plays_the_same_games_and_another_others(tmp_path):
    (tmp_path / "coin.py").write_text(GAME)
    spec = resolve({"algo": "pqn", "env_id": f"{tmp_path / 'coin.py'}:Coin"}).env
    one, again, other = (evaluate(Still(), spec, episodes=30, seed=seed, epsilon=0.0) for seed in (1, 1, 2))
    assert one == again
    assert one.scores != other.scores


def test_idle_steps_are_those_that_change_nothing_in_what_is_seen(tmp_path):
    """The coin shows nothing; one that shows how much is left is seen to change; one that rests does so every third."""
    shown = "np.array([LEFT / 20], np.float32)"
    idle = {}
    for name, left in (("Hidden", "0"), ("Shown", "self.left"), ("Resting", "(self.left + 2) // 3")):
        text = GAME.replace("class Coin", f"class {name}").replace("else 1\n", "else 20\n")
        (tmp_path / f"{name}.py").write_text(text.replace("np.zeros(1, np.float32)", shown.replace("LEFT", left)))
        spec = resolve({"algo": "pqn", "env_id": f"{tmp_path / name}.py:{name}"}).env
        played = evaluate(Still(), spec, episodes=10, seed=1, epsilon=0.0)
        idle[name] = set(played.idle_steps)
        assert played.summary()["idle_share"] == sum(played.idle_steps) / sum(played.lengths)
    # Of 20 steps, from 20 left to 0: (left + 2) // 3 goes from 7 to 0 and changes at 7 of them.
    assert idle == {"Hidden": {20}, "Shown": {0}, "Resting": {13}}
