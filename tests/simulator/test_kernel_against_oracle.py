"""The kernel (fast-forwarded, stepped, uncompiled) and the oracle agree on every integer, on random scenarios."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from simulator.kernel import run_compiled, run_interpreted
from simulator.lowering import NO_LIMIT, POLICIES
from tests.oracle import scenarios
from tests.oracle.engine import LINEAR_KNOTS, OracleClientSpec, OracleProfile, OracleRequest, OracleStage
from tests.oracle.scenarios import Scenario
from tests.simulator.kernel_memory import assert_empty_at_the_end, assert_same_as_oracle, memory_of

KNOTS = np.asarray(LINEAR_KNOTS, dtype=np.int64)

Test = Callable[[Scenario], None]
CAREFUL = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def check(scenario: Scenario) -> None:
    """Run a scenario in every way."""
    expected = scenario.simulate()
    for max_run, run in (
        (NO_LIMIT, run_compiled),
        (1, run_compiled),
        (3, run_compiled),
        (NO_LIMIT, run_interpreted),
    ):
        memory = memory_of(scenario, max_run)
        run(memory)
        assert_same_as_oracle(memory, expected)
        assert_empty_at_the_end(memory)


@CAREFUL
@given(scenarios.llm_scenarios())
def test_llm_stages(scenario: Scenario) -> None:
    check(scenario)


@CAREFUL
@given(scenarios.pipeline_scenarios())
def test_pipelines(scenario: Scenario) -> None:
    check(scenario)


@CAREFUL
@given(scenarios.session_scenarios())
def test_sessions(scenario: Scenario) -> None:
    check(scenario)


@CAREFUL
@given(scenarios.cache_scenarios())
def test_caches(scenario: Scenario) -> None:
    check(scenario)


@CAREFUL
@given(scenarios.everything())
def test_everything(scenario: Scenario) -> None:
    check(scenario)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_under_memory_pressure(policy: str) -> None:
    """Many requests, few blocks: preemption over preemption, and still the same integers."""
    rng = np.random.default_rng(7)
    profile = OracleProfile((40 + 3 * KNOTS).tolist(), np.arange(1025).tolist(), 2, 900, 3000)
    spec = OracleClientSpec("both", policy, 8, 32, 4, 40, 1, profile, 0, 0)
    arrivals = np.cumsum(rng.integers(0, 400, 300))
    requests = tuple(
        OracleRequest(int(t), int(p), int(o))
        for t, p, o in zip(arrivals, rng.integers(1, 60, 300), rng.integers(1, 80, 300), strict=True)
    )
    scenario = Scenario(
        clients=(spec, spec),
        requests=requests,
        stages=(OracleStage("llm", "least_outstanding_tokens"),),
        ways=((0,),),
        tiers=(),
        links=0,
        chunk_tokens=1,
        seed=0,
    )
    if policy != "static":
        assert sum(client.preemptions for client in scenario.simulate().clients) > 50
    check(scenario)
