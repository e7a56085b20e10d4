"""Write down what an engine's command line takes: every flag, its kind and choices, as the engine itself says.

From the engine's wheel, without installing it (:mod:`dse.export.parsers.standins`)::

    pip install msgspec regex && pip download --no-deps -d wheels vllm==0.33.0
    python -m dse.export.parsers.describe vllm --wheels wheels > dse/export/parsers/vllm-0.33.0.json

Or where the engine is installed, without this package: ``python dse/export/parsers/describe.py vllm``. Which versions
the lists are of: ``python -m dse.export.parsers.describe --versions``.

The parser is built by the engine's own code and then walked, so that the list holds what this version accepts. A flag
is ``[kind]``, ``[kind, choices]`` or, where it is another spelling, the flag that it stands for. Kinds: ``switch`` (no
value), ``toggle`` (a switch with a ``--no-`` form), ``int``, ``float``, ``json``, ``str``; with ``+``: several.

vLLM without an accelerator: VLLM_TARGET_DEVICE=cpu.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

Flags = dict[str, Any]


def vllm_parser() -> argparse.ArgumentParser:
    """Return the parser of ``vllm serve``."""
    parser: argparse.ArgumentParser = import_module("vllm.utils.argparse_utils").FlexibleArgumentParser()
    import_module("vllm.entrypoints.common.cli_args").make_arg_parser(parser)
    return parser


def vllm_bench_parser() -> argparse.ArgumentParser:
    """Return the parser of ``vllm bench serve``."""
    parser: argparse.ArgumentParser = import_module("vllm.utils.argparse_utils").FlexibleArgumentParser()
    import_module("vllm.benchmarks.serve").add_cli_args(parser)
    return parser


def vllm_router_parser() -> argparse.ArgumentParser:
    """Return the parser of ``vllm-router``."""
    parser = argparse.ArgumentParser()
    import_module("vllm_router.router_args").RouterArgs.add_cli_args(parser, use_router_prefix=False)
    return parser


def sglang_parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m sglang.launch_server``."""
    parser = argparse.ArgumentParser()
    import_module("sglang.srt.server_args").ServerArgs.add_cli_args(parser)
    return parser


def sglang_router_parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m sglang_router.launch_router``."""
    parser = argparse.ArgumentParser()
    import_module("sglang_router.router_args").RouterArgs.add_cli_args(parser, use_router_prefix=False)
    return parser


PARSERS: dict[str, tuple[str, Callable[[], argparse.ArgumentParser]]] = {
    "vllm": ("vllm", vllm_parser),
    "vllm-bench": ("vllm", vllm_bench_parser),
    "vllm-router": ("vllm-router", vllm_router_parser),
    "sglang": ("sglang", sglang_parser),
    "sglang-router": ("sglang-router", sglang_router_parser),
}
"""Package and parser of each command."""


def kind_of(action: argparse.Action) -> str:
    """Return what a flag takes."""
    if isinstance(action, argparse.BooleanOptionalAction):
        return "toggle"
    if action.nargs == 0:
        return "switch"
    name = getattr(action.type, "__name__", "str")
    if name in ("int", "float"):
        kind = name
    elif name.startswith("human_readable_int"):
        kind = "int"
    elif "dataclass" in name or "loads" in getattr(action.type, "__qualname__", "") or "_parse_type" in name:
        kind = "json"
    elif name == "_optional_type":
        closure: Any = getattr(action.type, "__closure__", None)
        inner = closure[0].cell_contents
        kind = {"int": "int", "float": "float", "str": "str", "human_readable_int": "int"}.get(
            getattr(inner, "__name__", ""), "json"
        )
    else:
        kind = "str"
    return kind + ("+" if action.nargs in ("+", "*", 1) or isinstance(action.nargs, int) else "")


def flags_of(parser: argparse.ArgumentParser) -> Flags:
    """Return the flags of a parser by their first long spelling; other spellings name it."""
    found: Flags = {}
    for action in parser._actions:
        spellings = [each for each in action.option_strings if each not in ("-h", "--help")]
        if not spellings:
            continue
        kind = kind_of(action)
        plain = [each for each in spellings if each.startswith("--") and not each.startswith("--no-")]
        if not plain:
            continue
        choices = None if action.choices is None else [each for each in action.choices if each is not None]
        found[plain[0]] = [kind] if not choices else [kind, sorted(choices, key=lambda each: (str(type(each)), each))]
        for each in spellings:
            if each != plain[0] and not (kind == "toggle" and each.startswith("--no-")):
                found[each] = plain[0]
    return dict(sorted(found.items()))


def built(command: str) -> argparse.ArgumentParser:
    """Return the parser of a command, one of :data:`PARSERS`, as its engine builds it."""
    sys.argv = [command]
    return PARSERS[command][1]()


def described(command: str) -> str:
    """Return the list of a command as JSON, a flag a line."""
    flags, package = flags_of(built(command)), PARSERS[command][0]
    lines = ",\n".join(f"  {json.dumps(flag)}: {json.dumps(what)}" for flag, what in flags.items())
    head = {"command": command, "package": package, "version": metadata.version(package)}
    return "{" + json.dumps(head)[1:-1] + ', "flags": {\n' + lines + "\n}}"


def main() -> None:
    """Print a list, or the versions of those that are there."""
    options = argparse.ArgumentParser(prog="describe")
    options.add_argument("command", choices=sorted(PARSERS), nargs="?")
    options.add_argument("--wheels", type=Path, help="folder with the wheel of the command's package")
    options.add_argument("--versions", action="store_true", help="print the packages that the lists are of, for pip")
    given = options.parse_args()
    if given.versions:
        lists = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(__file__).parent.glob("*.json"))]
        print(*dict.fromkeys(f"{each['package']}=={each['version']}" for each in lists))
    elif given.command is None:
        options.error(f"command: missing; one of {', '.join(sorted(PARSERS))}")
    elif given.wheels is None:
        print(described(given.command))
    else:
        from dse.export.parsers.standins import imported_from

        package = PARSERS[given.command][0].replace("-", "_")
        wheels = sorted(given.wheels.glob(f"{package}-*.whl"))
        if len(wheels) != 1:
            options.error(f"--wheels {given.wheels}: must hold one {package}-*.whl, holds {len(wheels)}")
        os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")
        with imported_from(wheels):
            print(described(given.command))


if __name__ == "__main__":
    main()
