"""Archives that unpack to more than they should: refused before the memory is full, with what is wrong."""

import gzip
import io
import os
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from stablegrad.errors import UserError
from stablegrad.supervised import files
from stablegrad.supervised.files import list_files, read_files

MB = 2**20


@pytest.fixture(autouse=True)
def small_limits(monkeypatch) -> None:
    """A test's bombs are of 64 MB, not of 4 GB: so are the limits, by the same factor."""
    monkeypatch.setattr(files, "MOST_BYTES", 4 * MB)
    monkeypatch.setattr(files, "MOST_BYTES_IN_ALL", 16 * MB)
    monkeypatch.setattr(files, "MOST_FILES", 100)


def test_the_limits_hold_every_published_set():
    """CIFAR-100's training file: 50,000 records of 3,074 bytes; CIFAR-10's five files of 10,000, and the test's."""
    source = Path(files.__file__).read_text(encoding="utf-8")
    assert "MOST_BYTES = 2**28" in source
    assert 50_000 * 3_074 < 2**28
    assert 6 * 10_000 * 3_073 < 2**30


def tar_of(path: Path, mode: str, members: dict[str, bytes]) -> None:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def peak(read: Callable[[], object]) -> int:
    """The most bytes that Python held while `read` raised its UserError."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="unpacks to more than"):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("read", [list_files, lambda path: read_files(path, ["wanted"])], ids=["listed", "read"])
def test_a_small_tar_file_that_unpacks_to_a_lot_is_refused(tmp_path, mode, read):
    path = tmp_path / "bomb.tar"
    tar_of(path, mode, {"wanted": bytes(64 * MB)})
    assert path.stat().st_size < MB
    assert peak(lambda: read(path)) < 16 * MB  # xz alone keeps 8 MB to look back into


def test_tarfile_alone_unpacks_all_of_it(tmp_path):
    """The negative control: what reading the member took."""
    path = tmp_path / "bomb.tar.gz"
    tar_of(path, "w:gz", {"wanted": bytes(64 * MB)})
    with tarfile.open(path) as archive:
        content = archive.extractfile("wanted")
        assert content is not None
        assert len(content.read()) == 64 * MB


def test_a_header_that_announces_a_lot_is_not_believed(tmp_path):
    """A long name of 64 MB: tarfile reads it into memory before anybody sees a member."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 64 * MB
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb") as file:
        file.write(header.tobuf(format=tarfile.GNU_FORMAT) + b"a" * (64 * MB))
    assert peak(lambda: list_files(path)) < 8 * MB


def test_a_zip_file_that_unpacks_to_a_lot_is_refused(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("wanted", bytes(64 * MB))
    assert peak(lambda: read_files(path, ["wanted"])) < 8 * MB


def test_a_zip_file_that_lies_about_a_size_is_damaged(tmp_path):
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("wanted", bytes(64 * MB))
    content = path.read_bytes().replace(struct.pack("<I", 64 * MB), struct.pack("<I", MB))
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        read_files(path, ["wanted"])


def test_a_gzipped_file_that_unpacks_to_a_lot_is_refused(tmp_path):
    (tmp_path / "wanted.gz").write_bytes(gzip.compress(bytes(64 * MB)))
    assert peak(lambda: read_files(tmp_path, ["wanted"])) < 16 * MB
    (tmp_path / "wanted.gz").write_bytes(gzip.compress(b"x")[:-4])
    with pytest.raises(UserError, match="damaged"):
        read_files(tmp_path, ["wanted"])


def test_a_large_file_of_a_folder_is_not_read(tmp_path):
    with (tmp_path / "wanted").open("wb") as file:
        os.truncate(file.fileno(), 64 * MB)
    assert peak(lambda: read_files(tmp_path, ["wanted"])) < MB


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_of_very_many_files_is_refused(tmp_path, kind):
    path = tmp_path / f"many.{kind}"
    if kind == "tar":
        tar_of(path, "w", {f"{number}": b"" for number in range(101)})
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(101):
                archive.writestr(f"{number}", b"")
    with pytest.raises(UserError, match="more than 100 files"):
        list_files(path)


@pytest.mark.parametrize("content", [b"", b"x", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\x00", b"PK\x03\x04"])
def test_what_is_no_archive_is_said_to_be_none(tmp_path, content):
    (tmp_path / "odd").write_bytes(content)
    with pytest.raises(UserError, match="odd is not a readable archive"):
        list_files(tmp_path / "odd")


def test_files_in_archives_of_every_kind_are_still_read(tmp_path):
    wanted = zlib.compress(bytes(range(256)) * 100)
    for mode, suffix in (("w", "tar"), ("w:gz", "tar.gz"), ("w:bz2", "tar.bz2"), ("w:xz", "tar.xz")):
        path = tmp_path / f"set.{suffix}"
        tar_of(path, mode, {"other": b"1", "folder/wanted": wanted, "wanted2.gz": gzip.compress(wanted)})
        assert list_files(path) == {"other", "wanted", "wanted2"}
        assert read_files(path, ["wanted", "wanted2"]) == {"wanted": wanted, "wanted2": wanted}
