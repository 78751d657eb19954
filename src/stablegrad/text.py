"""Text that came from somewhere else, made fit to be shown: in a terminal, on a page, in an error. Torch-free.

A metric's name, an arm's, a path, a reason in a status: whoever writes a run's files chooses them. Control characters
among them would move the cursor, recolour the terminal or change its title, and bidirectional marks would turn a
sentence around; a lone surrogate (a file name that is not UTF-8) cannot be written at all.
"""

import sys
from typing import Any, TextIO

_QUOTED = 80


def _visible() -> dict[int, str]:
    """Character -> what is shown in its place: one character, so that no column moves."""
    shown = {code: chr(0x2400 + code) for code in range(0x20)}
    shown[0x7F] = chr(0x2421)
    marks = (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    for code in (*range(0x80, 0xA0), *marks, 0x2028, 0x2029, *range(0xD800, 0xE000)):
        shown[code] = "\N{REPLACEMENT CHARACTER}"
    return shown


_VISIBLE = _visible()
_VISIBLE_LINES = {code: shown for code, shown in _VISIBLE.items() if code != ord("\n")}


def printable(text: str, *, lines: bool = False) -> str:
    """`text` with a visible sign for every character that would act instead of being seen.

    `lines` keeps line ends: for text of ours that has names of others in it.

    >>> printable("a\\x1b[31mb")
    'a␛[31mb'
    """
    return text.translate(_VISIBLE_LINES if lines else _VISIBLE)


def printable_tree(value: Any) -> Any:
    """A value from JSON with all its text printable, keys included."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [printable_tree(part) for part in value]
    if isinstance(value, dict):
        return {printable(name): printable_tree(part) for name, part in value.items()}
    return value


def quoted(value: Any) -> str:
    """A value as an error shows it: in quotes if it is text, and not longer than a line."""
    shown = repr(value)
    return shown if len(shown) <= _QUOTED else f"{shown[:_QUOTED]}… ({len(shown):,} characters)"


def in_bytes(count: float) -> str:
    """Bytes in a decimal unit.

    >>> in_bytes(7_440_000_000)
    '7.4 GB'
    """
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    for unit in ("GB", "TB", "PB"):
        if count < 1000:
            return f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.3g} EB"


def say(*parts: str, file: TextIO | None = None) -> None:
    """Print each of the `parts` on a line of its own (on standard output unless `file` is another), all printable."""
    for part in parts:
        print(printable(part, lines=True), file=file or sys.stdout, flush=True)


def drop_lost_output() -> None:
    """Let go of what a closed terminal or pipe never took: Python would try again at its end, and exit with 120."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        try:
            if stream is not None:  # as it is where the output is closed from the start
                stream.flush()
        except (OSError, ValueError):
            setattr(sys, name, None)


def speak_any_encoding() -> None:
    """Let standard output and error show `?` for what their encoding lacks, where they would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
