"""Noise of steps' durations: what the factors are, and what they do to steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator import Deployment, Pool, SpecError, Workload, build_requests, simulate
from simulator.kernel import run_compiled
from simulator.kernel.layout import NOISE_SHIFT
from simulator.lowering import NO_LIMIT
from simulator.lowering.noise import noise_factors
from tests.oracle.draws import draw_of_step, mix
from tests.oracle.engine import OracleProfile, OracleRequest
from tests.oracle.scenarios import Scenario
from tests.oracle.test_oracle import CONTINUOUS, spans
from tests.simulator.kernel_memory import assert_same_as_oracle, memory_of
from tests.simulator.plain_scenarios import plain, plain_scenarios, with_clients
from tests.simulator.test_kernel_against_oracle import KNOTS, check

ONE = 1 << NOISE_SHIFT
STEP_PS = 10**9
CONSTANT = OracleProfile((STEP_PS + 0 * KNOTS).tolist(), [0] * 1025, 0, 0, 0)
TOKENS = 20_000


def busy_ps(cv: float, seed: int = 0) -> npt.NDArray[np.int64]:
    """Return how long the steps of three clients that decode a request each last in all, in the kernel."""
    client = replace(CONTINUOUS, profile=CONSTANT, factors=tuple(noise_factors(cv).tolist()), total_blocks=10**6)
    memory = memory_of(plain([client] * 3, [OracleRequest(0, 1, TOKENS)] * 3, seed=seed), NO_LIMIT)
    run_compiled(memory)
    assert memory.clients["steps"][:3].tolist() == [TOKENS] * 3
    busy: npt.NDArray[np.int64] = memory.clients["busy_ps"][:3].copy()
    return busy


@pytest.mark.parametrize("cv", [0.01, 0.1, 0.3, 1.0])
def test_factors(cv: float) -> None:
    factors = noise_factors(cv)
    assert len(factors) == 1024
    assert (np.diff(factors) >= 0).all()
    assert factors.min() >= 0
    # Each is off by half a unit at most.
    assert factors.mean() == pytest.approx(ONE, abs=0.5)
    assert factors.std() / ONE == pytest.approx(cv, rel=0.006)
    # As drawn from the distribution itself, but for the ends.
    sigma = np.sqrt(np.log1p(cv * cv))
    drawn = np.sort(np.random.default_rng(1).lognormal(-sigma * sigma / 2, sigma, 1024 * 2000)).reshape(1024, -1)
    np.testing.assert_allclose(factors[10:-10] / ONE, drawn.mean(axis=1)[10:-10], rtol=0.02 * cv)


@pytest.mark.parametrize("cv", [0.1, 0.5])
def test_the_mean_of_many_steps_is_the_models(cv: float) -> None:
    relative = busy_ps(cv) / (TOKENS * STEP_PS)
    np.testing.assert_allclose(relative, 1, atol=4 * cv / np.sqrt(TOKENS))
    assert len(set(relative)) == 3, "clients differ"


def test_steps_vary_as_asked() -> None:
    client = replace(CONTINUOUS, profile=CONSTANT, factors=tuple(noise_factors(0.3).tolist()), total_blocks=10**6)
    result = plain([client], [OracleRequest(0, 1, 4000)]).simulate()
    steps = np.diff(np.array(spans(result)), axis=1).ravel() / STEP_PS
    assert steps.mean() == pytest.approx(1, abs=4 * 0.3 / np.sqrt(4000))
    assert steps.std() == pytest.approx(0.3, rel=0.06)
    # Whoever comes later does not depend on what was before.
    assert abs(np.corrcoef(steps[1:], steps[:-1])[0, 1]) < 4 / np.sqrt(4000)


def test_the_seed_says_what_happens() -> None:
    assert (busy_ps(0.2, seed=3) == busy_ps(0.2, seed=3)).all()
    assert (busy_ps(0.2, seed=3) != busy_ps(0.2, seed=4)).all()


def test_by_hand() -> None:
    # Prefill of 4 tokens 40 ps, decodes of 10: each times what is drawn for it, rounded down, at least 1 ps.
    factors = tuple(1000 * i for i in range(1024))
    drawn = [factors[draw_of_step(5, 1, n) >> 22] for n in range(3)]
    lasts = [max(1, (time * factor) // 2**20) for time, factor in zip([40, 10, 10], drawn, strict=True)]
    # Round robin: the second request comes to client 1.
    scenario = plain([CONTINUOUS, replace(CONTINUOUS, factors=factors)], [OracleRequest(0, 4, 3)] * 2, seed=5)
    check(scenario)
    ends = np.cumsum(lasts).tolist()
    assert spans(scenario.simulate(), 1) == list(zip([0, *ends[:-1]], ends, strict=True))
    assert spans(scenario.simulate(), 0) == [(0, 40), (40, 50), (50, 60)]


def test_draws_of_steps() -> None:
    # mix(mix(seed + 2^32 - 1 - client) + mix(step)), modulo 2^32.
    assert draw_of_step(0, 0, 0) == mix(mix(2**32 - 1))
    assert draw_of_step(7, 2, 9) == mix((mix(4) + mix(9)) % 2**32)


some = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@some
@given(plain_scenarios())
def test_factors_of_one_change_nothing(scenario: Scenario) -> None:
    noisy = with_clients(scenario, [replace(client, factors=(ONE,) * 1024) for client in scenario.clients])
    memory = memory_of(noisy, NO_LIMIT)
    run_compiled(memory)
    assert_same_as_oracle(memory, scenario.simulate())


@some
@given(plain_scenarios(), st.sampled_from([3, 7]))
def test_a_common_factor_is_that_of_the_steps(scenario: Scenario, times: int) -> None:
    # Without attention over prompts, which is rounded before it is multiplied.
    clients = [replace(client, profile=replace(client.profile, pair=0, read=0)) for client in scenario.clients]
    noisy = with_clients(scenario, [replace(client, factors=(times * ONE,) * 1024) for client in clients])
    slower = with_clients(scenario, [replace(client, profile=scaled(client.profile, times)) for client in clients])
    memory = memory_of(noisy, NO_LIMIT)
    run_compiled(memory)
    assert_same_as_oracle(memory, slower.simulate())


def scaled(profile: OracleProfile, times: int) -> OracleProfile:
    """Return a profile of a client that takes so many times as long."""
    return replace(
        profile,
        linear=[times * each for each in profile.linear],
        sequences=[times * each for each in profile.sequences],
        attention_ps=times * profile.attention_ps,
    )


POOL = {"model": "llama-3.1-8b", "accelerator": "l40s", "clients": 2}
LOAD = {
    "requests": 400,
    "arrivals": {"process": "poisson", "rate_rps": 4},
    "lengths": {"statistics": "azure-2023-conversation"},
}


def test_it_reaches_the_kernel() -> None:
    requests = build_requests(Workload.parse(LOAD))

    def run(cv: float, seed: int = 0, max_run: int = NO_LIMIT) -> npt.NDArray[np.float64]:
        deployment = Deployment.parse({"pools": [POOL | {"step_noise_cv": cv}], "seed": seed})
        return simulate(deployment, requests, max_run=max_run).e2e_s

    assert (run(0.0) == run(0.0, seed=1)).all()
    assert (run(0.2) == run(0.2, max_run=1)).all()
    assert (run(0.2) != run(0.2, seed=1)).mean() > 0.9
    assert run(0.2).mean() == pytest.approx(run(0.0).mean(), rel=0.02)
    assert not (run(0.2) == run(0.0)).any()


@pytest.mark.parametrize("cv", [-0.1, 1.1])
def test_range(cv: float) -> None:
    with pytest.raises(SpecError, match="step_noise_cv"):
        Pool.parse(POOL | {"step_noise_cv": cv})
