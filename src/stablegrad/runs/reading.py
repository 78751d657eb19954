"""What a run's folder says, for everybody who reads it without training: whoever wrote or edited it. Torch-free."""

import math
from pathlib import Path
from typing import Any, TypeGuard

from stablegrad.errors import UserError
from stablegrad.runs.files import read_object
from stablegrad.runs.locks import CLAIM, LOCK, is_held
from stablegrad.text import quoted

_NUMBERS = ("seed", "total_timesteps", "gamma", "max_grad_norm", "learning_rate", "lr_scale")
_SIZES = ("mlp_depth", "mlp_width")
_LISTS = ("task_schedule", "change_points")

GONE = "its process is gone without a word: killed, or the machine went down"
"""Why a run is stopped that says it is running."""


def read_config(run: Path) -> dict[str, Any]:
    """The settings in a run's config.json, as they stand there.

    UserError where there is no such file, it is no JSON object, or what readers calculate with is of another type:
    a run of somebody else's training may have other settings, but not these with another meaning.
    """
    path = run / "config.json"
    try:
        config = read_object(path)
    except FileNotFoundError:
        what = "it has no config.json" if run.is_dir() else "there is no such folder"
        raise UserError(f"{run} is not a run: {what}") from None
    except OSError as error:
        raise UserError(f"{run} is not a run that can be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    problems = [
        f"{path}: {name} {quoted(config[name])} must be {wanted}"
        for names, holds, wanted in (
            (_NUMBERS, is_number, "a finite number"),
            (_SIZES, lambda value: isinstance(value, str) or is_number(value), "a word or a number"),
            (_LISTS, lambda value: isinstance(value, list), "a list"),
        )
        for name in names
        if config.get(name) is not None and not holds(config[name])
    ]
    if problems:
        raise UserError(problems)
    return config


def read_status(run: Path) -> dict[str, Any]:
    """{"state": …, "step": …} and perhaps a "reason" from a run's status.json; empty where it says nothing sound.

    A run that nobody is at work on does not count as running, whatever the last process could still write.
    """
    try:
        status = read_object(run / "status.json")
    except (OSError, ValueError):
        return {}
    state, step, reason = status.get("state"), status.get("step"), status.get("reason")
    if not isinstance(state, str) or not is_number(step) or step < 0:
        return {}
    sound = {**status, "step": int(step)}
    if reason is not None:
        sound["reason"] = str(reason)
    # Where nobody ever locked the folder (a record that another program writes), there is nothing to go by.
    if state == "running" and (run / LOCK).exists() and not any(is_held(run / name) for name in (LOCK, CLAIM)):
        sound |= {"state": "stopped", "reason": GONE}
    return sound


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value from JSON is a finite number (`true` is none)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
