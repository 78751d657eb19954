"""Dropout of whole channels (Tompson et al. 2015, arXiv 1411.4280) by masks that lie in buffers.

As with noisy layers, a network is a deterministic function of parameters and buffers: a loss that must be pure
hands `draw_masks(…)` to `torch.func.functional_call` beside its parameters. Without masks nothing is dropped, in
train and eval mode alike, so evaluation needs no switch.
"""

import torch
from torch import Tensor, nn


class ChannelDropout(nn.Module):
    """y = mask * x for x [B, channels, H, W]: an entry of the mask [B, channels, 1, 1] is 0 or 1 / (1 - share)."""

    mask: Tensor

    def __init__(self, channels: int, *, share: float) -> None:
        super().__init__()
        self.channels, self.share = channels, share
        self.register_buffer("mask", torch.ones(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask

    def extra_repr(self) -> str:
        return f"{self.channels}, share={self.share}"


def draw_masks(module: nn.Module, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Fresh masks for a batch of `rows` in every `ChannelDropout`: buffer name -> [rows, channels, 1, 1].

    Only `generator` is drawn from; the masks are on its device. Empty where nothing is dropped.
    """
    masks = {}
    for path, layer in module.named_modules():
        if isinstance(layer, ChannelDropout):
            shape = (rows, layer.channels, 1, 1)
            kept = torch.rand(shape, generator=generator, device=generator.device) >= layer.share
            masks[f"{path}.mask" if path else "mask"] = kept.to(layer.mask.dtype) / (1 - layer.share)
    return masks
