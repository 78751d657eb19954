"""Schedules as pure functions of a counter: nothing to advance, nothing to save, the same after a resume."""


def linear(step: float, *, start: float, end: float, duration: float) -> float:
    """A straight line from `start` at step 0 to `end` at `duration`, and `end` from there on:

        v(t) = (1 - f) start + f end,   f = min(t / duration, 1).

    `step` and `duration` share a unit (steps, updates or fractions of a run). A duration of 0 gives `end`.
    """
    fraction = _fraction(step, duration)
    return (1 - fraction) * start + fraction * end


def exponential(step: float, *, start: float, end: float, duration: float) -> float:
    """A straight line in the logarithm, from `start` at step 0 to `end` at `duration`, both positive:

        v(t) = start^(1-f) · end^f,   f = min(t / duration, 1).

    For a discount that approaches 1, use it on 1 - γ. Source: Schwarzer et al. 2023 (BBF), section 3.
    """
    if start <= 0 or end <= 0:
        raise ValueError(f"an exponential schedule needs positive ends, not {start} and {end}")
    fraction = _fraction(step, duration)
    return start ** (1 - fraction) * end**fraction


def _fraction(step: float, duration: float) -> float:
    if step < 0 or duration < 0:
        raise ValueError(f"step and duration must not be negative, not {step} and {duration}")
    return 1.0 if step >= duration else step / duration
