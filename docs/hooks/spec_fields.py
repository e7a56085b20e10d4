"""Specifications as Markdown: a section for each model, a row for each field."""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dse.family import FamilySpec
from simulator import Deployment, Workload

Spec = type[BaseModel]

ROOTS: Final[dict[str, Spec]] = {"workload": Workload, "deployment": Deployment, "study": FamilySpec}
"""Page under ``reference/`` and the specification that it describes; a model is described on the first that uses it."""

UNITS: Final[dict[str, str]] = {
    "usd_per_gb_hour": "USD/(GB·h)",
    "usd_per_hour": "USD/h",
    "gb_per_s": "GB/s",
    "us_per_request": "µs",
    "us_per_token": "µs",
    "us_per_step": "µs",
    "us_per_sequence": "µs",
    "bytes_per_vector": "bytes",
    "tokens": "tokens",
    "requests": "requests",
    "rps": "1/s",
    "gb": "GB",
    "kw": "kW",
    "ms": "ms",
    "us": "µs",
    "s": "s",
    "w": "W",
}
"""Units by the end of a field's name, the longest first."""

_BOUNDS: Final = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_PLAIN: Final = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Path": "path"}
_LONGEST_DEFAULT: Final = 60


def unit_of(name: str) -> str:
    """Return the unit that ends a field's name, or nothing."""
    return next((unit for end, unit in UNITS.items() if name == end or name.endswith(f"_{end}")), "")


def contained(root: Spec) -> Iterator[Spec]:
    """Yield a specification and all that it holds, in the order of their fields."""
    seen: list[Spec] = []

    def visit(kind: Any) -> None:
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
            seen.append(kind)
            for field in kind.model_fields.values():
                visit(field.annotation)
        for part in get_args(kind):
            visit(part)

    visit(root)
    yield from seen


def pages_of_specs() -> dict[Spec, str]:
    """Return the page on which each specification is described."""
    pages: dict[Spec, str] = {}
    for page, root in ROOTS.items():
        for spec in contained(root):
            pages.setdefault(spec, page)
    return pages


def page_of(page: str) -> str:
    """Return the sections of a page: its root, and what no page before it has described."""
    pages = pages_of_specs()
    return "\n\n".join(_section(spec, page, pages) for spec in contained(ROOTS[page]) if pages[spec] == page) + "\n"


def _section(spec: Spec, page: str, pages: dict[Spec, str]) -> str:
    # Descriptions in several paragraphs would need their own markup; the first says what it is.
    says = (inspect.getdoc(spec) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")
    used = [
        f"[{other.__name__}]({_link(other, page, pages)})"
        for other in pages
        if any(spec in _direct(field) for field in other.model_fields.values())
    ]
    rows = [_row(name, field, page, pages) for name, field in spec.model_fields.items()]
    return "\n".join(
        [
            f"## {spec.__name__}",
            "",
            says,
            "",
            *([f"In {', '.join(used)}.", ""] if used else []),
            "| field | says | type | unit | default | allowed |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )


def _row(name: str, field: FieldInfo, page: str, pages: dict[Spec, str]) -> str:
    kind, metadata = _bare(field.annotation, field.metadata)
    cells = (
        f"`{name}`",
        field.description or "",
        _type(kind, metadata, page, pages),
        unit_of(name),
        _default(field),
        _allowed(kind, metadata),
    )
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _direct(field: FieldInfo) -> set[Any]:
    """Return the classes that a field's annotation names."""
    found: set[Any] = set()

    def visit(kind: Any) -> None:
        if isinstance(kind, type):
            found.add(kind)
        for part in get_args(kind):
            visit(part)

    visit(field.annotation)
    return found


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _bare(kind: Any, metadata: list[Any]) -> tuple[Any, list[Any]]:
    """Take optional and annotated types apart: the type itself, and all that is said of it."""
    metadata = list(metadata)
    while True:
        if get_origin(kind) is Annotated:
            kind, *more = get_args(kind)
            for each in more:
                metadata += each.metadata if isinstance(each, FieldInfo) else [each]
        elif _is_union(kind) and len(given := [part for part in get_args(kind) if part is not type(None)]) == 1:
            kind = given[0]
        else:
            return kind, metadata


def _link(spec: Spec, page: str, pages: dict[Spec, str]) -> str:
    anchor = f"#{spec.__name__.lower()}"
    return anchor if pages[spec] == page else f"{pages[spec]}.md{anchor}"


def _type(kind: Any, metadata: list[Any], page: str, pages: dict[Spec, str]) -> str:
    """Return a type in words, with links to the specifications in it."""
    for each in metadata:
        # A shorter way to write it stands beside the type: 3 for {distribution: constant, tokens: 3}.
        written = getattr(each, "json_schema_input_type", PydanticUndefined)
        if written is not PydanticUndefined and written is not Any:
            return _type(*_bare(written, []), page, pages)
    origin, parts = get_origin(kind), get_args(kind)

    def inner(part: Any) -> str:
        return _type(*_bare(part, []), page, pages)

    if _is_union(kind):
        return " or ".join(dict.fromkeys(inner(part) for part in parts if part is not type(None)))
    if origin is Literal:
        return "word" if all(isinstance(part, str) for part in parts) else "value"
    if origin is dict:
        return f"mapping of {inner(parts[0])} to {inner(parts[1])}"
    if origin in (tuple, list):
        lengths = "list" if Ellipsis in parts or origin is list else f"list of {len(parts)}:"
        return f"{lengths} of {' or '.join(dict.fromkeys(inner(part) for part in parts if part is not Ellipsis))}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"[{kind.__name__}]({_link(kind, page, pages)})"
    return _PLAIN.get(getattr(kind, "__name__", ""), str(kind))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    if field.default_factory is not None:
        value = field.get_default(call_default_factory=True, validated_data={})
        if isinstance(value, BaseModel):
            return "its defaults"
    else:
        value = field.default
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if len(text) > _LONGEST_DEFAULT:
        return "see `dse schema`"
    return f"`{text}`" if text else "empty"


def _allowed(kind: Any, metadata: list[Any]) -> str:
    """Return bounds, choices, lengths and patterns."""
    said: list[str] = [f"`{choice}`" for choice in _choices(kind)]
    bounds: list[str] = []
    for each in metadata:
        for name, sign in _BOUNDS.items():
            if (bound := getattr(each, name, None)) is not None:
                bounds.append(f"{sign} {_number(bound)}")
        many = "characters" if kind is str else "entries"
        if (least := getattr(each, "min_length", None)) is not None:
            bounds.append(f"at least {least:,} {many}" if least > 1 else "not empty")
        if (most := getattr(each, "max_length", None)) is not None:
            bounds.append(f"at most {most:,} {many}")
        if (pattern := getattr(each, "pattern", None)) is not None:
            bounds.append(f"`{pattern}`")
    return ", ".join([*said, *bounds])


def _choices(kind: Any) -> list[Any]:
    """Return the words that a field, or each entry of its list, may be."""
    kind, _ = _bare(kind, [])
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if get_origin(kind) in (tuple, list):
        return [choice for part in get_args(kind) if part is not Ellipsis for choice in _choices(part)]
    if _is_union(kind):
        return [choice for part in get_args(kind) for choice in _choices(part)]
    return []


def _number(bound: float) -> str:
    return f"{bound:,.10g}"
