"""Image classification with the networks of the agents: stationary, or as a stream of tasks that changes.

The published network and protocol (Castanyer et al. 2025, arXiv:2506.15544, figures 1 and 7, table 9): a CNN of six
convolutions in front of the trunk (`--cnn_type none` leaves it out), cross-entropy, batches of 256, 100 epochs; with
`--non_stationary` the labels are dealt out anew at epochs 20, 40, 60 and 80. Published and not the default, but with
`--faithful`: pixels from -1 to 1, torch's own initialisation of convolutions and classifier (docs/faithful.md).
Everything is drawn outside of the loss (order, tasks, dropout masks) from the seed and the number of updates alone.
"""

import operator
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from stablegrad.agents.base import Algorithm, Batch, Footprint, LossOutput, Params, outputs_for
from stablegrad.errors import UserError
from stablegrad.nn import ChannelDropout, Network, NetworkSpec, build_network, draw_masks
from stablegrad.runs.config import RunConfig
from stablegrad.supervised.config import ClassifierConfig
from stablegrad.supervised.curriculum import Curriculum
from stablegrad.supervised.data import ImageSet, load_images
from stablegrad.supervised.datasets import PUBLISHED_SUBSET, resolve_dataset
from stablegrad.supervised.seeding import generator_for
from stablegrad.supervised.tasks import Task
from stablegrad.training.memory import check_learning

EVALUATION_ROWS = 2048
"""Images that are classified together in an evaluation; the accuracy does not depend on it."""

_MASK = "mask/"


class Classifier(Algorithm):
    """A network and the curriculum that it learns. All its state is its parameters and the number of updates."""

    Config = ClassifierConfig
    has_environment: ClassVar = False
    aliases: ClassVar = {"lr": "learning_rate"}
    defaults: ClassVar = {
        "learning_rate": 2.5e-4,
        "optimizer": "adam",
        "cnn_type": "cifar",
        "use_ln": False,
        "checkpoint_every": 1_000,
    }
    published_behaviour: ClassVar = {
        "dataset": "cifar10",
        "subset": PUBLISHED_SUBSET,
        "pixel_range": "symmetric",
        "conv_init": "torch",
        "head_init": "torch",
        "lr_scale": 1.0,
        "conv_view": "published",
    }

    @classmethod
    def check(cls, **sections: Any) -> list[str]:
        config: ClassifierConfig = sections["agent"]
        try:
            resolve_dataset(config.dataset, data_dir=config.data_path, download=config.download)
        except UserError as error:
            return list(error.problems)
        return []

    @classmethod
    def footprint(
        cls, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], **sections: Any
    ) -> Footprint:
        return Footprint(outputs=outputs_for(action_space))

    @classmethod
    def total_steps(cls, **sections: Any) -> int:
        """Updates: a step of supervised training is one update."""
        return _updates(sections["agent"], sections["run"].seed)

    def __init__(
        self, config: ClassifierConfig, network: NetworkSpec, images: ImageSet, *, seed: int, device: torch.device
    ) -> None:
        self.config, self.spec, self.seed, self.device = config, network, seed, device
        self.images = images.to(device)
        self.curriculum = curriculum_of(config, self.images, seed=seed)
        self.network = self.fresh_network(0).to(device)
        self.groups = {"network": self.network}
        self._own = dict(self.network.named_parameters())
        self._drops = any(isinstance(part, ChannelDropout) for part in self.network.modules())
        self.updates = 0
        self._drawn: tuple[int, Batch] | None = None

    @classmethod
    def build(cls, config: RunConfig, images: ImageSet | None = None, *, runs: int = 1) -> Self:
        """The classifier of a run's config, untrained, on the run's device; `images` are the config's, if loaded.

        UserError where the memory does not hold `runs` of them.
        """
        images, device = load(config.agent) if images is None else images, torch.device(config.run.device)
        space = spaces.Box(0, 255, images.shape, np.uint8)
        check_learning(config, space, spaces.Discrete(images.classes), runs=runs)
        return cls(config.agent, config.network, images, seed=config.run.seed, device=device)

    def fresh_network(self, task: int) -> Network:
        """The network that begins task `task`, on the CPU: a pure function of seed and task."""
        space = spaces.Box(0, 255, self.images.shape, np.uint8)
        generator = generator_for(self.seed, "network", task)
        return build_network(self.spec, space, self.images.classes, generator=generator)

    def batches(self) -> Iterator[Batch]:
        """The one batch of the next update."""
        if self._drawn is None or self._drawn[0] != self.updates:
            images, labels = self.curriculum.batch(self.updates)
            self._drawn = (self.updates, self._with_masks(images, labels, "dropout"))
        yield self._drawn[1]

    def probe_batch(self, rows: int) -> Batch:
        """The first images of the current task, always the same ones while it lasts."""
        task = self._current_task
        index = task.train_index[:rows]
        images = task.view(self.images.train.images.index_select(0, index))
        return self._with_masks(images, task.train_labels[index], "probe")

    def _with_masks(self, images: Tensor, labels: Tensor, purpose: str) -> Batch:
        """Images, labels, and the dropout masks that go with them, drawn for this update."""
        if not self._drops:
            return {"obs": images, "labels": labels}
        masks = draw_masks(self.network, len(images), generator_for(self.seed, purpose, self.updates))
        on_device = {f"{_MASK}{name}": mask.to(self.device) for name, mask in masks.items()}
        return {"obs": images, "labels": labels, **on_device}

    @property
    def _current_task(self) -> Task:
        """The task of the latest update."""
        return self.curriculum.task(self.curriculum.place(max(0, self.updates - 1)).task)

    def loss(self, params: Params, batch: Batch, generator: torch.Generator) -> LossOutput:
        """Mean cross-entropy in nats."""
        logits, features = self._outputs(params["network"], masks_of(batch), batch["obs"])
        loss = functional.cross_entropy(logits, batch["labels"])
        accuracy = (logits.argmax(-1) == batch["labels"]).float().mean()
        return LossOutput(loss, features, {"losses/accuracy": accuracy.detach()})

    def _outputs(self, params: Mapping[str, Tensor], masks: Mapping[str, Tensor], obs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, classes] and features [B, 512] of the network with these parameters and masks."""
        # Putting a small network's own parameters into it, and taking them out again, costs as much as its forward.
        if not masks and all(map(operator.is_, params.values(), self._own.values())):
            return self.network(obs, with_features=True)
        return functional_call(self.network, {**params, **masks}, (obs,), {"with_features": True})

    def after_update(self, output: LossOutput, batch: Batch) -> None:
        self.updates += 1

    def evaluate(self) -> dict[str, float]:
        """Accuracy of the network as it is on the task of its latest update, nothing dropped, by catalogue name."""
        task = self._current_task
        train, test = self.images.train.images, self.images.test.images
        accuracy, _ = self._judge(train, task.train_labels, task.train_index, task.view)
        found = {"train/accuracy": accuracy}
        if task.test_labels is not None:
            found["eval/accuracy"], found["eval/loss"] = self._judge(test, task.test_labels, task.test_index, task.view)
        return found

    @torch.no_grad()
    def _judge(self, images: Tensor, labels: Tensor, index: Tensor, view: Any) -> tuple[float, float]:
        """Share of right answers, and mean cross-entropy."""
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        for rows in index.split(EVALUATION_ROWS):
            logits = self.network(view(images.index_select(0, rows)))
            right += (logits.argmax(-1) == labels[rows]).sum()
            loss += functional.cross_entropy(logits, labels[rows], reduction="sum")
        return int(right) / len(index), float(loss) / len(index)

    def metrics(self) -> dict[str, float]:
        """The epochs that are over, in fractions, and the task of the latest update, from 1."""
        place = self.curriculum.place(max(0, self.updates - 1))
        ends = (0, *self.curriculum.epoch_ends)
        within = (self.updates - ends[place.epoch]) / (ends[place.epoch + 1] - ends[place.epoch])
        return {"train/epoch": place.epoch + within, "train/task": place.task + 1}

    def state_dict(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "updates": self.updates, "images": self.images.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["images"] != self.images.fingerprint:
            raise UserError(f"{self.images.source}: these are not the images that the run began with")
        self.network.load_state_dict(state["network"])
        self.updates = state["updates"]


def masks_of(batch: Batch) -> dict[str, Tensor]:
    """The dropout masks of a batch, by the names of the buffers that they take the place of."""
    return {name.removeprefix(_MASK): mask for name, mask in batch.items() if name.startswith(_MASK)}


def load(config: ClassifierConfig) -> ImageSet:
    """The images that the config names. Raises UserError, which names the file, where they cannot be had."""
    return load_images(config.dataset, data_dir=config.data_path, subset=config.subset, download=config.download)


@lru_cache(maxsize=64)
def _updates(config: ClassifierConfig, seed: int) -> int:
    """How many updates a run makes; kept, for the cells of a sweep ask for it by the hundred, and it takes reading.

    Of the first of its seeds; the tasks of the others are made too, so that one that cannot be is told beforehand.
    """
    images = load(config)
    updates = [curriculum_of(config, images, seed=seed + more).updates for more in range(config.seeds)]
    return updates[0]


def curriculum_of(config: ClassifierConfig, images: ImageSet, *, seed: int) -> Curriculum:
    """The curriculum of one seed."""
    return Curriculum(images, config.stream_spec, epochs=config.epochs, batch_size=config.batch_size, seed=seed)
