"""Random generators that depend on what they are for, and on nothing that was drawn before."""

import hashlib

import torch


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for `purpose` (`"order", 3`): different purposes of one seed are unrelated."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator at the start of the stream for `purpose`."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))
