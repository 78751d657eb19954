"""Supervised training of one seed: an update a step, an evaluation an epoch."""

import time
from collections.abc import Sequence

from stablegrad.plasticity.base import Intervention
from stablegrad.runs.config import RunConfig
from stablegrad.supervised.classifier import Classifier
from stablegrad.supervised.data import ImageSet
from stablegrad.training.session import Session


class SupervisedTraining(Session):
    """A run of a classifier over its tasks. A step is an update."""

    agent: Classifier

    def __init__(
        self,
        config: RunConfig,
        *,
        interventions: Sequence[Intervention] = (),
        images: ImageSet | None = None,
        runs: int = 1,
    ) -> None:
        """`runs` are how many like it are trained at once: the memory is to hold them all."""
        classifier = Classifier.build(config, images, runs=runs)
        super().__init__(
            config,
            classifier,
            total_steps=classifier.curriculum.updates,
            parts=("inference",),
            evaluate_every=None,
            interventions=interventions,
        )

    def _advance(self) -> None:
        self.prepare()
        self.learn()

    def prepare(self) -> bool:
        """What comes before an update: a fresh network, if this is the first of a task that asks for one."""
        curriculum = self.agent.curriculum
        due = self.agent.config.fresh_networks and self.step in curriculum.task_starts[1:]
        if due:
            self._start_afresh(curriculum.task_starts.index(self.step))
        return due

    def learn(self) -> None:
        """One update, and what is due behind it."""
        self.step += 1
        for intervention in self.learner.interventions:
            intervention.on_step(self.learner.moment(self.step))
        self._learn()
        evaluated = self._evaluation_is_due()
        if evaluated:
            start = time.perf_counter()
            self.recorder.probes(self.agent.evaluate())
            self._spent["inference"] += time.perf_counter() - start
        if self._is_due("row", self.config.run.log_every) or evaluated:
            self._row()
        self.recorder.progress(self.step, self.total_steps)

    def _evaluation_is_due(self) -> bool:
        """After every `eval_epochs` epochs, and at the end of every task."""
        curriculum = self.agent.curriculum
        epochs = curriculum.epochs_ending_at(self.step)
        if epochs is None:
            return False
        ends_task = epochs == curriculum.epochs or epochs in curriculum.spec.change_points
        return ends_task or epochs % self.agent.config.eval_epochs == 0

    def _start_afresh(self, task: int) -> None:
        """A new network and optimizer, in the places of the old ones."""
        self.agent.network.load_state_dict(self.agent.fresh_network(task).state_dict())
        self.learner.restart_optimizers()
