"""The parts of stablegrad and of its tests that a machine may have or not."""

import importlib.util
import os
import shutil
from collections.abc import Callable

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def _has(*modules: str) -> Callable[[], bool]:
    return lambda: all(importlib.util.find_spec(module) is not None for module in modules)


def _has_cuda() -> bool:
    if not any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))):
        return False  # without the seconds that it takes to import torch
    import torch

    return torch.cuda.is_available()


OPTIONAL = {
    "CUDA": _has_cuda,
    "Chromium": lambda: CHROMIUM is not None,
    "EnvPool": _has("envpool"),
    "MuJoCo": _has("mujoco"),
    "Box2D": _has("Box2D"),
    "video": _has("imageio_ffmpeg", "pygame"),
    "TensorBoard": _has("tensorboard"),
    "Weights & Biases": _has("wandb"),
    "MLflow": _has("mlflow"),
    "Trackio": _has("trackio"),
    "Ray": _has("ray"),
    "Optuna": _has("optuna"),
    "scikit-learn": _has("sklearn"),
    "Stable-Baselines3": _has("stable_baselines3"),
}
"""How to see whether a part is there. `@pytest.mark.needs("EnvPool")` names one of them."""
