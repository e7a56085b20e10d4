"""What a person has of a study, a deployment or a workload, as plain data to send."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulator.errors import SpecError
from simulator.spec.base import Spec, read_yaml

Document = Spec | Mapping[str, Any] | Path | str
"""A specification, plain data, the path of a YAML file, or YAML itself."""


def plain(document: Document, kind: str) -> dict[str, Any]:
    """Return a document as plain data.

    Parameters
    ----------
    document
        A text of more than one line is YAML, one that ends in .yaml or .yml a path.
    kind
        What it is, for the error message.

    Raises
    ------
    SpecError
        If there is no such file, or it is not YAML of an object.
    """
    if isinstance(document, Spec):
        return document.model_dump(mode="json", exclude_none=True)
    if isinstance(document, str) and "\n" in document:
        data = _parsed(document, kind)
    elif isinstance(document, str | Path):
        data = read_yaml(document)
    else:
        data = document
    if not isinstance(data, Mapping):
        raise SpecError(f"{kind}: given {type(data).__name__}; allowed: an object of fields")
    return dict(data)


def is_name(document: Document) -> bool:
    """Return whether a document is the name of something shipped, e.g. of a family's member ``agents/3min/drop``."""
    return isinstance(document, str) and "\n" not in document and not document.endswith((".yaml", ".yml"))


def _parsed(text: str, kind: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{kind}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
