"""What all specifications share: strict, frozen, and with errors a person can act on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from simulator.errors import Problem, SpecError

Place = tuple[int | str, ...]
"""Where something stands in a specification: names, and positions in lists."""

MOST_CHARACTERS: Final = 10_000
"""Characters of a text in a specification."""

MOST_VALUES: Final = 60_000
"""Values and keys of a specification: every one of them may be at fault."""

MOST_LEVELS: Final = 100
"""Lists and mappings within each other."""

MOST_PROBLEMS: Final = 50
"""Fields at fault that an error tells of."""
MOST_GIVEN: Final = 200
MOST_TOLD: Final = 2_000
"""Characters of a value, and of a message, that it shows."""

# The C parser is several times faster, but not every build of PyYAML has it.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NUMBER: Final = re.compile(r"[-+]?[0-9.][0-9a-fA-FxX_:.eE+-]*")
_FIELD_FIRST: Final = re.compile(r"([a-z_][a-z0-9_]*): ")
_NO_TEXT: Final = re.compile("[\x00\ud800-\udfff]")
#: Such a character in JSON of ASCII alone; so do pairs of surrogates look, which are text.
_SUSPICIOUS: Final = re.compile(r"\\u(?:0000|d[89a-f])")


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
        except TypeError:
            raise SpecError(f"{source}: a key is neither text nor a number") from None
        if text.count(",") + text.count(":") > 2 * MOST_VALUES:
            raise SpecError(f"{source}: too large; at most {MOST_VALUES:,} values and keys can be read")
        if len(text) > MOST_CHARACTERS or _SUSPICIOUS.search(text):
            _check_text(data, source)
        try:
            # JSON mode: a list is a tuple, but "8" is still no number.
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise described(error, source, cls, data) from None
        except ArithmeticError:
            raise SpecError(f"{source}: a number is too large or too small to compute with") from None

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read and validate a YAML file; see :meth:`parse`.

        Raises
        ------
        SpecError
            Likewise, and if the file cannot be read or is no YAML.
        """
        return cls.parse(read_yaml(path), source=str(path))

    def to_yaml(self) -> str:
        """Return the specification as YAML that :meth:`from_yaml` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False)


class _PlainLoader(_SafeLoader):  # type: ignore[misc]
    """Builds plain data; a key that stands twice in a mapping is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping."""
        keys = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    raise yaml.constructor.ConstructorError(
                        None,
                        None,
                        f"the key {_shortened(key.value, MOST_GIVEN)!r} stands twice",
                        key.start_mark,
                    )
                keys.add(key.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def read_yaml_text(text: str, source: str) -> Any:
    """Return YAML from a stranger as plain data.

    What files may have but specifications never need is refused: aliases, anchors and tags, keys that stand twice, and
    nesting or numbers beyond all measure.

    Parameters
    ----------
    text
        One YAML document.
    source
        Where it came from, for the error message.

    Raises
    ------
    SpecError
        Naming line and column.
    """
    try:
        _check_events(text)
        return yaml.load(text, Loader=_PlainLoader)
    except yaml.YAMLError as error:
        raise _not_yaml(error, source) from None
    except (ValueError, RecursionError):
        raise SpecError(f"{source}: not usable YAML: nested too deeply, or a number of too many digits") from None


def _check_events(text: str) -> None:
    """Refuse what a YAML document of a stranger must not have, before anything is built of it."""
    levels = values = 0
    for event in yaml.parse(text, Loader=_SafeLoader):
        problem = None
        if getattr(event, "anchor", None) is not None:
            problem = "anchors and aliases (& and *) are not taken here"
        elif getattr(event, "tag", None) not in (None, "!", "tag:yaml.org,2002:str"):
            problem = "tags (!) are not taken here"
        elif isinstance(event, yaml.CollectionStartEvent):
            levels += 1
            if levels > MOST_LEVELS:
                problem = f"more than {MOST_LEVELS} lists and mappings within each other"
        elif isinstance(event, yaml.CollectionEndEvent):
            levels -= 1
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
            if values > MOST_VALUES:
                problem = f"more than {MOST_VALUES:,} values and keys"
            elif len(event.value) > MOST_GIVEN and event.implicit[0] and _NUMBER.fullmatch(event.value):
                problem = "a number of too many digits"
        if problem:
            raise yaml.constructor.ConstructorError(None, None, problem, event.start_mark)  # type: ignore[arg-type]


def _not_yaml(error: yaml.YAMLError, source: str | Path) -> SpecError:
    mark = getattr(error, "problem_mark", None)
    where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return SpecError(f"{source}: not valid YAML{where}: {getattr(error, 'problem', None) or error}")


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
        raise _not_yaml(error, path) from None
    except (ValueError, RecursionError):
        raise SpecError(f"{path}: not usable YAML: nested too deeply, or a number of too many digits") from None


def described(error: ValidationError, source: str, spec: type[Spec], data: object = None) -> SpecError:
    """Return a validation error as one line: every field, what was given, what is allowed.

    Parameters
    ----------
    error
        What validation raised.
    source
        Where the data came from.
    spec
        The specification that the data should have been.
    data
        What was validated, to tell fields from the tags that pydantic puts between them.
    """
    items = error.errors(include_url=False)
    if any(item["type"] == "too_short" for item in items):
        # A list whose items are at fault is also "too short" in the eyes of pydantic.
        lists = {item["loc"][:end] for item in items for end in range(len(item["loc"]))}
        items = [item for item in items if item["type"] != "too_short" or item["loc"] not in lists]
    written = [_written(item["loc"], data, item["type"]) for item in items]
    # Of several forms that a value may have, those of another type say nothing beside one that could be read.
    read = {tuple(place) for place, item in zip(written, items, strict=True) if not item["type"].endswith("_type")}
    found = [
        (place, item)
        for place, item in zip(written, items, strict=True)
        if tuple(place) not in read or not item["type"].endswith("_type")
    ]
    said, problems = [], []
    for parts, item in found[:MOST_PROBLEMS]:
        place = item["loc"]
        # Without the names that pydantic gives to types, as function-after[check(), str].
        field = ".".join(str(part) for part in place if "[" not in str(part)) or "the document"
        message = item["msg"].removeprefix("Value error, ").removeprefix(f"{field}: ")
        if item["type"] == "extra_forbidden":
            message = f"unknown key; allowed here: {', '.join(_keys_at(spec, place[:-1]))}"
        given = _given(item.get("input"), message)
        said.append(f"{field}: {_shortened(message, MOST_TOLD)}{'' if given is None else f', given {given}'}")
        problems.append(_problem(spec, parts, place, message, given))
    if len(found) > MOST_PROBLEMS:
        said.append(f"and {len(found) - MOST_PROBLEMS:,} more")
    return SpecError(f"{source}: " + "; ".join(said), problems)


def _given(value: object, message: str) -> str | None:
    """Return a value as an error shows it; None if it is no single value, or the message shows it."""
    if isinstance(value, dict | list | Spec):
        return None
    shown = repr(value)
    return None if isinstance(value, str) and shown in message else _shortened(shown, MOST_GIVEN)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def _problem(spec: type[Spec], field: list[str], place: Place, message: str, given: str | None) -> Problem:
    """Return a problem; where the message of a whole begins with one of its fields, that field is at fault."""
    while (found := _FIELD_FIRST.match(message)) and found[1] in _keys_at(spec, place):
        field, place, message = [*field, found[1]], (*place, found[1]), message[found.end() :]
    return Problem(".".join(field), _shortened(message, MOST_TOLD), given)


def _written(place: Place, data: object, kind: str) -> list[str]:
    """Return a place without the tags of unions, which do not stand in the document."""
    found = []
    for number, part in enumerate(place, start=1):
        in_list = isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)
        if in_list or (isinstance(data, dict) and part in data):
            data = data[part]  # type: ignore[index]
        elif kind != "missing" or number < len(place):
            continue
        found.append(str(part))
    return found


def _check_text(data: object, source: str) -> None:
    """Refuse texts that are too long, and characters that are no text: databases and files cannot keep them.

    Raises
    ------
    SpecError
        Naming the field, and the character.
    """
    count = 0
    waiting: list[tuple[tuple[object, ...], object]] = [((), data)]
    while waiting:
        place, value = waiting.pop()
        count += 1
        if count > MOST_VALUES:
            raise SpecError(f"{source}: too large; at most {MOST_VALUES:,} values and keys can be read")
        if isinstance(value, dict):
            waiting += [((*place, key), key) for key in value if isinstance(key, str)]
            waiting += [((*place, key), each) for key, each in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [((*place, number), each) for number, each in enumerate(value)]
        elif isinstance(value, str) and (len(value) > MOST_CHARACTERS or _NO_TEXT.search(value)):
            field = ".".join(_NO_TEXT.sub("?", _shortened(str(part), MOST_GIVEN)) for part in place)
            message = f"{len(value):,} characters, at most {MOST_CHARACTERS:,}"
            if found := _NO_TEXT.search(value):
                message = f"holds the character U+{ord(found[0]):04X}, which is no text"
            raise SpecError(f"{source}: {field or 'the document'}: {message}", [Problem(field, message)])


def _keys_at(spec: type[Spec], place: Place) -> list[str]:
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
