"""Record anybody's training loop as a run folder, for `stablegrad doctor`, `watch` and `report`.

    from stablegrad.integrations.recording import record

    run = record("runs/mine", agent, optimizer, config=vars(args))
    ...
        run.episode(global_step, score, length)   # where a game ends
        run.log(global_step, obs)                 # once an iteration, behind its updates
    run.close()

Gradients are measured by hooks on parameters and optimizer, units and ranks on the observations given to `log`.
Nothing of the training changes: no parameter, no gradient, no random generator.
"""

import contextlib
import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from stablegrad.diagnostics import battery
from stablegrad.diagnostics.gradients import below_median_share
from stablegrad.diagnostics.parts import run as outputs_of
from stablegrad.diagnostics.parts import state_values
from stablegrad.errors import UserError
from stablegrad.nn import taps
from stablegrad.runs.files import LineWriter
from stablegrad.runs.folder import RunFolder
from stablegrad.training.recorder import Means

DEFAULT_ROWS = 200
"""Rows of a run whose config says how long it is; another writes one every `_EVERY` steps."""

_EVERY = 5000
_INNER = "inner."


def record(
    path: str | Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    config: Mapping[str, Any],
    forward: Callable[[Any, Any], Any] | None = None,
    every: int | None = None,
    batch: int = 512,
) -> "Recording":
    """Begin to record the training of `module` by `optimizer` in a new folder.

    `config` is what the run was asked for, by this package's names where they exist (`env_id`, `total_timesteps`,
    `learning_rate`, `gamma`, `seed`, …). `forward(module, obs)` gives the network's outputs where `module(obs)` does
    not: the action values or logits, or a tuple of (policy, values). A row is written every `every` steps, 200 times
    in all unless given; probes look at `batch` observations. UserError when the folder holds a run already.
    """
    where = Path(path)
    RunFolder.check_unused(where)
    settings = {"algo": type(module).__name__, **{name: _plain(value) for name, value in config.items()}}
    total = settings.get("total_timesteps")
    if every is None:
        every = max(1, int(total) // DEFAULT_ROWS) if isinstance(total, int | float) else _EVERY
    if every < 1 or batch < 2:
        raise UserError("record needs every >= 1 step and a batch of at least 2 observations")
    held = contextlib.ExitStack()
    folder = held.enter_context(RunFolder.creating(where, settings))
    folder.publish()
    network = module if forward is None else _Through(module, forward)
    return Recording(folder, network, optimizer, every=every, batch=batch, held=held)


class Recording:
    """A run that is being written; `record` begins one, `close` (or leaving it as a context) ends it."""

    def __init__(
        self,
        folder: RunFolder,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        every: int,
        batch: int,
        held: contextlib.ExitStack,
    ) -> None:
        self.folder, self._held = folder, held
        self._network, self._every, self._batch = network, every, batch
        self._metrics, self._episodes = LineWriter(folder.metrics), LineWriter(folder.episodes)
        self._gradients = _Gradients(network, optimizer)
        self._scores: list[float] = []
        self._lengths: list[int] = []
        self._step, self._due = 0, every
        self._before: nn.Module | None = None
        folder.set_status("running", 0)

    def episode(self, step: int, score: float, length: int, *, env: int = 0) -> None:
        """A game that ended: its score is the sum of raw rewards."""
        self._episodes.write({"step": step, "env": env, "score": float(score), "length": int(length)})
        self._scores.append(float(score))
        self._lengths.append(int(length))

    def log(self, step: int, obs: Any, metrics: Mapping[str, float] | None = None) -> bool:
        """Call once an iteration, behind its updates; writes a row where one is due and says so.

        `obs` [N, *] are observations as the network takes them, or a function that gives them when a row is due;
        `metrics` are more numbers by catalogue name.
        """
        stride, self._step = step - self._step, step
        written = step >= self._due
        if written:
            self._due = (step // self._every + 1) * self._every
            self._row(step, obs, metrics or {})
        # Churn compares with the network from before the updates of the iteration that a row closes.
        closing = step + stride >= self._due
        self._before = copy.deepcopy(self._network) if closing else None
        self._gradients.measure = closing
        return written

    def close(self, state: str = "done", *, reason: str | None = None) -> None:
        """Remove the hooks, and write how the run ended."""
        self._gradients.remove()
        self._metrics.close()
        self._episodes.close()
        with self._held:
            self.folder.set_status(state, self._step, reason=reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.close("failed", reason=f"{type(error).__name__}: {error}")

    def _row(self, step: int, obs: Any, metrics: Mapping[str, float]) -> None:
        row: dict[str, Any] = {"step": step, "update": self._gradients.updates}
        if self._scores:
            row["train/episode_return"] = sum(self._scores) / len(self._scores)
            row["train/episode_length"] = sum(self._lengths) / len(self._lengths)
        row["train/episodes"] = len(self._scores)
        row |= self._gradients.take()
        row |= self._probes(obs)
        self._metrics.write({name.replace(f"/{_INNER}", "/"): value for name, value in row.items()} | dict(metrics))
        self._scores, self._lengths = [], []

    def _probes(self, obs: Any) -> dict[str, float]:
        given = obs() if callable(obs) else obs
        inputs = given if isinstance(given, Tensor) else torch.as_tensor(given)
        inputs = inputs[torch.linspace(0, len(inputs) - 1, min(len(inputs), self._batch)).round().long()]
        inputs = inputs.to(next(self._network.parameters()).device)
        found = battery.of_network(self._network, inputs)
        found["losses/values"] = state_values(outputs_of(self._network, inputs)).mean()
        if self._before is not None:
            found |= battery.of_change(self._before, self._network, inputs)
        return battery.fetch(found)


class _Gradients:
    """Norms by layer, measured by hooks: raw as backward leaves them, and the change by the optimizer when asked.

    `raw` is right wherever one backward pass feeds one optimizer step.
    """

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        parameters = dict(network.named_parameters())
        self._layers = {name: parameters[weight] for name, weight in taps.layers(network).items()}
        self._layers = {name: weight for name, weight in self._layers.items() if weight.requires_grad}
        self._raw: dict[int, Tensor] = {}
        self._old: dict[str, Tensor] = {}
        self._means = Means()
        self.updates = 0
        self.measure = True
        trained = [parameter for parameter in parameters.values() if parameter.requires_grad]
        self._handles: list[Any] = [p.register_post_accumulate_grad_hook(self._on_gradient) for p in trained]
        self._handles.append(optimizer.register_step_pre_hook(self._before_step))
        self._handles.append(optimizer.register_step_post_hook(self._after_step))

    def take(self) -> dict[str, Any]:
        """The means since the last call."""
        return dict(self._means.take())

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    @torch.no_grad()
    def _on_gradient(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._raw[id(parameter)] = torch.linalg.vector_norm(parameter.grad)

    @torch.no_grad()
    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if not self._raw:
            return
        norms = {name: self._raw.get(id(weight), torch.zeros(())) for name, weight in self._layers.items()}
        total = torch.linalg.vector_norm(torch.stack(list(self._raw.values())))
        self._means.add(
            {f"gradients/raw/{name}": norm for name, norm in norms.items()} | {"gradients/raw/total": total}
        )
        self._raw = {}
        if self.measure:
            self._means.add({"gradients/below_median_share": below_median_share(torch.stack(list(norms.values())))})
            self._old = {name: weight.detach().clone() for name, weight in self._layers.items()}

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self.updates += 1
        if self._old:
            for name, weight in self._layers.items():
                old = self._old[name]
                change = torch.linalg.vector_norm(weight - old)
                relative = change / torch.linalg.vector_norm(old)
                self._means.add({f"gradients/update/{name}": change, f"gradients/update_to_weight/{name}": relative})
            self._old, self.measure = {}, False


class _Through(nn.Module):
    """`inner` behind a function of the user's that calls it; a copy of this calls the copy of `inner`."""

    def __init__(self, inner: nn.Module, forward: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.inner = inner
        self.training = inner.training
        self._function = forward

    def forward(self, obs: Any) -> Any:
        return self._function(self.inner, obs)


def _plain(value: Any) -> Any:
    """A value of a config as JSON can hold it."""
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
