"""The oracle asserts its invariants on random scenarios of each theme."""

from hypothesis import HealthCheck, given, settings

from .scenarios import (
    Scenario,
    cache_scenarios,
    everything,
    llm_scenarios,
    pipeline_scenarios,
    session_scenarios,
)

some = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def check(scenario: Scenario) -> None:
    result = scenario.simulate()
    assert len(result.requests) == len(scenario.requests)
    # Clients of a stage follow each other.
    stages = [spec.stage for spec in scenario.clients]
    assert [s for i, s in enumerate(stages) if i == 0 or stages[i - 1] != s] == list(dict.fromkeys(stages))


@some
@given(llm_scenarios())
def test_llms(scenario: Scenario) -> None:
    check(scenario)


@some
@given(pipeline_scenarios())
def test_pipelines(scenario: Scenario) -> None:
    check(scenario)


@some
@given(session_scenarios())
def test_sessions(scenario: Scenario) -> None:
    check(scenario)


@some
@given(cache_scenarios())
def test_caches(scenario: Scenario) -> None:
    check(scenario)


@some
@given(everything())
def test_everything(scenario: Scenario) -> None:
    check(scenario)
