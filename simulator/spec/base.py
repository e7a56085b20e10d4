"""What all specifications share: strict, frozen, and with errors a person can act on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

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
            # JSON mode: a list is a tuple, but "8" is still no number.
            return cls.model_validate_json(json.dumps(data, default=str))
        except ValidationError as error:
            raise SpecError(describe(error, source)) from None

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
        raise SpecError(f"{path}: not valid YAML{where}: {getattr(error, 'problem', error)}") from None


def describe(error: ValidationError, source: str) -> str:
    """Return one line for a validation error: every field, what was given, what is allowed."""
    problems = []
    for item in error.errors(include_url=False):
        field = ".".join(str(part) for part in item["loc"]) or "the document"
        message = item["msg"].removeprefix("Value error, ")
        given = item.get("input")
        said = isinstance(given, dict | list | Spec) or repr(given) in message
        problems.append(f"{field}: {message.removeprefix(field + ': ')}{'' if said else f', given {given!r}'}")
    return f"{source}: " + "; ".join(problems)
