"""The commands of ``dse`` as Markdown: what ``--help`` says, as sections and tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from typer.main import get_command

from dse.cli.main import app

_WORDS: Final = {str: "text", int: "whole number", float: "number", Path: "path"}


def commands() -> str:
    """Return a section for each command, with its subcommands."""
    root: Any = get_command(app)
    return "\n\n".join(_sections(root.commands[name], f"dse {name}", 2) for name in sorted(root.commands)) + "\n"


def _sections(command: Any, name: str, level: int) -> str:
    parts = [f"{'#' * level} {name}", "", _help(command.help or "")]
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    if not hasattr(command, "commands"):
        words = [each.name.upper() if each.required else f"[{each.name.upper()}]" for each in arguments]
        parts += ["", "```text", " ".join([name, *words, *(["[OPTIONS]"] if options else [])]), "```"]
        parts += _table(arguments, options)
    for sub in sorted(getattr(command, "commands", {})):
        parts += ["", _sections(command.commands[sub], f"{name} {sub}", level + 1)]
    return "\n".join(parts)


def _help(text: str) -> str:
    """Return a help text; what is indented is a block of the shell, also over several paragraphs."""
    parts: list[str] = []
    commands: list[str] = []
    for paragraph in [*re.split(r"\n[ \t]*\n", text.strip()), ""]:
        lines = [line.strip() for line in paragraph.splitlines()]
        if paragraph.startswith("    "):
            commands += lines
            continue
        if commands:
            parts.append("\n".join(["```sh", *commands, "```"]))
            commands = []
        parts.append(" ".join(lines))
    return "\n\n".join(parts).rstrip()


def _table(arguments: list[Any], options: list[Any]) -> list[str]:
    rows = [
        *((f"`{each.name.upper()}`", each) for each in arguments),
        *((", ".join(f"`{name}`" for name in (*each.opts, *each.secondary_opts)), each) for each in options),
    ]
    if not rows:
        return []
    table = ["", "| given | type | default | says |", "|---|---|---|---|"]
    for given, each in rows:
        default = "**required**" if each.required else _default(each)
        cells = (given, _type(each), default, getattr(each, "help", None) or "")
        table.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return table


def _type(each: Any) -> str:
    """Return what may be given, from the annotation of the command's own function."""
    kind = each.type_descriptor.annotation
    many = get_origin(kind) in (list, tuple)
    if many:
        kind = next(part for part in get_args(kind) if part is not Ellipsis)
    if kind is bool:
        return "flag"
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    name = _WORDS.get(kind, getattr(kind, "__name__", str(kind)))
    return f"{name}, several times" if many else name


def _default(each: Any) -> str:
    shown = getattr(each, "show_default", None)
    if isinstance(shown, str):
        return shown
    value = each.default
    if value is None or value is False or callable(value) or value in ((), [], ""):
        return ""
    return f"`{value}`"
