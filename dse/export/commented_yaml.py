"""YAML with a comment behind the lines whose value comes from a field of the design."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from dse.export.safe_names import one_line


class From:
    """A value and the fields of the design that it comes from."""

    def __init__(self, value: Any, *fields: str) -> None:
        self.value = value
        self.fields = fields


class _Dumper(yaml.SafeDumper):
    """Indents lists within what holds them, and writes nothing by reference."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def dump(data: Any, head: Sequence[str] = ()) -> str:
    """Return YAML; each :class:`From` has its fields behind it as a comment.

    Parameters
    ----------
    data
        Dictionaries, lists and scalars, any of them in a :class:`From`.
    head
        Comments to begin with, each one line.
    """
    text = yaml.dump(plain(data), Dumper=_Dumper, sort_keys=False, width=100_000, allow_unicode=True)
    lines = text.splitlines()
    comments: dict[int, list[str]] = {}
    root = yaml.compose(text)
    assert root is not None
    _collect(data, root, None, comments)
    for number, fields in comments.items():
        lines[number] += f"  # {one_line(', '.join(dict.fromkeys(fields)))}"
    return "".join(f"# {one_line(line)}\n" for line in head) + "\n".join(lines) + "\n"


def plain(data: Any) -> Any:
    """Return data without the fields that it comes from."""
    if isinstance(data, From):
        return plain(data.value)
    if isinstance(data, dict):
        return {key: plain(each) for key, each in data.items()}
    return [plain(each) for each in data] if isinstance(data, list) else data


def _collect(data: Any, node: yaml.Node, line: int | None, comments: dict[int, list[str]]) -> None:
    """Find the line of every value with fields: that of its key, or its own in a list."""
    if isinstance(data, From):
        if data.fields:
            comments.setdefault(node.start_mark.line if line is None else line, []).extend(data.fields)
        data = data.value
    if isinstance(data, dict):
        for each, (key, value) in zip(data.values(), node.value, strict=True):
            _collect(each, value, key.start_mark.line, comments)
    elif isinstance(data, list):
        for each, item in zip(data, node.value, strict=True):
            _collect(each, item, None, comments)
