"""`stablegrad check path/to/file.py:Name`: the contract tests on your own agent, trunk, encoder or environment."""

import dataclasses
import inspect
import traceback
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from stablegrad.agents import AGENTS
from stablegrad.agents import contract as agents
from stablegrad.agents.base import Agent, AgentSetup
from stablegrad.commands.parsing import Parser, add_settings, underscored
from stablegrad.envs import EnvSpec, make
from stablegrad.envs import contract as environments
from stablegrad.errors import DONE, FAILED, UserError
from stablegrad.nn import contract as networks
from stablegrad.nn.parts import PartsBox
from stablegrad.nn.spec import ENCODERS, TRUNKS, NetworkSpec
from stablegrad.registry import is_user_file, load_user_object
from stablegrad.runs.config import RunConfig, section_types
from stablegrad.settings import build
from stablegrad.text import say
from stablegrad.training.contract import check_resume
from stablegrad.training.loop import agent_setup
from stablegrad.training.memory import check_environments, check_network, check_run

Kind = Literal["agent", "trunk", "encoder", "environment"]

Check = tuple[str, list[str]]

# Small enough for seconds: what is not given on the command line.
_SMALL: dict[str, Any] = {
    "env_id": "CartPole-v1",
    "total_timesteps": 600,
    "num_envs": 2,
    "mlp_width": 16,
    "mlp_depth": 1,
    "diagnostics_batch": 32,
}
_SMALL_OWN: dict[str, Any] = {
    "num_steps": 16,
    "num_minibatches": 2,
    "buffer_size": 300,
    "batch_size": 16,
    "learning_starts": 40,
    "target_network_frequency": 100,
}


def main(argv: list[str]) -> int:
    if not argv or argv[0].startswith("-"):
        if argv[:1] not in (["-h"], ["--help"]):
            raise UserError("say what to check: `stablegrad check path/to/file.py:Name`")
        name, kind = "NAME", None
    else:
        name, argv = argv[0], argv[1:]
        # Only an environment is given arguments, and with them its callable may have any.
        built_with = any(underscored(argument).startswith("--env_kwargs") for argument in argv)
        kind = "environment" if built_with else kind_of(name)
    parser = Parser(
        f"check {name}",
        "Put an agent, trunk, encoder or environment to the promises that ours keep, and say in words which are"
        "\nbroken. Settings of a short run may be given, such as --env_id Pendulum-v1 or --learning_starts 50.",
        example="stablegrad check examples/my_agent.py:MyAgent",
    )
    sections = section_types(name) if kind == "agent" else {"network": NetworkSpec, "env": EnvSpec}
    for title, section in sections.items():
        add_settings(parser, title, section, {})
    given = vars(parser.parse(argv))
    assert kind is not None
    broken = 0
    say(f"{kind} {name}")
    for promise, problems in _to_the_end(_CHECKS[kind](name, given)):
        broken += bool(problems)
        say(f"  {'FAIL' if problems else 'ok':4}  {promise}", *(f"          {p}" for p in problems))
    say(f"{broken} broken" if broken else "every promise is kept")
    return FAILED if broken else DONE


def kind_of(name: str) -> Kind:
    """What `name` is: by its registry, or, in a user's file, by its base class or its arguments."""
    registries: dict[Kind, Any] = {"agent": AGENTS, "trunk": TRUNKS, "encoder": ENCODERS}
    for kind, registry in registries.items():
        if name in registry:
            return kind
    if not is_user_file(name):
        return "environment"
    found = load_user_object(name)
    if isinstance(found, type) and issubclass(found, Agent):
        return "agent"
    arguments = inspect.signature(found).parameters if callable(found) else {}
    if "linear" in arguments:
        return "trunk"
    if "spec" in arguments:
        return "encoder"
    if callable(found) and not _required(arguments):
        return "environment"
    raise UserError(
        f"cannot tell what {name} is: an agent is a subclass of stablegrad.agents.base.Agent, an environment a callable"
        " without arguments, a trunk takes (in_features, out_features, *, spec, linear), an encoder (shape, *, spec)"
    )


def _required(arguments: Mapping[str, inspect.Parameter]) -> list[str]:
    several = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [name for name, each in arguments.items() if each.default is each.empty and each.kind not in several]


def _to_the_end(checks: Iterator[Check]) -> Iterator[Check]:
    """All checks; where the code that is checked raises, that is the last one."""
    try:
        yield from checks
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - somebody else's code under test may raise anything
        frame = traceback.extract_tb(error.__traceback__)[-1]
        yield "it runs", [f"{type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"]


def _agent(name: str, given: Mapping[str, Any]) -> Iterator[Check]:
    own = {field.name for field in dataclasses.fields(section_types(name)["agent"])}
    small = {**_SMALL, **{setting: value for setting, value in _SMALL_OWN.items() if setting in own}}
    config = RunConfig.resolve(name, {**small, **given})
    assert config.env is not None
    assert config.budget is not None
    check_run(config)
    envs = make(config.env, num_envs=config.budget.num_envs, seed=config.run.seed)
    try:
        setup = agent_setup(config, envs)
    finally:
        envs.close()
    steps = config.budget.total_timesteps // config.budget.num_envs
    yield from agents.checks(partial(_built, config), setup, steps=steps)
    yield check_resume(config)


def _built(config: RunConfig, setup: AgentSetup) -> Agent:
    return AGENTS[config.algo](config.agent, setup)


def _trunk(name: str, given: Mapping[str, Any]) -> Iterator[Check]:
    fields = _network(given)
    inputs = spaces.Box(-1, 1, (networks.IN_FEATURES,), np.float32)
    check_network(NetworkSpec(**{**fields, "mlp_type": name}), inputs)
    return networks.check_trunk(name, fields)


def _encoder(name: str, given: Mapping[str, Any]) -> Iterator[Check]:
    env = make(EnvSpec.resolve({"env_id": "Breakout-v5", **given}), num_envs=1, seed=1)
    env.close()
    space = env.observation_space
    if isinstance(space, PartsBox):  # an encoder of one's own is for images
        space = next(part.space for part in space.parts if len(part.space.shape) == 3)
    fields = _network(given)
    check_network(NetworkSpec(**{**fields, "cnn_type": name}), space)
    return networks.check_encoder(name, fields, space)


def _network(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a network among `given`, each of its type."""
    problems: list[str] = []
    spec = build(NetworkSpec, given, problems)
    if problems:
        raise UserError(problems)
    return {name: value for name, value in dataclasses.asdict(spec).items() if name in given}


def _environment(name: str, given: Mapping[str, Any]) -> Iterator[Check]:
    spec = EnvSpec.resolve({**given, "env_id": name})
    check_environments(spec, environments.NUM_ENVS)
    problems = environments.violations(partial(make, spec))
    yield "episodes, scores and time limits are told as they are, and any moment can be restored", problems


_CHECKS = {"agent": _agent, "trunk": _trunk, "encoder": _encoder, "environment": _environment}
