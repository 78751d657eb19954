"""Observation spaces of the three kinds, and generators."""

import numpy as np
import pytest
import torch
from gymnasium import spaces


@pytest.fixture
def atari() -> spaces.Box:
    return spaces.Box(0, 255, (4, 84, 84), np.uint8)


@pytest.fixture
def minatar() -> spaces.Box:
    return spaces.Box(0, 1, (4, 10, 10), np.float32)


@pytest.fixture
def vector() -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (5,), np.float32)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
