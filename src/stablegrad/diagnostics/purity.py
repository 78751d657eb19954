"""Probes look and leave no trace: the guard that puts back what a forward pass can change."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def undisturbed(*modules: nn.Module, evaluation: bool = True) -> Iterator[None]:
    """Run a probe on `modules` in evaluation mode (unless told not to), then restore all that forward passes touched.

    Restored exactly: the training flag of every submodule, every buffer, torch's global generators (CPU, and
    CUDA where it is in use), and generators that a submodule holds as attributes. Parameters and their
    `.grad` are not copied: a probe differentiates with `torch.autograd.grad`, which writes to neither.
    """
    flags = [(part, part.training) for module in modules for part in module.modules()]
    buffers = [(buffer, buffer._version, buffer.detach().clone()) for module in modules for buffer in module.buffers()]
    owners = [(part, dict(part._buffers)) for module in modules for part in module.modules()]
    states = [(generator, generator.get_state()) for module in modules for generator in _generators(module)]
    with preserved_global_generators():
        try:
            for module in modules if evaluation else ():
                module.eval()
            yield
        finally:
            for part, training in flags:
                part.training = training
            for part, held in owners:
                part._buffers.update(held)
            with torch.no_grad():
                for buffer, version, before in buffers:
                    # Writing to one that nobody changed would break a graph of the caller's that still needs it.
                    if buffer._version != version:
                        buffer.copy_(before)
            for generator, state in states:
                generator.set_state(state)


@contextmanager
def preserved_global_generators() -> Iterator[None]:
    """Put torch's global generators back on exit: a stochastic loss draws nothing from the run's stream."""
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=cuda):
        yield


def private_generator(generator: torch.Generator | None, device: torch.device) -> torch.Generator:
    """A generator on `device` for a probe's own draws: a copy of the caller's, which is never advanced.

    Without one, seed 0. The same state gives the same draws, so that a curve of estimates over training uses
    common random numbers. From a generator of another device, a seed is drawn on a copy.
    """
    if generator is None:
        return torch.Generator(device).manual_seed(0)
    if generator.device.type == device.type:
        return generator.clone_state()
    lent = int(torch.randint(2**62, (), generator=generator.clone_state(), device=generator.device))
    return torch.Generator(device).manual_seed(lent)


def _generators(module: nn.Module) -> Iterator[torch.Generator]:
    for part in module.modules():
        yield from (value for value in vars(part).values() if isinstance(value, torch.Generator))
