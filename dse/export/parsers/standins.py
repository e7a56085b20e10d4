"""Build an engine's own argument parser from its wheel alone, with stand-ins for torch and all else that is heavy.

The parser is the engine's code, unchanged. What that code imports and is not needed to say which flags there are
becomes a module of stand-ins: classes that can be called, derived from and compared, and that do nothing. So a wheel
and five small packages (:data:`REAL`) are enough, and no accelerator.
"""

from __future__ import annotations

import abc
import sys
import types
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Union

REAL: Final = frozenset(
    {"annotated_types", "msgspec", "numpy", "packaging", "pydantic", "pydantic_core", "regex", "typing_extensions"}
    | {"typing_inspection", "_distutils_hack", "dse", "simulator", "search_spaces"}
)
"""Packages that define what a flag is: never stood in for."""
ABSENT: Final = frozenset(
    {"aiter", "amdsmi", "cutlass", "deep_ep", "deep_gemm", "flashinfer", "habana_frameworks", "helion", "libtpu"}
    | {"intel_extension_for_pytorch", "nixl", "pplx_kernels", "tilelang", "torch_musa", "torch_npu", "torch_xla"}
    | {"tpu_inference", "triton_kernels", "vllm_flash_attn", "zentorch"}
)
"""Packages of one accelerator or another: engines look whether they are there, and nothing is."""
LACKED: Final = {"torch": frozenset({"hpu", "musa", "npu"})}
"""Attributes by which engines tell an accelerator."""
CUT: Final = ("vllm._C", "vllm.ir", "sglang.srt.utils.hf_transformers_patches")
"""Parts of engines that compile or patch when they are imported."""
UNRUN: Final = ("sglang",)
"""Packages whose own ``__init__`` imports a whole runtime: their modules are imported without it."""
NATIVE: Final = ("sglang_router/", "vllm_router/")
"""Packages of which compiled parts are needed, too: they say what may be chosen."""


def _special(name: str) -> bool:
    return name.startswith("__")


class _Kind(abc.ABCMeta):
    """Type of stand-ins: classes of which every attribute is another."""

    def __new__(cls, name: str, bases: tuple[type, ...], members: dict[str, Any], **_: Any) -> _Kind:
        return super().__new__(cls, name, bases, members)

    def __init__(cls, name: str, bases: tuple[type, ...], members: dict[str, Any], **_: Any) -> None:
        super().__init__(name, bases, members)

    def __getattr__(cls, name: str) -> Any:
        if _special(name):
            raise AttributeError(name)
        return _stand_in(name)

    def __call__(cls, *given: Any, **named: Any) -> Any:
        # A decorator leaves what it decorates.
        if "_stands_in" in cls.__dict__ and len(given) == 1 and not named and isinstance(given[0], types.FunctionType):
            return given[0]
        return super().__call__()

    def __or__(cls, other: Any) -> Any:
        return Union[cls, other]  # noqa: UP007

    def __ror__(cls, other: Any) -> Any:
        return Union[other, cls]  # noqa: UP007

    def __eq__(cls, other: object) -> bool:
        return cls is other

    def __hash__(cls) -> int:
        return id(cls)

    def __iter__(cls) -> Iterator[Any]:
        return iter(())

    def __bool__(cls) -> bool:
        return False


class _Base:
    """What stand-ins do when they are instances."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take anything."""

    def __init_subclass__(cls, **_: Any) -> None:
        """Take anything."""

    def __getattr__(self, name: str) -> Any:
        if _special(name):
            raise AttributeError(name)
        return _stand_in(name)

    def __call__(self, *given: Any, **_: Any) -> Any:
        return given[0] if len(given) == 1 and callable(given[0]) else self

    def __class_getitem__(cls, _: Any) -> Any:
        return cls

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Base)

    def __hash__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __bool__(self) -> bool:
        return False

    def __setitem__(self, _: Any, __: Any) -> None:
        """Forget it."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.any_schema()


def _itself(self: Any, *_: Any) -> Any:
    return self


def _no(_: Any, __: Any) -> bool:
    return False


def _nothing(_: Any) -> int:
    return 0


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "xor", "lshift", "rshift"):
    for _kind in (_Kind, _Base):
        setattr(_kind, f"__{_name}__", _itself)
        setattr(_kind, f"__r{_name}__", _itself)
for _name in ("neg", "pos", "invert", "getitem"):
    setattr(_Kind, f"__{_name}__", _itself)
    setattr(_Base, f"__{_name}__", _itself)
for _name in ("lt", "le", "gt", "ge", "contains"):
    setattr(_Kind, f"__{_name}__", _no)
    setattr(_Base, f"__{_name}__", _no)
for _name in ("len", "int", "index"):
    setattr(_Kind, f"__{_name}__", _nothing)
    setattr(_Base, f"__{_name}__", _nothing)
for _name in ("or", "ror"):
    setattr(_Base, f"__{_name}__", _itself)


def _stand_in(name: str) -> Any:
    return _Kind(name, (_Base,), {"_stands_in": True})


class _Module(types.ModuleType):
    """A module of which every attribute is a stand-in."""

    __version__ = "9.9.9"

    def __getattr__(self, name: str) -> Any:
        if _special(name) or name in LACKED.get(self.__name__, ()):
            raise AttributeError(name)
        found = _stand_in(name)
        found.__module__ = self.__name__
        setattr(self, name, found)
        return found


class _Finder(MetaPathFinder, Loader):
    """Finds a module of stand-ins for all that is neither Python's nor the engine's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: object = None) -> ModuleSpec | None:
        """Return the module to import, None for those that are imported as ever."""
        top = name.partition(".")[0]
        cut = any(name == each or name.startswith(f"{each}.") for each in CUT)
        own = (self._folder / top).is_dir() and not cut
        if name in UNRUN and own:
            spec = ModuleSpec(name, self, is_package=True)
            spec.submodule_search_locations = [str(self._folder / top)]
            return spec
        if own or top in REAL or top in ABSENT or top in sys.stdlib_module_names:
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """Return a module of stand-ins."""
        return _Module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing: stand-ins are made when they are asked for."""


@contextmanager
def imported_from(wheels: Iterable[Path]) -> Iterator[None]:
    """Let packages be imported from wheels, and stand-ins for what they import; for a process of its own.

    Parameters
    ----------
    wheels
        Files; their Python modules are unpacked to a temporary folder.

    Raises
    ------
    OSError, zipfile.BadZipFile
        If a file is none.
    """
    with TemporaryDirectory() as made:
        folder = Path(made)
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    native = name.startswith(NATIVE) and name.endswith(".so")
                    if name.endswith((".py", ".dist-info/METADATA")) or native:
                        archive.extract(name, folder)
        finder = _Finder(folder)
        sys.path.insert(0, str(folder))
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            sys.path.remove(str(folder))
