"""Image sets by name, as arrays: which there are, which is at hand, where it comes from. Torch-free."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from stablegrad.errors import UserError, nearest
from stablegrad.supervised import catalogue, generated
from stablegrad.supervised.catalogue import CIFAR10, CIFAR100, FASHION_MNIST, Published
from stablegrad.supervised.formats import Labelled

log = logging.getLogger("stablegrad")

PUBLISHED_SUBSET = 10_000
"""The published CIFAR experiments train and test on the first 10,000 images of either split."""

_PUBLISHED = {"cifar10": CIFAR10, "cifar100": CIFAR100, "fashion_mnist": FASHION_MNIST}
_GENERATED: dict[str, tuple[str, Callable[[], tuple[Labelled, Labelled]]]] = {
    "digits": ("scikit-learn's digits, 8x8", generated.digits),
    "digits32": ("scikit-learn's digits, every pixel repeated to 32x32", lambda: generated.digits(scale=4)),
    "textures": ("textures drawn from seed 0", generated.textures),
}
DATASETS = ("auto", *_PUBLISHED, *_GENERATED)
_AUTO = ("cifar10", "fashion_mnist", "digits", "textures")


class Arrays(NamedTuple):
    """A training and a test split; `source` says in words which images these are and where they came from."""

    name: str
    source: str
    classes: int
    train: Labelled
    test: Labelled


def resolve_dataset(name: str, *, data_dir: Path | None = None, download: bool = False) -> str:
    """The data set that `name` stands for, after a look at the disk: what `auto` means here.

    `auto` is the first of CIFAR-10, Fashion-MNIST, the digits and the textures that is at hand, so that there
    always is one; a set of which a part is missing is not, and a warning says so. Raises UserError when the name is
    unknown, or its files are not all there and are not to be fetched. Reads no image.
    """
    if name not in DATASETS:
        raise UserError(f"unknown dataset '{name}'{nearest(name, DATASETS)}; known: {', '.join(DATASETS)}")
    if name == "auto":
        return next(candidate for candidate in _AUTO if _at_hand(candidate, data_dir))
    if name in _PUBLISHED:
        published, roots = _PUBLISHED[name], catalogue.search_roots(data_dir)
        if not download and catalogue.find(published, roots) is None:
            raise UserError(catalogue.incomplete(published, roots) or _not_found(published, roots))
    elif download:
        raise UserError(f"--download does not apply to '{name}': it needs no files")
    return name


def lasting_data_dir(name: str, *, data_dir: Path | None = None, download: bool = False) -> Path | None:
    """The `data_dir` that finds the files of `name` from any working folder.

    Absolute; where none is given, the folder below the working one that has the files, or that `download` fills.
    None where the usual places that do not move are meant.
    """
    if data_dir is None and name in _PUBLISHED:
        roots = catalogue.search_roots(None)
        holders = (root for root in roots if catalogue.find(_PUBLISHED[name], (root,)))
        root = next(holders, roots[0] if download else None)
        data_dir = None if root is None or root.is_absolute() else root
    return None if data_dir is None else data_dir.expanduser().absolute()


def load_arrays(name: str, *, data_dir: Path | None = None, download: bool = False) -> Arrays:
    """The image set `name` (see `DATASETS`), whole.

    data_dir: a folder that holds the files, their usual folder or their archive, or an archive itself; None
        looks into $STABLEGRAD_DATA, ./data and the `datasets` of the system's data folders, /usr/share last.
    download: fetch what is not there into `data_dir` (default: $STABLEGRAD_DATA or ./data).
    Raises UserError, which names the file, when files are missing, damaged, or of another data set.
    """
    name = resolve_dataset(name, data_dir=data_dir, download=download)
    if name in _GENERATED:
        source, make = _GENERATED[name]
        return Arrays(name, source, 10, *make())
    published, roots = _PUBLISHED[name], catalogue.search_roots(data_dir)
    place = catalogue.find(published, roots)
    if place is None:
        place = catalogue.download(published, roots[0])
    source = f"{published.title} from {place.path}"
    return Arrays(name, source, published.classes, *catalogue.load(published, place))


def _at_hand(name: str, data_dir: Path | None) -> bool:
    if name in _PUBLISHED:
        published, roots = _PUBLISHED[name], catalogue.search_roots(data_dir)
        found = catalogue.find(published, roots) is not None
        if not found and (partly := catalogue.incomplete(published, roots)):
            log.warning("%s: `--dataset auto` passes over it; `--dataset %s --download` fetches the rest", partly, name)
        return found
    return name != "digits" or generated.have_digits()


def _not_found(published: Published, roots: tuple[Path, ...]) -> str:
    places = ", ".join(str(root) for root in roots)
    hint = f"; {published.hint}" if published.hint else ""
    return (
        f"{published.title} was not found in {places}; name its folder or archive with --data_dir, or fetch"
        f" it with --download{hint}"
    )
