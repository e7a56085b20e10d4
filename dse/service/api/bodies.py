"""Bodies of requests: JSON or YAML, read within limits, as specifications."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final, NoReturn, TypeVar

from anyio import to_thread
from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema

from dse.service.api.problems import Refusal
from simulator.errors import Problem, SpecError
from simulator.spec.base import Spec, read_yaml_text

AnySpec = TypeVar("AnySpec", bound=Spec)
AnyModel = TypeVar("AnyModel", bound=BaseModel)

JSON: Final = "application/json"
YAML: Final = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
SOURCE: Final = "the body"

REFERENCES: Final = "#/components/schemas/{model}"
_described: dict[str, type[BaseModel]] = {}


def body(model: type[BaseModel], *, yaml: bool = True, example: Any = None) -> dict[str, Any]:
    """Return what OpenAPI says of a route whose body is a specification, as the route's ``openapi_extra``.

    Parameters
    ----------
    model
        What the body holds.
    yaml
        Whether it may be YAML, too.
    example
        Of a body, as plain data.
    """
    _described[model.__name__] = model
    media: dict[str, Any] = {"schema": {"$ref": REFERENCES.format(model=model.__name__)}}
    if example is not None:
        media["example"] = example
    kinds = (JSON, YAML[0]) if yaml else (JSON,)
    return {"requestBody": {"required": True, "content": dict.fromkeys(kinds, media)}}


def add_schemas(components: dict[str, Any], *others: type[BaseModel]) -> None:
    """Add the schemas of all bodies and of other models, and of what they consist of, to OpenAPI's components.

    Where an answer has a model of the same name, e.g. a trace that a study names and one that was uploaded, that of the
    body ends with ``Spec``.
    """
    wanted = [(model, "validation") for model in (*_described.values(), *others)]
    _, found = models_json_schema(wanted, ref_template=REFERENCES)  # type: ignore[arg-type]
    own = found.get("$defs", {})
    new = {name: f"{name}Spec" for name, schema in own.items() if components.get(name, schema) != schema}
    references = {REFERENCES.format(model=name): REFERENCES.format(model=renamed) for name, renamed in new.items()}
    components |= {new.get(name, name): _renamed(schema, references) for name, schema in own.items()}


def _renamed(schema: Any, references: dict[str, str]) -> Any:
    """Return a schema with other references."""
    if isinstance(schema, dict):
        return {key: _renamed(value, references) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_renamed(each, references) for each in schema]
    return references.get(schema, schema) if isinstance(schema, str) else schema


async def read_spec(request: Request, model: type[AnySpec]) -> AnySpec:
    """Return the specification in a request's body, JSON or YAML, validated in a thread.

    Files that it names are found as :func:`simulator.files.files_from` says around the call.

    Raises
    ------
    Refusal
        400 or 415 if the body cannot be read; that it is not too large is seen to before.
    SpecError
        Naming every field at fault.
    """
    kind, content = _kind_of(request, (JSON, *YAML)), await request.body()
    return await to_thread.run_sync(lambda: model.parse(plain(content, kind), source=SOURCE))


async def read_model(request: Request, model: type[AnyModel]) -> AnyModel:
    """Return the small JSON in a request's body; as :func:`read_spec`, for what is no specification."""
    kind, content = _kind_of(request, (JSON,)), await request.body()
    return await to_thread.run_sync(lambda: _validated(model, plain(content, kind)))


def _validated(model: type[AnyModel], data: Any) -> AnyModel:
    try:
        return model.model_validate_json(json.dumps(data))
    except ValidationError as error:
        problems = [
            Problem(".".join(map(str, item["loc"])), item["msg"], _shown(item["input"]))
            for item in error.errors(include_url=False)
        ]
        said = "; ".join(f"{each.field or 'the document'}: {each.message}" for each in problems)
        raise SpecError(f"{SOURCE}: {said}", problems) from None


def _shown(given: Any) -> str | None:
    return None if isinstance(given, dict | list) else repr(given)


def _kind_of(request: Request, allowed: tuple[str, ...]) -> str:
    given = request.headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    if kind not in allowed:
        said = f"given {given[:100]!r}" if given else "none given"
        wanted = ", ".join(allowed[:2])
        raise Refusal(415, f"Content-Type: {said}; allowed: {wanted}", headers={"Accept": wanted})
    return kind


def plain(content: bytes, kind: str = JSON) -> Any:
    """Return a body as plain data.

    Raises
    ------
    Refusal
        400 if it is no JSON, or holds a key twice.
    SpecError
        If it is no YAML that is taken here.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal(400, f"{SOURCE}: not UTF-8 at byte {error.start:,}") from None
    return _of_json(text) if kind == JSON else read_yaml_text(text, SOURCE)


def _of_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Refusal(400, f"{SOURCE}: not valid JSON at {where}: {error.msg}") from None
    except RecursionError:
        raise Refusal(400, f"{SOURCE}: nested too deeply") from None
    except ValueError as error:
        # Its own words of numbers with too many digits advise how to allow them.
        detail = str(error) if isinstance(error, _Unusable) else "a number of too many digits"
        raise Refusal(400, f"{SOURCE}: {detail}") from None


class _Unusable(ValueError):
    """What JSON's grammar lets pass."""


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Unusable(f"key {twice[:100]!r} is given twice")
    return found


def _no_number(given: str) -> NoReturn:
    raise _Unusable(f"{given} is no number")


@cache
def example_study() -> dict[str, Any]:
    """Return a small study, as an example of a body."""
    return {
        "name": "chat-small",
        "question": "How many GPUs does a small chat need?",
        "model": "llama-3.1-8b",
        "workload": {
            "requests": 200,
            "arrivals": {"process": "poisson", "rate_rps": 4.0},
            "lengths": {"statistics": "azure-2023-conversation"},
        },
        "space": {"accelerators": ["h100-sxm", "l40s"], "clients": [1, 2, 4], "tp": [1, 2]},
        "objectives": ["usd_per_million_output_tokens", "e2e_p90_s"],
        "slos": [{"metric": "ttft", "percentile": 99.0, "limit_s": 2.0}],
        "budget": {"trials": 40},
    }
