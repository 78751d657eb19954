"""The settings of supervised training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stablegrad.agents.base import fractions, positive
from stablegrad.errors import UserError
from stablegrad.settings import setting
from stablegrad.supervised.datasets import lasting_data_dir, resolve_dataset
from stablegrad.supervised.streams import FirstTask, Stream, StreamSpec, default_change_points

Dataset = Literal["auto", "cifar10", "cifar100", "fashion_mnist", "digits", "digits32", "textures"]

DEFAULT_LABEL_NOISE = 0.8

MOST_EPOCHS = 1_000_000
"""Where each epoch ends is kept in a list."""

MOST_SEEDS = 256
"""Each has its tasks, its network and its folder."""


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Which images, in which order of tasks, for how long. What is left open is filled in, so that it is recorded."""

    dataset: Dataset = setting(  # noqa: RUF009 - a word
        "auto", "which images; auto is the first that is at hand, and says which"
    )
    data_dir: str | None = setting(None, "their folder or archive (none: the usual places)", identity=False)
    download: bool = setting(False, "fetch images that are not there into --data_dir", identity=False)
    subset: int | None = setting(None, "only the first so many images of either split (published: 10000)")
    epochs: int = setting(100, "passes over the training images, over all tasks")
    batch_size: int = setting(256, "images an update learns from")
    non_stationary: bool = setting(False, "the published change: short for --stream shuffled_labels")
    stream: Stream = setting("stationary", "what changes at the change points")  # noqa: RUF009 - a word
    change_points: tuple[int, ...] | None = setting(
        None, "epochs at which a new task begins (none: five equal tasks, as published)"
    )
    first_task: FirstTask = setting(  # noqa: RUF009 - a word
        "true", "whether the first task has the true labels, or is drawn like the others"
    )
    label_noise: float | None = setting(None, "share of wrong labels in the first task of noisy_labels (none: 0.8)")
    fresh_networks: bool = setting(
        False, "a new network and optimizer for every task: the reference for lost plasticity"
    )
    seeds: int = setting(1, "train so many seeds, from --seed on, side by side; each has a run folder")
    eval_epochs: int = setting(1, "epochs between evaluations; every task ends with one")

    def __post_init__(self) -> None:
        problems = positive(self, "subset", "epochs", "batch_size", "seeds", "eval_epochs")
        problems += [
            f"--{name} {value:,}: at most {most:,}"
            for name, value, most in (("epochs", self.epochs, MOST_EPOCHS), ("seeds", self.seeds, MOST_SEEDS))
            if value > most
        ]
        if problems:  # before anything is looked at epoch by epoch
            raise UserError(problems)
        if self.label_noise is not None:
            problems += fractions(self, "label_noise")
            if self.stream != "noisy_labels":
                problems.append(f"--label_noise belongs to --stream noisy_labels, not to {self.stream}")
        if problems:
            raise UserError(problems)
        if self.dataset == "auto":
            self._fill_in("dataset", resolve_dataset("auto", data_dir=self.data_path))
        if root := lasting_data_dir(self.dataset, data_dir=self.data_path, download=self.download):
            self._fill_in("data_dir", str(root))
        if self.non_stationary and self.stream == "stationary":
            self._fill_in("stream", "shuffled_labels")
        self._fill_in("non_stationary", self.stream != "stationary")
        if self.change_points is None:
            self._fill_in("change_points", default_change_points(self.epochs) if self.non_stationary else ())
        if self.label_noise is None and self.stream == "noisy_labels":
            self._fill_in("label_noise", DEFAULT_LABEL_NOISE)
        if self.points and self.points[-1] >= self.epochs:
            problems.append(f"--change_points {self.points[-1]}: the run ends after {self.epochs} epochs")
        if self.fresh_networks and not self.points:
            problems.append("--fresh_networks needs more than one task: choose a --stream")
        try:
            self.stream_spec  # noqa: B018 - builds, and so checks, the stream
        except UserError as error:
            problems.extend(error.problems)
        if problems:
            raise UserError(problems)

    @property
    def points(self) -> tuple[int, ...]:
        return self.change_points or ()

    @property
    def stream_spec(self) -> StreamSpec:
        """The stream of tasks."""
        return StreamSpec(
            stream=self.stream,
            change_points=self.points,
            first_task=self.first_task,
            label_noise=DEFAULT_LABEL_NOISE if self.label_noise is None else self.label_noise,
        )

    @property
    def data_path(self) -> Path | None:
        """`data_dir` as a path."""
        return None if self.data_dir is None else Path(self.data_dir)

    def _fill_in(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
