"""The callback on unmodified Stable-Baselines3: it records, and changes nothing."""

import json

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from stablegrad.diagnostics.catalogue import entry
from stablegrad.doctor import Signals, examine
from stablegrad.errors import UserError

sb3 = pytest.importorskip("stable_baselines3", reason="needs Stable-Baselines3")

from stablegrad.integrations.sb3 import DiagnosticsCallback  # noqa: E402 - it cannot be imported without

ALGORITHMS = {
    "PPO": {"n_steps": 128, "n_epochs": 2},
    "A2C": {"n_steps": 16},
    "DQN": {"learning_starts": 200, "buffer_size": 1000},
}


def trained(name, path=None, **settings):
    model = getattr(sb3, name)("MlpPolicy", "CartPole-v1", seed=3, device="cpu", **{**ALGORITHMS[name], **settings})
    model.learn(768, callback=None if path is None else DiagnosticsCallback(path, every=256, batch=64))
    return model


@pytest.mark.parametrize("name", ALGORITHMS)
def test_training_is_the_same_with_and_without(tmp_path, name):
    watched, alone = trained(name, tmp_path / "run"), trained(name)
    ours, theirs = watched.policy.state_dict(), alone.policy.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [256, 512, 768]
    for metric in rows[-1]:
        assert entry(metric)
    assert {"gradients/raw/total", "units/dormant/total", "ranks/effective_rank", "churn/value", "losses/loss",
            "losses/values"} <= set(rows[-1])  # fmt: skip
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["algo"] == f"sb3-{name.lower()}"
    assert (config["env_id"], config["total_timesteps"], config["seed"]) == ("CartPole-v1", 768, 3)
    assert json.loads((tmp_path / "run/status.json").read_text())["state"] == "done"


def test_games_and_layers_of_ppo(tmp_path):
    trained("PPO", tmp_path / "run")
    signals = Signals.read(tmp_path / "run")
    assert list(signals.layers("gradients/raw")) == [
        "mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2", "mlp_extractor.value_net.0",
        "mlp_extractor.value_net.2", "action_net", "value_net",
    ]  # fmt: skip
    assert len(signals.games) > 10
    assert signals.games.values.min() >= 8


@pytest.mark.parametrize("name", ["PPO", "DQN"])
def test_an_illness_is_named_in_somebody_elses_run(tmp_path, name):
    trained(name, tmp_path / "run", learning_rate=0.1)
    assert "steps_too_large" in [finding.name for finding in examine(tmp_path / "run").findings]


class Image(gymnasium.Env):
    observation_space = spaces.Box(0, 255, (36, 36, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.t += 1
        return self.observation_space.sample(), 1.0, self.t == 20, False, {}


@pytest.mark.parametrize("share", [True, False])
def test_images_go_through_the_policys_own_preprocessing(tmp_path, share):
    model = sb3.PPO("CnnPolicy", Image(), seed=1, device="cpu", n_steps=32, n_epochs=1,
                    policy_kwargs={"share_features_extractor": share})  # fmt: skip
    model.learn(64, callback=DiagnosticsCallback(tmp_path / "run", every=32, batch=16))
    layers = Signals.read(tmp_path / "run").layers("units/dead")
    extractors = {name.partition(".")[0] for name in layers}
    wanted = {"features_extractor"} if share else {"pi_features_extractor", "vf_features_extractor"}
    assert wanted <= extractors


def test_what_it_cannot_look_into_is_refused_at_once(tmp_path):
    model = sb3.SAC("MlpPolicy", "Pendulum-v1", device="cpu")
    with pytest.raises(UserError, match=r"recording\.record"):
        model.learn(10, callback=DiagnosticsCallback(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
