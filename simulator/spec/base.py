"""What all specifications share: strict, frozen, and with errors a person can act on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from simulator.errors import SpecError


class Spec(BaseModel):
    """A frozen, strictly validated piece of a specification.

    Unknown keys, values of another type, NaN and infinity are errors. Units end the field names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, data: object, *, source: str = "specification") -> Self:
        """Validate plain data (as read from YAML or JSON).

        Parameters
        ----------
        data
            Nested dictionaries, lists and scalars.
        source
            Where the data came from, for the error message.

        Raises
        ------
        SpecError
            Naming every field at fault, the value given and what is allowed.
        """
        try:
            text = json.dumps(data, default=str)
        except (ValueError, RecursionError):
            raise SpecError(f"{source}: holds itself, is nested too deeply, or has too long a number") from None
        try:
            # JSON mode: a list is a tuple, but "8" is still no number.
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise SpecError(describe(error, source, cls)) from None

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read and validate a YAML file; see :meth:`parse`."""
        return cls.parse(read_yaml(path), source=str(path))

    def to_yaml(self) -> str:
        """Return the specification as YAML that :meth:`from_yaml` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False)


def read_yaml(path: str | Path) -> Any:
    """Return the content of a YAML file as plain data.

    Raises
    ------
    SpecError
        If the file is missing, unreadable or not YAML.
    """
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a UTF-8 text file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SpecError(f"{path}: not valid YAML{where}: {getattr(error, 'problem', None) or error}") from None
    except (ValueError, RecursionError):
        raise SpecError(f"{path}: not usable YAML: nested too deeply, or a number of too many digits") from None


def describe(error: ValidationError, source: str, spec: type[Spec]) -> str:
    """Return one line for a validation error: every field, what was given, what is allowed."""
    items = error.errors(include_url=False)
    places = [item["loc"] for item in items]
    problems = []
    for item in items:
        place = item["loc"]
        # A list whose items are at fault is also "too short" in the eyes of pydantic.
        inner = any(other[: len(place)] == place and other != place for other in places)
        if item["type"] == "too_short" and inner:
            continue
        field = ".".join(str(part) for part in place) or "the document"
        message = item["msg"].removeprefix("Value error, ").removeprefix(f"{field}: ")
        given = item.get("input")
        if item["type"] == "extra_forbidden":
            message = f"unknown key; allowed here: {', '.join(_keys_at(spec, place[:-1]))}"
        said = isinstance(given, dict | list | Spec) or (isinstance(given, str) and repr(given) in message)
        problems.append(f"{field}: {message}{'' if said else f', given {given!r}'}")
    return f"{source}: " + "; ".join(problems)


def _keys_at(spec: type[Spec], place: tuple[int | str, ...]) -> list[str]:
    """Return the keys that a specification allows at a place inside it."""
    here = {spec}
    for part in place:
        annotations = [kind.model_fields[part].annotation for kind in here if part in kind.model_fields]
        # A position in a list, or the tag of a union, is no field.
        here = set().union(*map(_specs_in, annotations)) if annotations else here
    return sorted({name for kind in here for name in kind.model_fields})


def _specs_in(annotation: Any) -> set[type[Spec]]:
    """Return the specifications that a type annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return {annotation}
    return set().union(*map(_specs_in, get_args(annotation)))
