"""Files from the network: resumed where an earlier try stopped, and kept only when the checksum is right."""

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from stablegrad.errors import UserError
from stablegrad.runs import files

Progress = Callable[[int, int | None], None]
"""(bytes done, bytes in all, where the server says how many)."""

_CHUNK = 1 << 18
_TRIES = 3
_RANGE_NOT_SATISFIABLE = 416
_PARTIAL_CONTENT = 206


class Remote(NamedTuple):
    """A published file. `checksum` is `sha256:…` or `md5:…`, whichever the field agrees on."""

    url: str
    checksum: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


def fetch(
    remote: Remote,
    folder: Path,
    *,
    progress: Progress | None = None,
    timeout: float = 30.0,
) -> Path:
    """The path of `remote` in `folder`, downloaded unless it is there already with the right checksum.

    What has arrived lies in `.NAME.part` until it is complete and checked, and a later call goes on from
    there. `progress` is told what has come. Raises UserError when the host cannot be
    reached, the disk cannot be written, or what arrived has another checksum (it is then deleted).
    """
    target, part = folder / remote.name, folder / f".{remote.name}.part"
    if target.is_file() and _digest(target, remote.checksum) == remote.checksum:
        return target
    try:
        files.make_folder(folder)
        failure = _transfer(remote.url, part, progress=progress, timeout=timeout)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {files.in_words(error)}") from error
    if failure is not None:
        arrived = part.stat().st_size if part.exists() else 0
        raise UserError(
            f"{remote.url} could not be downloaded ({failure}); run it again to go on from {arrived} bytes,"
            f" or put {remote.name} into {folder} by hand"
        )
    found = _digest(part, remote.checksum)
    if found != remote.checksum:
        files.remove(part)
        raise UserError(
            f"{remote.url} is not the published file, or it was damaged on the way: its checksum is {found}"
            f" and should be {remote.checksum}"
        )
    files.rename(part, target)
    return target


def progress_line(name: str) -> Progress:
    """A line on standard error that says how much of `name` has come; silent where that is not a terminal."""

    def show(done: int, total: int | None) -> None:
        if sys.stderr.isatty():
            of = "" if total is None else f" of {total / 1e6:.1f}"
            end = "\n" if done == total else ""
            sys.stderr.write(f"\r{name}: {done / 1e6:.1f}{of} MB{end}")
            sys.stderr.flush()

    return show


def _transfer(url: str, part: Path, *, progress: Progress | None, timeout: float) -> str | None:
    """Bring `part` to its full length. Returns why that failed, or None."""
    failure: str | None = None
    for _ in range(_TRIES):
        try:
            _transfer_once(url, part, progress=progress, timeout=timeout)
            return None
        except urllib.error.HTTPError as error:
            if error.code == _RANGE_NOT_SATISFIABLE:  # all of it is here: the checksum decides
                return None
            return f"the server answers {error.code} {error.reason}"
        except urllib.error.URLError as error:
            return f"no connection: {error.reason}"
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            failure = f"the connection broke: {error or type(error).__name__}"
    return failure


def _transfer_once(url: str, part: Path, *, progress: Progress | None, timeout: float) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=timeout) as response:
        if response.status != _PARTIAL_CONTENT:
            have = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        handle = files.open_to_append(part)
        try:
            files.cut(part, have)
            while chunk := response.read(_CHUNK):
                files.append(handle, part, chunk)
                have += len(chunk)
                if progress is not None:
                    progress(have, total)
        finally:
            os.close(handle)
        files.sync(part)
        if total is not None and have < total:
            raise ConnectionError(f"{have} of {total} bytes")


def _digest(path: Path, checksum: str) -> str:
    """The checksum of `path` in the algorithm of `checksum`, in its spelling."""
    algorithm = checksum.partition(":")[0]
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"
