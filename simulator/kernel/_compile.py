"""How kernel functions are compiled, cached and, for tests, run uncompiled.

numba's on-disk cache looks only at the file of the function it caches, so an edited callee would run stale.
The cache folder is therefore named by a hash of *all* kernel sources and of the compiler.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import config
from numba.core.dispatcher import Dispatcher
from numba.core.types import Integer, IntegerLiteral, int64

Function = TypeVar("Function", bound=Callable[..., Any])

_SOURCES = sorted(Path(__file__).parent.glob("*.py"))


def cache_folder() -> Path | None:
    """Return the folder of compiled kernels: per user, per kernel source, per compiler and processor.

    It lies in ``DSE_CACHE_DIR``, else in the user's cache folder (``XDG_CACHE_HOME`` or its equivalent), so that a
    read-only installation works; if that is not writable, in a folder of the user's own among temporary files.
    None if nothing is writable: then every process compiles for itself.
    """
    return _CACHE


def _find_cache() -> Path | None:
    digest = hashlib.sha256()
    for source in _SOURCES:
        digest.update(source.name.encode() + source.read_bytes())
    digest.update(f"{numba.__version__} {sys.version} {platform.machine()} {platform.processor()}".encode())
    if override := os.environ.get("DSE_CACHE_DIR"):
        parent = Path(override)
    elif sys.platform == "win32":
        parent = Path(os.environ.get("LOCALAPPDATA", Path.home())) / "dse" / "cache"
    else:
        parent = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dse"
    user = os.getuid() if hasattr(os, "getuid") else 0
    for place in (parent, Path(tempfile.gettempdir()) / f"dse-{user}"):
        folder = place / "kernel" / digest.hexdigest()[:16]
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.mkdir(parents=True, exist_ok=True)
            # Compiled code is run: it must be this user's own.
            owner = folder.stat().st_uid if hasattr(os, "getuid") else user
            if owner == user and os.access(folder, os.W_OK):
                return folder
    return None


def compiled(function: Function) -> Any:
    """Compile a kernel function for other kernel functions to call.

    It is compiled when a caller is, and not kept for itself: what calls it holds a copy. Without a way in from Python
    there is nothing to generate for one.
    """
    return _widening(_njit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True))


def entry(function: Function) -> Any:
    """Compile the kernel's way in from Python at its first call, keeping the machine code in :func:`cache_folder`."""
    # Setting the folder for a moment leaves other users of numba in this process alone.
    settings: Any = config
    previous, settings.CACHE_DIR = settings.CACHE_DIR, str(_CACHE)
    try:
        return _njit(function, cache=_CACHE is not None)
    finally:
        settings.CACHE_DIR = previous


def _njit(function: Any, **options: Any) -> Any:
    # A kernel that owns no array needs no reference counting, which costs half its speed. The option is
    # undocumented: should numba drop it, the kernel is slower and just as right.
    njit: Any = numba.njit
    try:
        return njit(error_model="numpy", _nrt=False, **options)(function)
    except (KeyError, TypeError):
        return njit(error_model="numpy", **options)(function)


def _widening(dispatcher: Any) -> Any:
    """Let a function be compiled once for all widths of integers: callers widen what they pass.

    Else each mix of 32-bit fields, 64-bit numbers and literals would be compiled anew, which doubles the time that
    compiling takes. Should numba change, that is all that is lost.
    """
    with contextlib.suppress(AttributeError):
        original = dispatcher.get_call_template

        def get_call_template(args: Any, kws: Any) -> Any:
            return original(tuple(int64 if isinstance(each, Integer | IntegerLiteral) else each for each in args), kws)

        dispatcher.get_call_template = get_call_template
    return dispatcher


_CACHE = _find_cache()


def is_cached() -> bool:
    """Tell whether a compiled kernel lies in the cache, i.e. whether the first run will be quick."""
    return _CACHE is not None and any(_CACHE.rglob("loop.run-*.nbc"))


def interpreted(function: Any) -> Any:
    """Return the plain Python twin of a compiled function, its callees included.

    The twin runs the same source on ``__slots__`` objects or arrays: it is the readable reference for tests
    and debuggers.
    """
    return _interpreted(function, {})


def _interpreted(function: Any, done: dict[Any, Any]) -> Any:
    if function in done:
        return done[function]
    source = function.py_func
    scope: dict[str, Any] = dict(source.__globals__)
    twin = types.FunctionType(source.__code__, scope, source.__name__, source.__defaults__)
    done[function] = twin
    for name in source.__code__.co_names:
        if isinstance(scope.get(name), Dispatcher):
            scope[name] = _interpreted(scope[name], done)
    return twin
