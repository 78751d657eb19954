"""One run in a process of its own, and the claim that keeps everybody else's hands off it. Torch-free.

A claim is a lock on a file in the run's folder, held by the starter and inherited by the run's process: it lasts
until both are gone, so a run is never trained twice at once, whoever was killed and whatever is started again, in
another terminal or on another machine over the same storage.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from stablegrad.errors import DONE, FAILED, STOPPED
from stablegrad.runs import files, locks
from stablegrad.runs.folder import RunFolder
from stablegrad.runs.locks import CLAIM

log = logging.getLogger("stablegrad")

_PATIENCE_SECONDS = 60.0
_LOG_TAIL_BYTES = 8192


def claim(folder: Path) -> int | None:
    """An open, locked file: the claim on a run; None where another process holds it. Closing it gives it up."""
    return locks.take(folder / CLAIM)


class RunProcess:
    """`start` gives one that trains a run's folder; `poll` its settled exit code once it has ended."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]", claimed: int, log_start: int) -> None:
        self.folder = folder
        self._process = process
        self._claimed = claimed
        self._log_start = log_start
        self._asked = False

    @classmethod
    def start(cls, folder: Path, claimed: int, *, threads: int, environment: Mapping[str, str]) -> "RunProcess":
        """Train `folder` with `threads` CPU threads; `environment` is added to the process's own."""
        counts = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        output = files.open_to_append(folder / "log.txt")
        try:
            log_start = os.fstat(output).st_size
            process = subprocess.Popen(
                [sys.executable, "-m", "stablegrad.sweeps.child", str(folder)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **counts, **environment},
                pass_fds=(claimed,),
                start_new_session=True,
            )
        finally:
            os.close(output)
        return cls(folder, process, claimed, log_start)

    def poll(self) -> int | None:
        """DONE, FAILED or STOPPED once the process has ended, with the reason of a failure in the run's folder."""
        code = self._process.poll()
        return None if code is None else self._settle(code)

    def ask_to_stop(self) -> None:
        """Ask the run to save and end; `finish` waits for it."""
        self._asked = True
        self._process.send_signal(signal.SIGTERM)

    def finish(self) -> int:
        """Wait for a run that was asked to stop; one that does not is killed, and its last checkpoint stands."""
        try:
            code = self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return self._settle(code)

    def kill(self) -> None:
        """End the run at once; its last checkpoint stands."""
        self._asked = True
        self._process.kill()
        self.finish()

    def _settle(self, code: int) -> int:
        """What became of the run, by its folder first: a crash behind the end of training loses nothing."""
        try:
            return self._outcome(code)
        finally:
            if self._process.stdin is not None:
                self._process.stdin.close()
            os.close(self._claimed)

    def _outcome(self, code: int) -> int:
        run = RunFolder(self.folder)
        status = run.status
        if status["state"] == "done":
            return DONE
        if code == STOPPED or (self._asked and code < 0):
            return STOPPED
        if status["state"] != "failed":
            try:
                run.set_status("failed", status["step"], reason=self._reason(code))
            except OSError as error:
                log.warning("%s failed (%s), which could not be recorded: %s", self.folder, self._reason(code), error)
        return FAILED

    def _reason(self, code: int) -> str:
        if code < 0:
            hint = " (out of memory?)" if code == -signal.SIGKILL else ""
            return f"its process was killed by {signal.Signals(-code).name}{hint}"
        said = self._last_words()
        return f"its process ended with exit code {code}" + (f": {said}" if said else "")

    def _last_words(self) -> str:
        """The line of this process's part of the log that says most: its error message, or its last line."""
        path = self.folder / "log.txt"
        try:
            end = path.stat().st_size
            text = files.read_part(path, max(self._log_start, end - _LOG_TAIL_BYTES), end)
        except OSError:
            return ""
        lines = [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error: ")]
        return (errors or lines or [""])[-1]
