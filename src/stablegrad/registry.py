"""Open registries: a name of ours, or `path/to/file.py:Name` from the user's own file.

Torch-free. An entry is an object or a `"module:attribute"` string that is imported on first use, so that a
registry can be listed without importing what it names.
"""

import contextlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stablegrad.errors import UserError, nearest

_USERS = "_stablegrad_user_"
"""What the name of every module begins with that was loaded from a user's file."""


_SESSION = "python_session.py"
"""Stands where a file would, for what no file has."""

_given: dict[str, Any] = {}


def is_user_file(name: str) -> bool:
    """Whether `name` has the form `path/to/file.py:Name`."""
    path, _, attribute = name.rpartition(":")
    return path.endswith(".py") and attribute.isidentifier()


def absolute(name: str) -> str:
    """`path/to/file.py:Name` with its path made absolute, to mean the same anywhere; other names as they are."""
    if not is_user_file(name):
        return name
    path, _, attribute = name.rpartition(":")
    return f"{Path(path).expanduser().resolve()}:{attribute}"


def name_of(thing: Any) -> str:
    """The name of a class or function that a Python session gives as an object, which from now on names it.

    `path/to/file.py:Name` where a file has it on its top level, so that other processes find it there. What none has (a
    notebook's class, a lambda, a closure) is known in this process alone.
    """
    attribute = getattr(thing, "__qualname__", type(thing).__qualname__).rpartition(".")[2]
    attribute = attribute if attribute.isidentifier() else "given"
    try:
        file = inspect.getsourcefile(thing)
    except TypeError:
        file = None
    module = sys.modules.get(getattr(thing, "__module__", None) or "")
    found = file is not None and Path(file).suffix == ".py" and getattr(module, attribute, None) is thing
    name = absolute(f"{file if found else _SESSION}:{attribute}")
    number = 1
    while _given.get(name, thing) is not thing:
        number += 1
        name = absolute(f"{_SESSION}:{attribute}_{number}")
    _given[name] = thing
    return name


def give(name: str, thing: Any) -> None:
    """Let `name`, which a run recorded, mean this object in this process."""
    _given[absolute(name)] = thing


def is_given(name: str) -> bool:
    """Whether a Python session gave the object itself."""
    return absolute(name) in _given


def load_user_object(name: str) -> Any:
    """The object that `path/to/file.py:Name` names.

    Raises UserError when there is no such file, it does not import, or it has no such name.
    """
    if (given := _given.get(absolute(name))) is not None:
        return given
    path_text, _, attribute = name.rpartition(":")
    path = Path(path_text).expanduser().resolve()
    if path.name == _SESSION:
        raise UserError(f"'{attribute}' was given as an object of a Python session that is over: give it again")
    if not path.is_file():
        raise UserError(f"no such file: {path} (in '{name}')")
    module_name = f"{_USERS}{path.stem}_{abs(hash(str(path))):x}"
    module = sys.modules.get(module_name)
    if module is None:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            with importing(str(path)):
                spec.loader.exec_module(module)
        except UserError:
            del sys.modules[module_name]
            raise
    try:
        return getattr(module, attribute)
    except AttributeError:
        public = [key for key in vars(module) if not key.startswith("_")]
        raise UserError(f"{path} has no '{attribute}'{nearest(attribute, public)}") from None


@contextlib.contextmanager
def importing(what: str) -> Iterator[None]:
    """UserError for whatever `what`, which the user named, raises while it is imported, a call of sys.exit included."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise UserError(f"{what} could not be imported: {in_words(error)}") from error


def blamed(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost line of a user's file that an exception came through; None where it came through none."""
    theirs = {getattr(module, "__file__", None) for name, module in sys.modules.items() if name.startswith(_USERS)}
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return next((frame for frame in frames if frame.filename in theirs), None)


def in_words(error: BaseException) -> str:
    """What somebody else's code raised, in one line, and where: `KeyError: 'x' (my_env.py, line 12)`."""
    ours = ("<", str(Path(__file__).parent), str(Path(importlib.__file__).parent))
    others = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith(ours)]
    frame = blamed(error) or (others[-1] if others else None)
    where = "" if frame is None else f" ({frame.filename}, line {frame.lineno})"
    if isinstance(error, SystemExit):
        return f"a call of sys.exit({'' if error.code is None else error.code}){where}"
    message = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' if message else ''}{message}{where}"


@contextlib.contextmanager
def users_code(what: str) -> Iterator[None]:
    """What a line of a user's file raises within is the user's mistake: `what`, and then what was raised and where."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if blamed(error) is None:
            raise
        raise UserError(f"{what} {in_words(error)}") from error


class Registry(Mapping[str, Any]):
    """Names of one kind (`what`, as in "unknown optimizer"), open to the user's own files."""

    def __init__(self, what: str, entries: Mapping[str, Any]) -> None:
        self.what = what
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Any:
        if name not in self._entries:
            if is_user_file(name):
                return load_user_object(name)
            raise UserError(
                f"unknown {self.what} '{name}'{nearest(name, self._entries)}; known: {', '.join(self._entries)},"
                " or your own as path/to/file.py:Name"
            )
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._entries[name] = getattr(importlib.import_module(module), attribute)
        return entry

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def problem(self, name: str) -> str | None:
        """What is wrong with `name`, as one sentence, or None: validation without importing a builtin."""
        if name in self._entries:
            return None
        try:
            self[name]
        except UserError as error:
            return str(error)
        return None
