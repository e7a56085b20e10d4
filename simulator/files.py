"""Files that a specification names, and who decides what such a name stands for.

As a rule a name is a path. Whoever takes specifications from strangers says otherwise::

    with files_from(find):
        spec = Workload.parse(data)
        requests = build_requests(spec)

Within it every name goes to ``find``, when the specification is validated and again before anything is opened or
looked up in a cache, and errors show neither what is in a file nor where it lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from simulator.errors import SpecError

Finder = Callable[[str, str], Path]
"""Returns the path of a file by its name and kind, or raises SpecError."""

_finder: ContextVar[Finder | None] = ContextVar("finder of files", default=None)


@contextmanager
def files_from(find: Finder) -> Iterator[None]:
    """Let a function say what the names of files in specifications stand for, in this thread or task.

    Parameters
    ----------
    find
        Takes a name and its kind: ``trace``, ``model``, ``statistics``, ``engine``, ``kernels``, ``link`` or
        ``start``. Returns the path to read, or raises SpecError.
    """
    token = _finder.set(find)
    try:
        yield
    finally:
        _finder.reset(token)


def confined() -> bool:
    """Return whether names of files go to a function of :func:`files_from`."""
    return _finder.get() is not None


def named_file(name: str | Path, kind: str) -> Path:
    """Return the path that the name of a file stands for.

    Parameters
    ----------
    name
        As it stands in a specification.
    kind
        What the file is for, see :func:`files_from`.

    Raises
    ------
    SpecError
        If the function of :func:`files_from` refuses the name.
    """
    find = _finder.get()
    return Path(name) if find is None else find(str(name), kind)


@contextmanager
def opened(name: str | Path, kind: str) -> Iterator[Path]:
    """Give the path that a name stands for; see :func:`named_file`.

    Raises
    ------
    SpecError
        Within :func:`files_from` this one for all that goes wrong with the file itself, without a word of its content.
    """
    path = named_file(name, kind)
    if not confined():
        yield path
        return
    try:
        yield path
    except SpecError:
        raise SpecError(f"{name}: cannot be read as a file of the kind {kind}") from None


def quoted(content: object, most: int | None = None) -> str:
    """Return something found in a file as an error shows it, at most so many characters; hidden if confined."""
    return "(not shown)" if confined() else repr(content)[:most]
