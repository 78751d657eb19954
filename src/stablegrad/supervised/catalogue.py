"""Where the published image sets lie, under which names, and where they come from."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stablegrad.errors import UserError
from stablegrad.supervised.download import Remote, fetch, progress_line
from stablegrad.supervised.files import ARCHIVE_SUFFIXES, list_files, read_files
from stablegrad.supervised.formats import Labelled, read_cifar_binary, read_cifar_python, read_idx_pair

DATA_VARIABLE = "STABLEGRAD_DATA"
SHARED_FOLDERS = "/usr/local/share:/usr/share"
"""The system's data folders, each of which may have a `datasets`, where XDG_DATA_DIRS names no others."""

Read = Callable[[Mapping[str, bytes], tuple[str, ...], str], Labelled]
"""(contents by name, the names of one split, where they lie) -> the split."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way in which a set is published: its files, the folders and archives that hold them, its reader."""

    folders: tuple[str, ...]
    archives: tuple[str, ...] = ()
    train: tuple[str, ...]
    test: tuple[str, ...]
    read: Read

    @property
    def files(self) -> tuple[str, ...]:
        return self.train + self.test


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published set: what it is called in sentences, its layouts (the preferred first), its source."""

    title: str
    classes: int
    layouts: tuple[Layout, ...]
    remotes: tuple[Remote, ...]
    remote_folder: str = ""
    hint: str = ""


class Place(NamedTuple):
    """A folder or an archive that holds all the files of a layout."""

    path: Path
    layout: Layout


def search_roots(data_dir: Path | None) -> tuple[Path, ...]:
    """Where image sets are looked for: `data_dir` alone when it is given, else the usual places."""
    if data_dir is not None:
        return (data_dir.expanduser(),)
    named = os.environ.get(DATA_VARIABLE)
    shared = (os.environ.get("XDG_DATA_DIRS") or SHARED_FOLDERS).split(":")
    system = (Path(folder) / "datasets" for folder in shared if Path(folder).is_absolute())
    return (*([Path(named).expanduser()] if named else []), Path("data"), *dict.fromkeys(system))


def find(published: Published, roots: tuple[Path, ...]) -> Place | None:
    """The first place under `roots` with all the files of the set, or None."""
    for root in roots:
        for path, layout, names in _folders(published, root):
            if names.issuperset(layout.files):
                return Place(path, layout)
        for path, layout in _archives(published, root):
            return Place(path, layout)
    return None


def incomplete(published: Published, roots: tuple[Path, ...]) -> str | None:
    """Where `roots` have some files of a layout but not all of them: a sentence that names the first one missing."""
    for root in roots:
        for path, layout, names in _folders(published, root):
            missing = [name for name in layout.files if name not in names]
            if 0 < len(missing) < len(layout.files):
                return f"{path} has a part of {published.title}, but '{missing[0]}' is missing"
    return None


def load(published: Published, place: Place) -> tuple[Labelled, Labelled]:
    """The training and the test split of the set that lies at `place`."""
    layout = place.layout
    contents = read_files(place.path, layout.files)
    missing = [name for name in layout.files if name not in contents]
    if missing:
        raise UserError(f"{place.path} is not {published.title}: '{missing[0]}' is missing")
    where = str(place.path)
    return layout.read(contents, layout.train, where), layout.read(contents, layout.test, where)


def download(published: Published, root: Path) -> Place:
    """Fetch what is missing of the set into `root`, and say where it lies."""
    for remote in published.remotes:
        fetch(remote, root / published.remote_folder, progress=progress_line(remote.name))
    place = find(published, (root,))
    assert place is not None, "the published files make up a layout"
    return place


def _folders(published: Published, root: Path) -> Iterator[tuple[Path, Layout, frozenset[str]]]:
    """Where the files of each layout may lie under `root`, which may be an archive, and the files that lie there."""
    if root.is_file():
        names = list_files(root)
        yield from ((root, layout, names) for layout in published.layouts)
    for layout in published.layouts:
        for folder in ("", *layout.folders):
            if (root / folder).is_dir():
                yield root / folder, layout, list_files(root / folder)


def _archives(published: Published, root: Path) -> Iterator[tuple[Path, Layout]]:
    for layout in published.layouts:
        for archive in layout.archives:
            for suffix in ARCHIVE_SUFFIXES:
                if (root / f"{archive}{suffix}").is_file():
                    yield root / f"{archive}{suffix}", layout


def _read_records(
    contents: Mapping[str, bytes], names: tuple[str, ...], where: str, *, reader: Callable[..., Labelled]
) -> Labelled:
    parts = [reader(contents[name], name=f"{where}/{name}") for name in names]
    return Labelled(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _read_idx(contents: Mapping[str, bytes], names: tuple[str, ...], where: str) -> Labelled:
    images, labels = names
    return read_idx_pair(
        contents[images],
        contents[labels],
        images_name=f"{where}/{images}",
        labels_name=f"{where}/{labels}",
        classes=10,
    )


def _records(reader: Callable[..., Labelled], **options: object) -> Read:
    return partial(_read_records, reader=partial(reader, **options))


_TORONTO = "https://www.cs.toronto.edu/~kriz/"
_ZALANDO = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"

CIFAR10 = Published(
    title="CIFAR-10",
    classes=10,
    layouts=(
        Layout(
            folders=("cifar-10-batches-bin",),
            archives=("cifar-10-binary",),
            train=tuple(f"data_batch_{part}.bin" for part in range(1, 6)),
            test=("test_batch.bin",),
            read=_records(read_cifar_binary, label_bytes=1, classes=10),
        ),
        Layout(
            folders=("cifar-10-batches-py",),
            archives=("cifar-10-python",),
            train=tuple(f"data_batch_{part}" for part in range(1, 6)),
            test=("test_batch",),
            read=_records(read_cifar_python, label_key="labels", classes=10),
        ),
    ),
    remotes=(
        Remote(
            f"{_TORONTO}cifar-10-binary.tar.gz",
            "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
)

CIFAR100 = Published(
    title="CIFAR-100",
    classes=100,
    layouts=(
        Layout(
            folders=("cifar-100-binary",),
            archives=("cifar-100-binary",),
            train=("train.bin",),
            test=("test.bin",),
            read=_records(read_cifar_binary, label_bytes=2, classes=100),
        ),
        Layout(
            folders=("cifar-100-python",),
            archives=("cifar-100-python",),
            train=("train",),
            test=("test",),
            read=_records(read_cifar_python, label_key="fine_labels", classes=100),
        ),
    ),
    remotes=(
        Remote(
            f"{_TORONTO}cifar-100-binary.tar.gz",
            "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ),
    ),
)

FASHION_MNIST = Published(
    title="Fashion-MNIST",
    classes=10,
    layouts=(
        Layout(
            folders=("fashion-mnist", "fashion_mnist", "FashionMNIST/raw"),
            train=("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
            test=("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
            read=_read_idx,
        ),
    ),
    remotes=tuple(
        Remote(f"{_ZALANDO}{name}.gz", f"md5:{md5}")
        for name, md5 in (
            ("train-images-idx3-ubyte", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1-ubyte", "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3-ubyte", "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1-ubyte", "bb300cfdad3c16e7a12a480ee83cd310"),
        )
    ),
    remote_folder="fashion-mnist",
    hint="Debian and Ubuntu: apt install dataset-fashion-mnist",
)
