"""The one exception for a user's mistake, and the helper that offers the nearest name."""

import difflib
from collections.abc import Iterable, Sequence

DONE, FAILED, BAD_USAGE, STOPPED = 0, 1, 2, 75
"""Exit codes: 75 means stopped on request, to be resumed."""


class UserError(Exception):
    """A mistake in what the user asked for: the command line prints it as `error: …` and exits with `exit_code`.

    `problems` holds every mistake found, one sentence each, so that all of them are reported at once.
    """

    exit_code = BAD_USAGE

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("; ".join(self.problems))


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the known name closest to `name`, or an empty string."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return f" (did you mean '{by_lower[found[0]]}'?)" if found else ""
