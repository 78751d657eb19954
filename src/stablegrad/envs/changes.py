"""What can be changed about a game without touching it: pure functions of arrays."""

import itertools

import numpy as np
from gymnasium import spaces

from stablegrad.envs.base import episode_seed
from stablegrad.errors import UserError
from stablegrad.nn.parts import PartsBox


def fixed_permutation(count: int, number: int) -> np.ndarray:
    """Permutation `number` of 0 … count - 1 [count]: the same on every machine, and never the identity (count > 1).

    The places are sorted by a hash, so that no version of numpy can change it; an identity is drawn again.
    """
    if count < 2:
        raise ValueError(f"{count} things cannot be put into another order")
    for start in itertools.count(step=count):
        order = np.argsort([episode_seed(number, count, start + place) for place in range(count)], kind="stable")
        if (order != np.arange(count)).any():
            return order
    raise AssertionError("unreachable")


def pad_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Images [..., C, H, W] with empty (zero) channels behind their own, up to `channels`."""
    missing = channels - images.shape[-3]
    if missing == 0:
        return images
    empty = np.zeros((*images.shape[:-3], missing, *images.shape[-2:]), images.dtype)
    return np.concatenate([images, empty], axis=-3)


def move_places(obs: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Observations [B, C, H, W] or [B, N] in another order: place p shows what place `order[p]` had.

    `order` is of the H * W places of an image, which all channels share, or of the N entries of a vector.
    """
    if obs.ndim == 2:
        return obs[:, order]
    return obs.reshape(*obs.shape[:2], -1)[:, :, order].reshape(obs.shape)


def places(space: spaces.Box) -> int:
    """How many places an observation has that can change order. UserError where it has parts."""
    if isinstance(space, PartsBox):
        raise UserError("permute_obs changes the order of one image or one vector, and these observations have parts")
    return int(np.prod(space.shape[-2:])) if len(space.shape) == 3 else int(np.prod(space.shape))


def common_observations(own: list[spaces.Box]) -> spaces.Box:
    """The space that the observations of all tasks fit into once images are padded to the most channels.

    Raises UserError where they differ in more than the number of channels.
    """
    if isinstance(own[0], PartsBox) and all(space == own[0] for space in own):
        return own[0]
    shapes = {space.shape[1:] if len(space.shape) == 3 else space.shape for space in own}
    if (
        len(shapes) > 1
        or any(isinstance(space, PartsBox) for space in own)
        or len({(len(space.shape), space.dtype) for space in own}) > 1
    ):
        told = " and ".join(sorted({f"{space.dtype} {space.shape}" for space in own}))
        raise UserError(f"--task_schedule: the tasks have different observations ({told})")
    if len(own[0].shape) != 3:
        low, high = np.min([space.low for space in own], axis=0), np.max([space.high for space in own], axis=0)
        return spaces.Box(low, high, dtype=own[0].dtype.type)
    channels = max(space.shape[0] for space in own)
    low = np.min([pad_channels(space.low, channels) for space in own], axis=0)
    high = np.max([pad_channels(space.high, channels) for space in own], axis=0)
    return spaces.Box(low, high, dtype=own[0].dtype.type)
