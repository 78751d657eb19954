"""Milliseconds per optimizer step, RAdam against Kron, alternately: a busy machine then treats both alike.

    python benchmarks/kron_speed.py --threads 1

Kron is timed with its factors updated at every step (the first 500 steps of the published schedule) and at
none (33 of 34 steps in the end). The median over the rounds is printed.
"""

import argparse
import itertools
import statistics
import time

import torch
from torch import nn

from stablegrad.optim import build

OPTIMIZERS = {
    "radam": ("radam", {}),
    "kron, fitting": ("kron", {"update_probability": 1.0}),
    "kron, applying": ("kron", {"update_probability": 0.0}),
}


def mlp(*widths: int) -> nn.Sequential:
    layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def nature_cnn(head: nn.Module) -> nn.Sequential:
    convolutions = (nn.Conv2d(4, 32, 8, 4), nn.Conv2d(32, 64, 4, 2), nn.Conv2d(64, 64, 3, 1))
    return nn.Sequential(*(layer for c in convolutions for layer in (c, nn.ReLU())), nn.Flatten(), head)


NETWORKS = {
    "MinAtar head, 12 layers of 256": (lambda: mlp(1024, *[256] * 11, 6), (256, 1024)),
    "Atari, published head (3136-512-18)": (lambda: nature_cnn(mlp(3136, 512, 18)), (32, 4, 84, 84)),
    "Atari, 12 layers of 512": (lambda: nature_cnn(mlp(3136, *[512] * 11, 18)), (32, 4, 84, 84)),
}


def prepared(name: str, make_network, batch_shape: tuple[int, ...], device: torch.device):
    """An optimizer whose parameters have gradients and whose state exists."""
    optimizer_name, options = OPTIMIZERS[name]
    torch.manual_seed(0)
    network = make_network().to(device)
    network(torch.randn(batch_shape, device=device)).square().mean().backward()
    optimizer = build(optimizer_name, list(network.parameters()), 1e-5, **options)
    optimizer.step()
    return optimizer


def seconds(optimizer: torch.optim.Optimizer, steps: int, device: torch.device) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description="RAdam against Kron, ms per step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="of each optimizer in each round")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.device}, {args.threads} thread(s), ms per step")
    for title, (make_network, batch_shape) in NETWORKS.items():
        optimizers = {name: prepared(name, make_network, batch_shape, args.device) for name in OPTIMIZERS}
        times: dict[str, list[float]] = {name: [] for name in OPTIMIZERS}
        for _ in range(args.rounds):
            for name, optimizer in optimizers.items():
                times[name].append(seconds(optimizer, args.steps, args.device))
        row = ", ".join(f"{name} {statistics.median(values) * 1e3:.1f}" for name, values in times.items())
        print(f"{title}: {row}")


if __name__ == "__main__":
    main()
