"""What OpenAPI says holds: requests made up from it get documented answers, and never an error of the server.

``SCHEMATHESIS_EXAMPLES`` sets how many for each operation.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy, fixed_dictionaries, just, one_of, sampled_from
from schemathesis import GenerationMode, openapi
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from dse.service.api.app import create_app
from dse.service.settings import Limits, Settings

from .running import Running, running
from .served import QUICK
from .working import ended, worker

EXAMPLES: Final = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "12"))
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
LONGEST_S: Final = 10.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = Limits(once_s=3, once_requests=2_000, requests=10_000, writes_per_minute=10**6, reads_per_s=10**5)
    with running(Settings(data=tmp_path_factory.mktemp("data"), limits=limits)) as server, server.client() as client:
        client.put("/v1/traces/a", content=b"arrival_s,prompt_tokens,output_tokens\n0,9,9\n").raise_for_status()
        yield server


@pytest.fixture(scope="module")
def there(server: Running) -> dict[str, list[Any]]:
    """What parameters of paths can name, so that not every request asks for what is not there."""
    with server.client() as client, worker(server.app.state.service.settings):
        id = client.post("/v1/studies", json=QUICK).raise_for_status().json()["id"]
        assert ended(client, id)["state"] == "finished"
        trials = client.get(f"/v1/studies/{id}/trials").json()["trials"]
    exports = ["front.csv", "trials.csv", "trials.parquet", "study.json", "study.yaml"]
    numbers = [each["number"] for each in trials]
    return {"id": [id], "number": numbers, "name": ["a", "chat", *exports], "target": ["vllm", "dynamo", "all"]}


DESCRIBED: Final = create_app(Settings(data=Path("unused"))).openapi()
# A stream of events does not end by itself.
OPERATIONS: Final = {
    found.ok().label: found.ok()
    for found in openapi.from_dict(DESCRIBED).exclude(path_regex="/events$").get_all_operations()
}


@pytest.mark.parametrize("label", OPERATIONS)
def test_answers_are_as_documented(server: Running, there: dict[str, list[Any]], label: str) -> None:
    asked = 0
    operation = OPERATIONS[label]
    known = {each.name: sampled_from(there[each.name]) for each in operation.path_parameters if each.name in there}

    @seed(0)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(made_up(operation), one_of(just({}), fixed_dictionaries(known)))
    def ask(case: Any, named: dict[str, Any]) -> None:
        nonlocal asked
        # Deleted ones are gone for all that follows.
        if case.method != "DELETE":
            case.path_parameters = {**case.path_parameters, **named}
        began = time.monotonic()
        response = case.call(base_url=server.url, timeout=30)
        assert time.monotonic() - began < LONGEST_S
        case.validate_response(response, checks=CHECKS)
        asked += 1

    ask()
    assert asked >= 1


def made_up(operation: Any) -> SearchStrategy[Any]:
    """Return requests as the description allows them, and requests that it does not allow."""
    return operation.as_strategy(GenerationMode.POSITIVE) | operation.as_strategy(GenerationMode.NEGATIVE)


def test_every_operation_is_described_and_the_server_is_alive(server: Running) -> None:
    described = {f"{method.upper()} {path}" for path, methods in DESCRIBED["paths"].items() for method in methods}
    assert described - set(OPERATIONS) == {"GET /v1/studies/{id}/events"}
    assert len(OPERATIONS) > 30
    with server.client() as client:
        began = time.monotonic()
        assert client.get("/healthz").status_code == 200
        assert time.monotonic() - began < 1
