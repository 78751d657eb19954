"""Named files of a folder or of an archive, as bytes. Nothing is unpacked to disk."""

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from stablegrad.errors import UserError

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz", ".zip")

_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error)


def list_files(place: Path) -> frozenset[str]:
    """The names of the files in `place`, a folder (not below it) or an archive (all of it), without `.gz`."""
    try:
        return frozenset(name.removesuffix(".gz") for name, _ in _entries(place))
    except _DAMAGE as error:
        raise UserError(_complaint(place, error)) from error


def read_files(place: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The contents of those of `names` that `list_files(place)` has, by name; a gzipped file is unpacked.

    Raises UserError, which names the file, when one cannot be read or is damaged.
    """
    wanted, found = set(names), dict[str, bytes]()
    try:
        for entry, read in _entries(place):
            name = entry.removesuffix(".gz")
            if name in wanted:
                content = read()
                found[name] = content if entry == name else _unzipped(content, f"{place}/{entry}")
    except _DAMAGE as error:
        raise UserError(_complaint(place, error)) from error
    return found


def _entries(place: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """(name, how to read it), in the order of the archive: going back in a compressed one starts it anew."""
    if place.is_dir():
        yield from ((path.name, path.read_bytes) for path in sorted(place.iterdir()) if path.is_file())
    elif zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as archive:
            for path in archive.namelist():
                yield PurePosixPath(path).name, partial(archive.read, path)
    else:
        with tarfile.open(place) as tar:
            for member in tar:
                if member.isfile():
                    yield PurePosixPath(member.name).name, partial(_member, tar, member)


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member)
    assert content is not None, "regular files have contents"
    with content:
        return content.read()


def _unzipped(content: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{name} is damaged: {error}") from error


def _complaint(place: Path, error: Exception) -> str:
    if place.is_dir():
        file = getattr(error, "filename", None) or place
        return f"{file} cannot be read: {getattr(error, 'strerror', None) or error}"
    return f"{place} is not a readable archive, or it is damaged: {error}"
