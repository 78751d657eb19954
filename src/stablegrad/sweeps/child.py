"""The process of one run of a sweep: `stablegrad resume FOLDER`, tied to the life of whoever started it.

The starter holds the other end of standard input. Once it is gone, by whatever cause, reading ends and the run is
asked to save and stop: killing a sweep leaves no orphans at work.
"""

import os
import runpy
import signal
import sys
import threading
from types import FrameType

from stablegrad.errors import STOPPED


def main(folder: str) -> None:
    """Train the run in `folder` to its end; the exit code is that of `stablegrad resume`.

    Whoever started this process asked for the run's config, or looked whether it names other code (`ensure_run`).
    """
    signal.signal(signal.SIGTERM, _stop_before_training)
    threading.Thread(target=_stop_with_starter, daemon=True).start()
    # An absolute path: the folder's own name may begin like an option.
    sys.argv = ["stablegrad", "resume", os.path.abspath(folder), "--quiet", "--trust"]
    runpy.run_module("stablegrad", run_name="__main__")


def _stop_before_training(number: int, frame: FrameType | None) -> None:
    """The training loop puts its own handler in place of this one; before that there is nothing to save."""
    os._exit(STOPPED)


def _stop_with_starter() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1])
