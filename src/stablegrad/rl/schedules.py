"""Schedules as pure functions of a counter: nothing to advance, nothing to save, the same after a resume."""


def linear(step: float, *, start: float, end: float, duration: float) -> float:
    """A straight line from `start` at step 0 to `end` at `duration`, and `end` from there on:

        v(t) = (1 - f) start + f end,   f = min(t / duration, 1).

    `step` and `duration` share a unit (steps, updates or fractions of a run). A duration of 0 gives `end`.
    """
    if step < 0 or duration < 0:
        raise ValueError(f"step and duration must not be negative, not {step} and {duration}")
    fraction = 1.0 if step >= duration else step / duration
    return (1 - fraction) * start + fraction * end
