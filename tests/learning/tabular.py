"""A trunk without parameters: one-hot observations stay what they are, so that the head behind them is a table."""

from torch import Tensor, nn
from torch.nn import functional


class Table(nn.Module):
    def __init__(self, in_features: int, out_features: int, *, spec, linear) -> None:
        super().__init__()
        self.padding = (0, out_features - in_features)

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x, self.padding)
