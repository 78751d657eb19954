"""The terminal as every command writes to it: what comes from files cannot act there."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from stablegrad.text import printable


class Terminal(Console):
    """A console that takes text as text: no markup in strings, and no control characters but those of rich itself."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of anything that is shown, also within tables and live views."""
        for segment in super().render(renderable, options):
            plain = segment if segment.control else Segment(printable(segment.text, lines=True), segment.style)
            yield plain
