"""`--faithful`, line by line: what the published scripts do by default, and which settings say so.

From the scripts' arguments and code (main@5018636), not from this package.
"""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from stablegrad.errors import UserError
from stablegrad.nn import NetworkSpec, build_network
from stablegrad.runs.config import RunConfig

NETWORK = {
    "mlp_type": "default", "mlp_width": "small", "mlp_depth": "small", "cnn_size": "medium", "use_impoola": False,
    "activation_fn": "relu", "use_spectral_norm": False, "conv_init": "orthogonal",
}  # fmt: skip
ON_POLICY = {
    "env_id": "Breakout-v5", "total_timesteps": 10_000_000, "gamma": 0.99, "optimizer": "radam",
    "matmul_precision": "high", "protocol": "published", "reward_clip": True, "life_loss": "signal",
    "scores_run_on": True, "bootstrap_truncated": False, "head_init": "orthogonal", "pixel_range": "unit",
}  # fmt: skip
OFF_POLICY = {
    "num_envs": 1, "buffer_size": 1_000_000, "gamma": 0.99, "tau": 1.0, "batch_size": 32, "start_e": 1.0, "end_e": 0.01,
    "exploration_fraction": 0.1, "learning_starts": 80_000, "train_frequency": 4, "optimizer": "adam", "use_ln": False,
    "max_grad_norm": None, "protocol": "cleanrl", "matmul_precision": "highest", "pixel_range": "unit",
}  # fmt: skip
PUBLISHED = {
    "pqn": NETWORK | ON_POLICY | {
        "learning_rate": 2.5e-4, "anneal_lr": False, "num_envs": 128, "num_steps": 32, "num_minibatches": 32,
        "update_epochs": 2, "max_grad_norm": 10.0, "start_e": 1.0, "end_e": 0.005, "exploration_fraction": 0.1,
        "q_lambda": 0.65, "use_ln": True, "optimizer_eps": None, "diagnostics_batch": 128,
    },
    "ppo": NETWORK | ON_POLICY | {
        "learning_rate": 2.5e-4, "anneal_lr": True, "num_envs": 8, "num_steps": 128, "num_minibatches": 4,
        "update_epochs": 4, "max_grad_norm": 0.5, "gae_lambda": 0.95, "norm_adv": True, "clip_coef": 0.1,
        "clip_vloss": True, "ent_coef": 0.01, "vf_coef": 0.5, "target_kl": None, "use_ln": False, "optimizer_eps": 1e-5,
    },
    "dqn": NETWORK | OFF_POLICY | {
        "total_timesteps": 5_000_000, "learning_rate": 1e-4, "target_network_frequency": 1000, "optimizer_eps": None,
        "double": False, "loss": "mse", "head_init": "torch",
    },
    "rainbow": NETWORK | OFF_POLICY | {
        "total_timesteps": 10_000_000, "learning_rate": 6.25e-5, "target_network_frequency": 8000, "n_step": 3,
        "prioritized_replay_alpha": 0.5, "prioritized_replay_beta": 0.4, "prioritized_replay_eps": 1e-6, "n_atoms": 51,
        "v_min": -10.0, "v_max": 10.0, "optimizer_eps": 1e-8, "noisy": "all", "double": True, "dueling": True,
    },
    "cifar": {
        "cnn_type": "cifar", "cnn_size": "medium", "mlp_type": "default", "activation_fn": "relu", "epochs": 100,
        "batch_size": 256, "subset": 10_000, "learning_rate": 2.5e-4, "optimizer": "adam", "optimizer_eps": None,
        "weight_decay": None, "max_grad_norm": None, "use_ln": False, "first_task": "true", "pixel_range": "symmetric",
        "conv_init": "torch", "head_init": "torch",
    },
}  # fmt: skip
KRON = {"pqn": 2.5e-4 / 3, "ppo": 2.5e-4 / 3, "dqn": 1e-4 / 3, "rainbow": 6.25e-5, "cifar": 2.5e-4}
"""The learning rate that Kron gets: a third, but where the scripts forget it."""

NOT_AT_HAND = {"cifar": {"dataset": "textures", "subset": 100}}
"""Given, and so winning, where the published images are not there."""


def faithful(algo: str, **settings: object) -> dict[str, object]:
    return RunConfig.resolve(algo, {"faithful": True, **NOT_AT_HAND.get(algo, {}), **settings}).flat()


@pytest.mark.parametrize("algo", PUBLISHED)
def test_faithful_is_the_published_script(algo):
    flat, published = faithful(algo), {**PUBLISHED[algo], **NOT_AT_HAND.get(algo, {})}
    assert {name: flat[name] for name in published} == published


def test_faithful_cifar_is_about_ten_thousand_images_of_cifar10(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="CIFAR-10 was not found"):
        RunConfig.resolve("cifar", {"faithful": True})
    with pytest.raises(UserError, match="10000 images cannot be taken from 2000"):
        RunConfig.resolve("cifar", {"faithful": True, "dataset": "textures"})


@pytest.mark.parametrize("algo", PUBLISHED)
def test_faithful_gives_kron_the_published_rate_and_view(algo):
    flat = faithful(algo, optimizer="kron")
    assert flat["learning_rate"] == pytest.approx(KRON[algo])
    assert (flat["conv_view"], flat["update_probability"], flat["optimizer_eps"]) == ("published", None, None)


def test_by_default_and_with_other_settings_nothing_of_it_holds():
    """The table has what differs, and a setting that cannot apply is left out of it."""
    plain = RunConfig.resolve("cifar", NOT_AT_HAND["cifar"]).flat()
    assert {name: plain[name] for name in ("pixel_range", "conv_init", "head_init", "lr_scale")} == {
        "pixel_range": "unit", "conv_init": "orthogonal", "head_init": "orthogonal", "lr_scale": 1.0,
    }  # fmt: skip
    trunk_alone = faithful("cifar", cnn_type="none")
    assert (trunk_alone["conv_init"], trunk_alone["head_init"], trunk_alone["pixel_range"]) == (
        "orthogonal", "torch", "symmetric",
    )  # fmt: skip
    assert faithful("cifar", pixel_range="unit")["pixel_range"] == "unit"
    assert faithful("dqn", head_init="orthogonal")["head_init"] == "orthogonal"


def test_what_cannot_apply_is_refused():
    with pytest.raises(UserError, match="conv_init is for our convolutions: it cannot be used with cnn_type 'none'"):
        NetworkSpec(cnn_type="none", conv_init="torch")
    with pytest.raises(UserError, match="noisy last layers begin as their paper says, so it needs --noisy off"):
        RunConfig.resolve("rainbow", {"head_init": "torch"})
    assert RunConfig.resolve("rainbow", {"head_init": "torch", "noisy": "off"}).network.head_init == "torch"
    with pytest.raises(UserError, match="pixel_range is for images of bytes"):
        build_network(NetworkSpec(pixel_range="symmetric"), spaces.Box(-1, 1, (3,), np.float32), 2)


def test_a_config_that_lacks_the_settings_means_what_held_before_them():
    config = RunConfig.resolve("cifar", NOT_AT_HAND["cifar"])
    old = {
        name: value for name, value in config.flat().items() if name not in ("pixel_range", "conv_init", "head_init")
    }
    assert RunConfig.from_flat(old) == config
    assert RunConfig.from_flat(old).identity == config.identity
    other = RunConfig.resolve("cifar", {**NOT_AT_HAND["cifar"], "pixel_range": "symmetric"})
    assert other.identity != config.identity


IMAGES = spaces.Box(0, 255, (3, 32, 32), np.uint8)


def layers(**fields: object) -> tuple[list[torch.nn.Conv2d], list[torch.nn.Linear]]:
    spec = NetworkSpec(cnn_type="cifar", mlp_depth="published", **fields)
    network = build_network(spec, IMAGES, 10, generator=torch.Generator().manual_seed(0))
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    convolutions, linears = ([m for m in network.modules() if isinstance(m, kind)] for kind in kinds)
    return convolutions, linears


def test_torch_s_own_initialisation_is_uniform_up_to_one_over_the_root_of_the_inputs():
    """All of the published network but its trunk: standard deviations are 1 / sqrt(3 inputs), 0.026 in the last."""
    convolutions, (trunk, classifier) = layers(conv_init="torch", head_init="torch")
    assert len(convolutions) == 6
    for layer in (*convolutions, classifier):
        inputs = layer.weight[0].numel()
        for values in (layer.weight, layer.bias):
            assert values.abs().max() <= 1 / math.sqrt(inputs)
        assert float(layer.weight.detach().std()) == pytest.approx(1 / math.sqrt(3 * inputs), rel=0.06)
        assert layer.bias.abs().max() > 0.5 / math.sqrt(inputs)
    assert float(classifier.weight.detach().std()) == pytest.approx(0.0255, abs=0.0008)
    torch.testing.assert_close(trunk.weight @ trunk.weight.T, 2 * torch.eye(512), rtol=0, atol=1e-4)


def test_ours_is_orthogonal_and_begins_the_classifier_sixty_times_smaller():
    convolutions, (_, classifier) = layers()
    for layer in convolutions:
        flat = layer.weight.detach().flatten(1)
        gram = flat @ flat.T if len(flat) <= flat.shape[1] else flat.T @ flat
        torch.testing.assert_close(gram, 2 * torch.eye(len(gram)), rtol=0, atol=1e-4)
        assert not layer.bias.any()
    assert float(classifier.weight.detach().std()) == pytest.approx(0.01 / math.sqrt(512), rel=0.02)  # 0.0004


@pytest.mark.parametrize(("pixel_range", "seen"), [("unit", [0.0, 0.2, 1.0]), ("symmetric", [-1.0, -0.6, 1.0])])
def test_bytes_are_scaled_as_the_published_transform_does(pixel_range, seen):
    """ToTensor and Normalize(.5, .5): (byte / 255 - 0.5) / 0.5."""
    spec = NetworkSpec(cnn_type="none", pixel_range=pixel_range)
    network = build_network(spec, spaces.Box(0, 255, (3,), np.uint8), 2)
    pixels = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    torch.testing.assert_close(network.encoder(pixels), torch.tensor([seen]))


def test_the_published_network_is_what_a_twin_computes():
    """Plain torch, written from its definition, with the network's own parameters; dropout off."""
    spec = NetworkSpec(cnn_type="cifar", mlp_width=32, mlp_depth="small", use_ln=False, pixel_range="symmetric",
                       conv_init="torch", head_init="torch")  # fmt: skip
    network = build_network(spec, IMAGES, 10, generator=torch.Generator().manual_seed(3))
    own = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    channels, widths = (3, 32, 64, 64, 128, 128, 128), (2048, 32, 32, 32, 512)
    parts: list[torch.nn.Module] = []
    for place, (before, after) in enumerate(itertools.pairwise(channels)):
        parts += [torch.nn.Conv2d(before, after, 3, padding=1), torch.nn.ReLU()]
        parts += [torch.nn.MaxPool2d(2)] if place % 2 else []
    parts.append(torch.nn.Flatten())
    for before, after in itertools.pairwise(widths):
        parts += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    parts.append(torch.nn.Linear(512, 10))
    twin = torch.nn.Sequential(*parts)
    its = [m for m in twin if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    for ours, theirs in zip(own, its, strict=True):
        theirs.load_state_dict(ours.state_dict())
    pixels = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = twin.double()((pixels / 255.0 - 0.5).double() / 0.5)
        torch.testing.assert_close(network.double()(pixels), expected, rtol=0, atol=1e-6)
        other = build_network(dataclasses.replace(spec, pixel_range="unit"), IMAGES, 10).double()
        other.load_state_dict(network.state_dict())
        assert (other(pixels) - expected).abs().max() > 1e-4


def test_the_last_layer_of_faithful_dqn_is_torch_s_own():
    spec = RunConfig.resolve("dqn", {"faithful": True, "env_id": "CartPole-v1", "mlp_width": 16}).network
    head = build_network(spec, spaces.Box(-1, 1, (4,), np.float32), 64, generator=torch.Generator().manual_seed(0)).head
    assert float(head.weight.detach().std()) == pytest.approx(1 / math.sqrt(3 * 512), rel=0.03)
