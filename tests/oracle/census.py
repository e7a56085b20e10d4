"""How often what can happen does happen in random scenarios: ``python -m tests.oracle.census 500``."""

import sys
from collections import Counter
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .engine import OracleResult
from .scenarios import (
    Scenario,
    cache_scenarios,
    everything,
    llm_scenarios,
    pipeline_scenarios,
    session_scenarios,
)

THEMES: dict[str, Callable[[], st.SearchStrategy[Scenario]]] = {
    "llm": llm_scenarios,
    "pipeline": pipeline_scenarios,
    "session": session_scenarios,
    "cache": cache_scenarios,
    "everything": everything,
}


def what_happened(scenario: Scenario, result: OracleResult) -> set[str]:
    """Names of all that happened at least once."""
    happened = {name for name, count in result.happened.items() if count > 0}
    rejected = [r for r in result.requests if r.rejected]
    if rejected:
        happened.add("rejected")
    if any(r.arrival_ps == -1 for r in rejected):
        happened.add("never arrived")
    if len(rejected) == len(result.requests):
        happened.add("all rejected")
    if any(r.needs > 0 and not o.rejected for r, o in zip(scenario.requests, result.requests, strict=True)):
        happened.add("follower served")
    predecessors: Counter[int] = Counter()
    for request, outcome in zip(scenario.requests, result.requests, strict=True):
        if not outcome.rejected:
            predecessors.update(range(request.first_follower, request.first_follower + request.followers))
    if any(predecessors[i] > r.needs > 0 for i, r in enumerate(scenario.requests)):
        happened.add("late predecessor of a join")
    handed_over = [r for r in result.requests if r.prefill_client != r.finish_client]
    for spec in (scenario.clients[r.prefill_client] for r in handed_over):
        if scenario.stages[spec.stage].local_handover:
            happened.add("local hand-over")
        if spec.egress != -1:
            happened.add("hand-over by a link")
        if spec.link_layers > 0:
            happened.add("hand-over by layers")
    for reason in (1, 2, 3):
        if any(c.blocked_ps[reason] for c in result.clients):
            happened.add(f"blocked by {reason}")
    kinds = [[scenario.stages[s].kind for s in scenario.ways[r.way]] for r in scenario.requests]
    if any("llm" not in kind for kind in kinds):
        happened.add("way without an LLM")
    if any(kind.count("service") > 1 and "llm" in kind for kind in kinds):
        happened.add("LLM and two services")
    return happened


def census(strategy: st.SearchStrategy[Scenario], examples: int) -> Counter[str]:
    counts: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def count(scenario: Scenario) -> None:
        counts["scenarios"] += 1
        counts["requests"] += len(scenario.requests)
        counts.update(what_happened(scenario, scenario.simulate()))

    count()
    return counts


def main() -> None:
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for name in sys.argv[2:] or THEMES:
        counts = census(THEMES[name](), examples)
        print(f"{name}: {counts['scenarios']} scenarios, {counts['requests']} requests")
        for what, number in sorted(counts.items()):
            if what not in ("scenarios", "requests"):
                print(f"  {100 * number / counts['scenarios']:5.1f} %  {what}")


if __name__ == "__main__":
    main()
