"""RunConfig: everything that one run is, resolved, frozen, and flat to the outside. Torch-free.

A run's settings lie in sections (run, budget, environment, network, optimizer, the agent's own), but every field
name is unique, so flags, TOML files, `config.json` and sweeps see one flat namespace. `RunConfig.resolve` turns
what a user wrote into what is used; `RunConfig.from_flat` reads back what was used, changing nothing.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from stablegrad import settings
from stablegrad.agents import agent_kind
from stablegrad.envs.ids import backend_of
from stablegrad.envs.schedule import first_game
from stablegrad.envs.spec import EnvSpec
from stablegrad.errors import UserError, nearest
from stablegrad.nn.spec import NetworkSpec, initialises_convolutions
from stablegrad.optim.info import OPTIMIZERS, info
from stablegrad.registry import absolute, is_user_file
from stablegrad.runs.published import dropped_flag
from stablegrad.settings import setting

MOST_THREADS = 1024
"""More than any machine has cores; at a few times ten thousand the threads of OpenMP end the process."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What every run has, reinforcement learning or not."""

    seed: int = setting(1, "seed of everything that is drawn")
    device: str = setting("cpu", "where the networks live: cpu, cuda, cuda:1, …")
    threads: int | None = setting(
        None, "CPU threads of torch (none: all cores); it can change results in the last bits", identity=False
    )
    matmul_precision: Literal["highest", "high"] = setting(
        "highest", "float32 matrix products on CUDA: highest is exact, high allows TF32 (the published setting)"
    )
    log_every: int | None = setting(None, "steps between rows of metrics.jsonl (none: 200 rows in all)")
    diagnostics: Literal["off", "light", "full"] = setting("light", "probes of the network while it trains")
    diagnostics_every: int | None = setting(
        None, "steps between probes (none: as often as 2 %, or 15 % with full, of the time allow)"
    )
    diagnostics_batch: int = setting(1024, "rows that the probes look at, at most (the published code used 128)")
    checkpoint_every: int = setting(1_000_000, "steps between checkpoints; the end always writes one", identity=False)
    keep_checkpoints: int = setting(2, "how many checkpoints are kept", identity=False)
    track: tuple[str, ...] = setting((), "mirrors of the run folder: tensorboard, …", identity=False)

    def __post_init__(self) -> None:
        _positive(self, "threads", "log_every", "diagnostics_every", "diagnostics_batch", "checkpoint_every",
                  "keep_checkpoints")  # fmt: skip
        problems = []
        if not 0 <= self.seed <= settings.LARGEST:
            problems.append(f"--seed {self.seed}: must be between 0 and {settings.LARGEST}")
        if self.threads is not None and self.threads > MOST_THREADS:
            problems.append(f"--threads {self.threads}: must be at most {MOST_THREADS}")
        if problems:
            raise UserError(problems)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much experience, and how it is evaluated on the way."""

    total_timesteps: int = setting(10_000_000, "agent steps over all environments (an Atari step is 4 frames)")
    num_envs: int = setting(1, "environments stepped together")
    eval_every: int | None = setting(None, "steps between evaluations on a separate pool (none: never)")
    eval_episodes: int = setting(30, "whole episodes an evaluation plays")
    fresh_networks: bool = setting(
        False, "with --task_schedule: new networks and optimizers at every change, the reference for lost plasticity"
    )
    scores_run_on: bool = setting(False, "published fault: a time-out does not close the score of a game")

    def __post_init__(self) -> None:
        _positive(self, "total_timesteps", "num_envs", "eval_every", "eval_episodes")


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """The optimizer; `learning_rate` is the one used, `lr_scale` the factor it already holds."""

    optimizer: str = setting("adam", f"one of {', '.join(OPTIMIZERS)}, or path/to/file.py:Name")
    learning_rate: float = setting(2.5e-4, "before --lr_scale on the command line; recorded after it, as used")
    lr_scale: float | None = setting(None, "factor on the learning rate (none: the optimizer's own, 1/3 for kron)")
    optimizer_eps: float | None = setting(None, "eps of adam-like optimizers (none: the agent's or torch's)")
    weight_decay: float | None = setting(None, "weight decay (none: the optimizer's own default)")
    max_grad_norm: float | None = setting(None, "norm to which each group's gradient is clipped (none: not)")
    conv_view: Literal["out_in", "published"] = setting("out_in", "how kron views a convolution as a matrix")
    update_probability: float | None = setting(None, "kron: how often the preconditioner is updated (none: schedule)")

    def __post_init__(self) -> None:
        problems = [problem for problem in (OPTIMIZERS.problem(self.optimizer),) if problem]
        problems += [
            f"--{name} {value}: must be positive"
            for name in ("learning_rate", "lr_scale", "optimizer_eps", "max_grad_norm")
            if (value := getattr(self, name)) is not None and not value > 0
        ]
        if self.learning_rate > settings.LARGEST_FLOAT:
            problems.append(f"--learning_rate {self.learning_rate}, scaled: must be at most {settings.LARGEST_FLOAT}")
        if self.optimizer != "kron":
            problems += [
                f"--{name} belongs to kron, not to {self.optimizer}"
                for name, default in (("conv_view", "out_in"), ("update_probability", None))
                if getattr(self, name) != default
            ]
        if problems:
            raise UserError(problems)


def _positive(section: Any, *names: str) -> None:
    problems = [
        f"--{name} {value}: must be at least 1"
        for name in names
        if (value := getattr(section, name)) is not None and value < 1
    ]
    if problems:
        raise UserError(problems)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run. `budget` and `env` are None where there is no environment (supervised training)."""

    algo: str
    run: RunSettings
    network: NetworkSpec
    optimizer: OptimizerSpec
    agent: Any
    budget: Budget | None = None
    env: EnvSpec | None = None

    @classmethod
    def resolve(cls, algo: str, values: Mapping[str, Any]) -> Self:
        """What the user asked for, made explicit. Raises UserError with every problem at once."""
        kind = agent_kind(algo)
        algo = absolute(algo)
        sections = section_types(algo)
        values = {getattr(kind, "aliases", {}).get(name, name): value for name, value in values.items()}
        values = {name: absolute(value) if isinstance(value, str) else value for name, value in values.items()}
        values = _expand_faithful(kind, values)
        known = known_fields(algo)
        problems = [_unknown(algo, name, known) for name in values if name not in known]
        given = {**_applicable(kind.defaults, values), **values}
        built = {
            name: settings.build(section, given, problems)
            for name, section in sections.items()
            if section is not EnvSpec
        }
        if "env" in sections:
            try:
                built["env"] = EnvSpec.resolve(given)
            except UserError as error:
                problems.extend(error.problems)
        if not problems and "env" in built:
            built["env"] = _scheduled(built["env"], built["budget"], problems)
        if not problems:
            problems.extend(kind.check(**built))
        if problems:
            raise UserError(problems)
        built["optimizer"] = _scaled(built["optimizer"])
        built["run"] = _cadence(built["run"], kind.total_steps(**built))
        return cls(algo=algo, **built)

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any]) -> Self:
        """The config that `flat()` described, as recorded in `config.json`: nothing is scaled or filled in again.

        A setting that it lacks is one that came later: it has the value that held before it could be set.
        """
        problems: list[str] = []
        algo = str(flat["algo"])
        known = known_fields(algo)
        problems += [_unknown(algo, name, known) for name in unknown_settings(flat)]
        flat = completed(flat)
        built = {name: settings.build(section, flat, problems) for name, section in section_types(algo).items()}
        if problems:
            raise UserError(problems)
        return cls(algo=algo, **built)

    def problems(self) -> list[str]:
        """What the algorithm finds wrong with the sections together, one sentence each; `from_flat` does not ask."""
        return agent_kind(self.algo).check(**{name: getattr(self, name) for name in section_types(self.algo)})

    def remarks(self) -> list[str]:
        """What the algorithm finds odd about a run that can start all the same, one sentence each."""
        return agent_kind(self.algo).remarks(**{name: getattr(self, name) for name in section_types(self.algo)})

    def flat(self) -> dict[str, Any]:
        """Every setting under its flag's name, JSON-ready, in section order."""
        flat: dict[str, Any] = {"algo": self.algo}
        for name in section_types(self.algo):
            for key, value in dataclasses.asdict(getattr(self, name)).items():
                flat[key] = list(value) if isinstance(value, tuple) else value
        return flat

    @cached_property
    def identity(self) -> str:
        """Ten hex digits of everything that can change the result: the same for two runs of one configuration.

        Of a user's file only the name counts, not the folder that it lies in. A setting that came later counts where
        it differs from what held before it, so that the runs of earlier versions keep their names.
        """
        used = {k: v for k, v in self.flat().items() if k == "algo" or self._counts(k, v)}
        used = {k: Path(v).name if isinstance(v, str) and is_user_file(v) else v for k, v in used.items()}
        return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()[:10]

    def _counts(self, name: str, value: Any) -> bool:
        field = known_fields(self.algo)[name]
        if not field.metadata.get("identity", True):
            return False
        return not settings.came_later(field) or value not in settings.neutral(field)

    @property
    def subject(self) -> str:
        """What is learned: the environment's id, or the name of the images."""
        return self.env.env_id if self.env is not None else str(self.agent.dataset)

    @property
    def name(self) -> str:
        """The default name of the run's folder."""
        subject = self.subject.rpartition("/")[2].replace(":", "_")
        return f"{self.algo.rpartition('/')[2].replace(':', '_')}-{subject}-{self.run.seed}-{self.identity}"


def section_types(algo: str) -> dict[str, type]:
    """Section name -> dataclass, for one algorithm."""
    kind = agent_kind(algo)
    sections: dict[str, type] = {"run": RunSettings}
    if getattr(kind, "has_environment", True):
        sections |= {"budget": Budget, "env": EnvSpec}
    return {**sections, "network": NetworkSpec, "optimizer": OptimizerSpec, "agent": kind.Config}


def known_fields(algo: str) -> dict[str, dataclasses.Field[Any]]:
    """Flag name -> dataclass field, over all sections of one algorithm."""
    return {f.name: f for section in section_types(algo).values() for f in dataclasses.fields(section) if f.init}


def _unknown(algo: str, name: str, known: Mapping[str, Any]) -> str:
    return dropped_flag(algo, name) or f"{algo} has no setting --{name}{nearest(name, known)}"


def _expand_faithful(kind: Any, values: dict[str, Any]) -> dict[str, Any]:
    """`faithful` switches every named published behaviour on; a value given beside it wins."""
    asked = values.pop("faithful", False)
    try:
        if not settings.coerce(asked, bool):
            return values
    except ValueError as error:
        raise UserError(f"--faithful {asked!r}: {error}") from None
    published = dict(kind.published_behaviour)
    optimizer = values.get("optimizer", published.get("optimizer", kind.defaults.get("optimizer")))
    if optimizer != "kron":
        published.pop("conv_view", None)
    if not _adam_like(optimizer):
        published.pop("optimizer_eps", None)
    if not initialises_convolutions(values.get("cnn_type", kind.defaults.get("cnn_type"))):
        published.pop("conv_init", None)
    return {**published, **values}


def _adam_like(optimizer: Any) -> bool:
    """Whether an agent's `optimizer_eps` is meant for this optimizer too; a user's own says for itself."""
    return isinstance(optimizer, str) and optimizer in OPTIMIZERS and info(optimizer).adam_like


def _applicable(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The agent's defaults that fit: its `optimizer_eps` is meant for Adam and its kin, its `protocol` for Atari."""
    unfit = set()
    if not _adam_like(values.get("optimizer", defaults.get("optimizer"))):
        unfit.add("optimizer_eps")
    first = _first_game(values)
    if first is not None:
        unfit.add("env_id")
    if backend_of(str(values.get("env_id", first or defaults.get("env_id")))) != "atari":
        unfit.add("protocol")
    return {name: value for name, value in defaults.items() if name not in unfit}


def _first_game(values: Mapping[str, Any]) -> str | None:
    """The game that a `task_schedule` among `values` begins with."""
    try:
        schedule = settings.coerce(values.get("task_schedule") or (), tuple[str, ...])
    except ValueError:
        return None  # EnvSpec.resolve says what is wrong with it
    return first_game(schedule) if schedule else None


def _scheduled(env: EnvSpec, budget: Budget, problems: list[str]) -> EnvSpec:
    """The environments with the change points of a run of this length."""
    if budget.fresh_networks and not env.task_schedule:
        problems.append("--fresh_networks needs a --task_schedule: there is no change at which to begin afresh")
    try:
        return env.scheduled_over(budget.total_timesteps, num_envs=budget.num_envs)
    except UserError as error:
        problems.extend(error.problems)
        return env


def _scaled(spec: OptimizerSpec) -> OptimizerSpec:
    scale = info(spec.optimizer).lr_scale if spec.lr_scale is None else spec.lr_scale
    return dataclasses.replace(spec, learning_rate=spec.learning_rate * scale, lr_scale=scale)


def _cadence(run: RunSettings, total_steps: int) -> RunSettings:
    return dataclasses.replace(
        run,
        log_every=run.log_every or max(1, total_steps // 200),
    )


def completed(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded flat config with every setting that it lacks: what held before that could be set."""
    known = known_fields(str(flat["algo"]))
    return {**{name: settings.unsaid(field) for name, field in known.items() if name not in flat}, **flat}


def unknown_settings(flat: Mapping[str, Any]) -> list[str]:
    """Settings that a recorded flat config has and this version has not: a later version recorded it."""
    known = known_fields(str(flat["algo"]))
    return [name for name in flat if name not in known and name != "algo"]


def differences(recorded: Mapping[str, Any], config: RunConfig) -> list[str]:
    """Settings in which a recorded flat config differs from `config`, one sentence each, identity ones only."""
    if recorded.get("algo") != config.algo:  # and what it names stays unimported
        return [f"--algo: the checkpoint has {recorded.get('algo')!r}, the run's config {config.algo!r}"]
    known = known_fields(config.algo)
    before, now = completed(recorded), config.flat()
    found = [
        f"--{name}: the checkpoint has {before[name]!r}, the run's config {value!r}"
        for name, value in now.items()
        if before[name] != value and known[name].metadata.get("identity", True)
    ]
    return found + [
        f"--{name}: the checkpoint has {before[name]!r}, and this version of stablegrad knows no such setting"
        for name in before
        if name not in now
    ]
