"""Milliseconds per training step: `stablegrad cifar` against a plain PyTorch loop with a DataLoader.

    python benchmarks/cifar_loader.py --threads 1 --json benchmarks/results/cifar_loader.json

The plain loop is what one writes first, and what the published script does: a Dataset of PIL images with torchvision's
ToTensor and Normalize (written out here: torchvision is not needed), a shuffling DataLoader with 0 or 2 workers, Adam,
and `loss.item()` and the accuracy of every batch. "lean" is the same loop with a Dataset of ready float tensors.
Ours is the real training of a run folder: gradient norms by layer, rows and the check for non-finite numbers included;
evaluations are left out on both sides. Network, optimizer and batches are the same. Rounds alternate, and the fastest
of each is printed: a busy machine then treats both alike.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from stablegrad.runs.config import RunConfig
from stablegrad.runs.folder import RunFolder
from stablegrad.supervised.data import Split
from stablegrad.supervised.training import SupervisedTraining

CASES = {
    "digits 8x8, trunk of width 64": {"dataset": "digits", "cnn_type": "none", "mlp_width": 64},
    "Fashion-MNIST 28x28, trunk of width 64": {"dataset": "fashion_mnist", "cnn_type": "none", "mlp_width": 64},
    "Fashion-MNIST 28x28, trunk of width 256": {"dataset": "fashion_mnist", "cnn_type": "none", "mlp_width": 256},
    "textures 32x32x3, trunk of width 64": {"dataset": "textures", "cnn_type": "none", "mlp_width": 64},
    "textures 32x32x3, published CNN": {"dataset": "textures", "cnn_type": "cifar", "mlp_width": 64},
}


class PilImages(Dataset):
    """Images as torchvision's data sets with ToTensor and Normalize give them."""

    def __init__(self, split: Split) -> None:
        self.images, self.labels = split.images.permute(0, 2, 3, 1).squeeze(-1).numpy(), split.labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = np.array(Image.fromarray(self.images[index]), copy=True)
        image = torch.from_numpy(picture).view(*picture.shape[:2], -1).permute(2, 0, 1).contiguous().float().div(255)
        half = torch.full((len(image), 1, 1), 0.5)
        return image.clone().sub_(half).div_(half), self.labels[index]


def lean_images(split: Split) -> Dataset:
    return TensorDataset((split.images.float() / 255 - 0.5) / 0.5, split.labels)


def plain_steps(network: nn.Module, images: Dataset, *, batch_size: int, workers: int = 0) -> Iterator[None]:
    """A generator that makes one step of the plain loop each time it is asked, for ever."""
    loader = DataLoader(images, batch_size=batch_size, shuffle=True, num_workers=workers)
    optimizer = torch.optim.Adam(network.parameters(), lr=2.5e-4)
    total_loss, correct = 0.0, 0
    while True:
        for images, labels in loader:
            optimizer.zero_grad()
            outputs = network(images)
            loss = functional.cross_entropy(outputs, labels)
            loss.backward()
            optimizer.step()
            total_loss += loss.item()
            correct += outputs.argmax(1).eq(labels).sum().item()
            yield


def our_steps(training: SupervisedTraining) -> Iterator[None]:
    while True:
        training._advance()
        yield


def seconds_per_step(steps: Iterator[None], count: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(count):
        next(steps)
    return (clock() - start) / count


def measure(settings: dict[str, object], args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Milliseconds per step of each loop."""
    config = RunConfig.resolve(
        "cifar",
        {**settings, "batch_size": args.batch_size, "epochs": 10_000, "eval_epochs": 10_000, "log_every": 100},
    )
    training = SupervisedTraining(config)
    training.attach(RunFolder.create(folder, config))
    loops = {"ours": our_steps(training)}
    split = training.agent.images.train
    for name, data, workers in (
        ("plain", PilImages(split), 0),
        ("plain, 2 workers", PilImages(split), 2),
        ("lean", lean_images(split), 0),
    ):
        network = training.agent.fresh_network(0)
        loops[name] = plain_steps(network, data, batch_size=args.batch_size, workers=workers)
    best = dict.fromkeys(loops, float("inf"))
    for steps in loops.values():
        seconds_per_step(steps, args.steps, time.perf_counter)
    for _ in range(args.rounds):
        for name, steps in loops.items():
            best[name] = min(best[name], seconds_per_step(steps, args.steps, time.perf_counter))
    training.close()
    return {name: round(seconds * 1e3, 3) for name, seconds in best.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=20, help="of each loop in each round")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    record = {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": args.threads,
        "batch_size": args.batch_size,
        "unit": "ms per step, the fastest of the rounds",
        "cases": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for number, (title, settings) in enumerate(CASES.items()):
            times = measure(settings, args, Path(folder) / str(number))
            record["cases"][title] = times
            ratios = ", ".join(f"{times[name] / times['ours']:.1f} x {name}" for name in times if name != "ours")
            print(f"{title}: {times['ours']} ms; faster by {ratios}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
