"""Named files of a folder or of an archive, as bytes. Nothing is unpacked to disk, and never more than a set can be:
an archive of 4 MB may unpack to as many GB.
"""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

from stablegrad.errors import UserError
from stablegrad.text import in_bytes

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz", ".zip")

MOST_BYTES = 2**28
"""Of one file, unpacked. The largest of the published sets (CIFAR-100's training images) has 155 MB."""

MOST_BYTES_IN_ALL = 2**30
"""Of a whole tar file, unpacked. CIFAR's have 185 MB."""

MOST_FILES = 10_000

# What damaged or odd archives raise: a zip file may also be encrypted, or packed in a way that is not supported.
_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, lzma.LZMAError, NotImplementedError,
    RuntimeError, ValueError,
)  # fmt: skip


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
        for path in sorted(place.iterdir()):
            if path.is_file():
                yield path.name, partial(_file, path)
    elif zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as archive:
            for number, member in enumerate(archive.infolist()):
                _check_count(place, number)
                yield PurePosixPath(member.filename).name, partial(_zip_member, archive, member, place)
    else:
        with (
            _unpacked(place) as stream,
            tarfile.open(fileobj=cast(IO[bytes], _Bounded(stream, place)), mode="r:") as tar,
        ):
            for number, entry in enumerate(tar):
                _check_count(place, number)
                if entry.isfile():
                    yield PurePosixPath(entry.name).name, partial(_tar_member, tar, entry, place)


def _file(path: Path) -> bytes:
    _check_size(str(path), path.stat().st_size)
    return path.read_bytes()


def _zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path) -> bytes:
    _check_size(f"{place}/{member.filename}", member.file_size)
    return archive.read(member)  # which unpacks no more than that


def _tar_member(archive: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> bytes:
    _check_size(f"{place}/{member.name}", member.size)
    content = archive.extractfile(member)
    assert content is not None, "regular files have contents"
    with content:
        return content.read()


def _unzipped(content: bytes, name: str) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            unpacked = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{name} is damaged: {error}") from error
    _check_size(name, len(unpacked))
    return unpacked


def _unpacked(place: Path) -> IO[bytes]:
    """The tar file within its compression, which its first bytes tell."""
    with place.open("rb") as file:
        head = file.read(6)
    for magic, unpack in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open)):
        if head.startswith(magic):
            return cast(IO[bytes], unpack(place, "rb"))
    return place.open("rb")


class _Bounded:
    """A stream that tarfile reads, until it has unpacked more than all files of a set."""

    def __init__(self, stream: IO[bytes], place: Path) -> None:
        self._stream, self._place = stream, place

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, position: int) -> int:
        self._check(position)
        return self._stream.seek(position)

    def read(self, size: int) -> bytes:
        self._check(self._stream.tell() + size)
        return self._stream.read(size)

    def _check(self, position: int) -> None:
        if position > MOST_BYTES_IN_ALL:
            raise UserError(_too_large(str(self._place), MOST_BYTES_IN_ALL))


def _check_size(name: str, size: int) -> None:
    if size > MOST_BYTES:
        raise UserError(_too_large(name, MOST_BYTES))


def _check_count(place: Path, number: int) -> None:
    if number >= MOST_FILES:
        raise UserError(f"{place} has more than {MOST_FILES:,} files: it is not one of the published sets")


def _too_large(name: str, most: int) -> str:
    return f"{name} unpacks to more than {in_bytes(most)}: it is not one of the published sets, and is not read"


def _complaint(place: Path, error: Exception) -> str:
    if place.is_dir():
        file = getattr(error, "filename", None) or place
        return f"{file} cannot be read: {getattr(error, 'strerror', None) or error}"
    return f"{place} is not a readable archive, or it is damaged: {error}"
