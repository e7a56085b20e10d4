"""Numbers, metrics, designs and workloads in words, for the terminal and the report alike: plain text, not escaped."""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from typing import Final, Literal

from dse.certificate.ledger import Certificate
from dse.objectives import LATENCIES, direction_of, is_metric, latency_of, metric
from simulator import SLO, Deployment, Pool, Requests, Workload
from simulator.spec.lengths import Lengths
from simulator.spec.stages import Service

METRICS: Final = LATENCIES
"""Latencies in words."""
_ORDERS = {
    "shortest_first": "shortest prompt first",
    "least_work_left": "least work first",
    "priority": "by priority",
    "earliest_deadline": "earliest deadline first",
}
_LABELS = {
    "finite": "a finite value of every objective",
    "rejected": "rejected requests",
    "span_s": "time simulated",
    "output_tokens": "output tokens",
    "energy_j": "energy",
}
USES: Final = {
    "busy": "busy",
    "compute": "compute",
    "memory_bandwidth": "memory bandwidth",
    "link": "links",
    "kv_peak": "KV cache, peak",
    "blocked_by_kv": "requests waited for KV",
    "blocked_by_batch": "… for a place in the batch",
    "blocked_by_budget": "… for the token budget",
}
"""Shares of a pool's time and memory (:class:`simulator.metrics.PoolUse`) in words."""
_BRIEF = {
    "usd_per_hour": "cost",
    "usd_per_million_output_tokens": "cost per token",
    "energy_j_per_output_token": "energy per token",
    "output_tokens_per_s": "tokens per second",
    "goodput_rps": "goodput",
    "goodput_requests_per_usd": "goodput per USD",
    "energy_j_per_request": "energy per request",
}
_HEADINGS = {
    "usd_per_hour": "USD/h",
    "usd_per_million_output_tokens": "USD/M tokens",
    "energy_j_per_output_token": "J/token",
    "output_tokens_per_s": "tokens/s",
    "requests_per_s": "requests/s",
    "goodput_rps": "good requests/s",
    "goodput_requests_per_usd": "good requests/USD",
    "output_tokens_per_s_per_accelerator": "tokens/s/accelerator",
    "requests_per_s_per_accelerator": "requests/s/accelerator",
    "energy_j_per_request": "J/request",
    "power_mean_w": "mean W",
    "power_peak_w": "peak W",
}
_EXCLUSIONS = {
    "accelerators": "more accelerators than allowed",
    "usd_per_hour": "dearer than allowed",
    "power_kw": "more power than allowed",
    "memory": "model does not fit into memory",
    "overload": "load far beyond capacity",
    "possible": "choices contradict each other or are not supported",
}


def number(value: float) -> str:
    """Return a number with about three significant digits."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def seconds(value: float) -> str:
    """Return a time with the unit that suits its size."""
    if not math.isfinite(value):
        return number(value)
    if 0 < abs(value) < 1:
        return f"{number(value * 1e3)} ms"
    return f"{number(value)} s" if abs(value) < 600 else f"{number(value / 60)} min"


def percent(share: float) -> str:
    """Return a share as percent; what is not quite all or nothing is not rounded to it."""
    if not math.isfinite(share):
        return number(share)
    digits = 0 if share in (0, 1) or abs(share) >= 10 else 2 if 0.9995 <= share < 1 else 1
    text = f"{share * 100:,.{digits}f}"
    if 0 < share < 1 and float(text) in (0, 100):
        return "< 0.1 %" if float(text) == 0 else "> 99.9 %"
    return f"{text} %"


def label(name: str) -> str:
    """Return a metric in words for a person, e.g. ``TTFT p99`` for ``ttft_p99_s``."""
    if is_metric(name):
        return metric(name).label
    for side, words in (("_at_most", "at most"), ("_at_least", "at least")):
        if name.endswith(side):
            return f"{label(name.removesuffix(side))} {words}"
    return _LABELS.get(name, name)


def metric_name(metric: str) -> str:
    """Return the short name of a latency: ``TTFT``, ``session``."""
    return metric if metric == "session" else metric.upper()


def brief(name: str) -> str:
    """Return a metric in as few words as possible, where its unit does not matter."""
    return _BRIEF.get(name, label(name))


def unit(name: str) -> str:
    """Return the unit of a metric; empty if it is a bare number."""
    return metric(name).unit if is_metric(name) else ""


def quantity(name: str, value: float) -> str:
    """Return a metric's value with its unit."""
    if latency_of(name) or name == "span_s":
        return seconds(value)
    if is_share(name):
        return percent(value)
    money = unit(name) == "USD" and 0.01 <= abs(value) < 1000
    return f"{f'{value:.2f}' if money else number(value)} {unit(name)}".strip()


def figure(name: str, value: float) -> str:
    """Return a metric's value for a column that names the unit, if it is not a time."""
    return seconds(value) if latency_of(name) else quantity(name, value).removesuffix(unit(name)).strip()


def is_share(name: str) -> bool:
    """Return whether a metric is a share, said in percent."""
    return name.startswith(("slo_attainment", "utilisation"))


def better(name: str) -> str:
    """Return which way of a metric is better."""
    return "lower is better" if direction_of(name) == "minimize" else "higher is better"


def slo_words(slo: SLO) -> str:
    """Return a promise in words."""
    what = {"itl": "gaps between tokens", "session": "sessions"}.get(slo.metric, "requests")
    return f"{METRICS[slo.metric]} within {seconds(slo.limit_s)} for {slo.percentile:g} % of {what}"


def exclusion(kind: str) -> str:
    """Return why designs were not simulated, in words."""
    return _EXCLUSIONS.get(kind, kind)


def promise(name: str) -> str:
    """Return a promise, a bound or what else may be broken, in words."""
    metric = name.removesuffix("_at_most").removesuffix("_at_least")
    return label(metric) if is_metric(metric) or metric == "finite" else exclusion(name)


def plural(count: int, word: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def spoken(name: str) -> str:
    """Return the name of a rule as words."""
    return name.replace("_", " ")


def degrees(pool: Pool) -> dict[str, int]:
    """Return the degrees of parallelism of a pool by name: of tensors, and the others where they are not 1."""
    others = {"PP": pool.pp, "DP": pool.dp, "EP": pool.ep or 1}
    return {"TP": pool.tp, **{name: degree for name, degree in others.items() if degree > 1}}


def accelerators_of(pool: Pool) -> str:
    """Return the types of a pool's accelerators."""
    return " + ".join(pool.accelerator_counts)


def clients(pool: Pool) -> str:
    """Return the clients of a pool in a few characters, e.g. ``4 × h100-sxm TP4 PP2``."""
    parallel = " ".join(f"{name}{degree}" for name, degree in degrees(pool).items())
    return f"{pool.clients} × {accelerators_of(pool)} {parallel}"


def extras(pool: Pool) -> list[str]:
    """Return in words what a pool does beyond plain batching: queue order, reuse of KV, speculation, adapters."""
    found = [_ORDERS[pool.batching.order]] if pool.batching.order in _ORDERS else []
    if pool.prefix_cache:
        found.append("prefix cache")
    if pool.speculation:
        source = pool.speculation.draft_model or "prompt lookup"
        found.append(f"{plural(pool.speculation.draft_tokens, 'token')} ahead by {source}")
    if pool.adapters:
        behind = f", others in {pool.adapters.memory}" if pool.adapters.memory else ""
        found.append(f"{plural(pool.adapters.slots, 'adapter')} held{behind}")
    return found


def routed(deployment: Deployment) -> str:
    """Return the rule by which requests pick a client, and the tiers behind the prefix caches."""
    tiers = [tier.name for tier in deployment.tiers]
    return " · ".join([spoken(deployment.router), *([f"KV tiers {', '.join(tiers)}"] if tiers else [])])


def short(deployment: Deployment) -> str:
    """Return the hardware of a deployment in a few characters: clients, accelerator, parallelism, weights."""

    def joint(pools: list[Pool]) -> str:
        return " → " if any(pool.role == "prefill" for pool in pools) else " + "

    return f"{_by_stage(deployment, clients, joint)} · {precision(deployment, 'weights')}"


def _by_stage(deployment: Deployment, said: Callable[[Pool], str], joint: Callable[[list[Pool]], str]) -> str:
    """Return what is said of pools, those of a stage joined; with the names of the stages if there are several."""
    names = dict.fromkeys(pool.stage for pool in deployment.pools)
    parts = []
    for stage in names:
        pools = [pool for pool in deployment.pools if pool.stage == stage]
        text = joint(pools).join(map(said, pools))
        parts.append(f"{stage}: {text}" if len(names) > 1 else text)
    return " + ".join(parts)


def several_stages(deployment: Deployment) -> bool:
    """Return whether pools of a deployment serve different LLM stages."""
    return len({pool.stage for pool in deployment.pools}) > 1


def precision(deployment: Deployment, of: Literal["weights", "kv"]) -> str:
    """Return the precision of weights or KV caches; of pools that differ, who has which: ``bf16 (a), fp8 (b)``."""
    several, found = several_stages(deployment), dict[str, dict[str, None]]()
    for pool in deployment.pools:
        found.setdefault(getattr(pool, of), {})[pool.stage if several else pool.name] = None
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{name} ({', '.join(who)})" for name, who in found.items())


def row(deployment: Deployment) -> str:
    """Return a deployment in one short line: hardware, batching, router and tiers, then the services around it."""

    def rules(pool: Pool) -> str:
        rule = pool.batching
        limits = {
            "prefill": f"{rule.token_budget_tokens}",
            "decode": f"{rule.max_batch_requests}",
            "both": f"{rule.policy} {rule.token_budget_tokens}/{rule.max_batch_requests}",
        }
        return ", ".join([limits[pool.role], *extras(pool)])

    around = "".join(f" · {served(service)}" for service in deployment.services)
    batches = _by_stage(deployment, rules, lambda _: " → ")
    return f"{short(deployment)} · {batches} · {routed(deployment)}{around}"


def served(service: Service) -> str:
    """Return the clients of a service stage in a few characters, e.g. ``retrieve 2 × grace, 4 shards, batch 16``."""
    each = f"{service.devices} {service.device}" if service.devices > 1 else service.device
    shards = f", {plural(service.shards, 'shard')}" if service.shards else ""
    wait = f", wait {number(service.max_wait_ms)} ms" if service.max_wait_ms else ""
    return f"{service.stage} {service.clients} × {each}{shards}, batch {service.max_batch_requests}{wait}"


def heading(name: str) -> str:
    """Return a metric as the heading of a narrow column."""
    return _HEADINGS.get(name, label(name))


def batching(pool: Pool) -> str:
    """Return how a pool forms its batches, and what it does beyond that."""
    rule = pool.batching
    requests = f"≤ {rule.max_batch_requests:,} requests"
    tokens = f"≤ {rule.token_budget_tokens:,} {'tokens' if rule.policy == 'chunked' else 'prompt tokens'}"
    limits = {"prefill": tokens, "decode": requests, "both": f"{requests}, {tokens}"}
    return ", ".join([f"{rule.policy} {limits[pool.role]}", *extras(pool)])


def stages(pool: Pool) -> str:
    """Return what a pool serves."""
    return "prefill and decode" if pool.role == "both" else pool.role


def serves(deployment: Deployment, pool: Pool) -> str:
    """Return what a pool serves; if there are several LLM stages, of which one, with which model."""
    of = f" of {pool.stage} ({pool.model})" if several_stages(deployment) else ""
    return f"{stages(pool)}{of}"


def sentence(deployment: Deployment) -> str:
    """Return a deployment in a few sentences: what serves the LLM, and the services around it."""
    said = []
    for pool in deployment.pools:
        several = pool.accelerators_per_client
        parallel = ", ".join(f"{name} {degree}" for name, degree in degrees(pool).items())
        kind = accelerators_of(pool)
        each = f"{several} {kind} ({parallel})" if several > 1 else f"one {kind}"
        who = f"{plural(pool.clients, 'client')} of {each}{' each' if pool.clients > 1 else ''}"
        said.append(f"{serves(deployment, pool)} on {who}")
    llm = "of the LLMs" if several_stages(deployment) else "of the LLM"
    total = f"{plural(deployment.accelerators, 'accelerator')} {llm if deployment.services else 'in all'}"
    weights, kv = precision(deployment, "weights"), precision(deployment, "kv")
    text = f"{', '.join(said)}: {total}. Weights in {weights}, KV cache in {kv}. "
    text = text[0].upper() + text[1:]
    more = list(dict.fromkeys(extra for pool in deployment.pools for extra in extras(pool)))
    if deployment.tiers:
        more.append(f"KV tiers {', '.join(tier.name for tier in deployment.tiers)}")
    text += f"Requests go to clients by {spoken(deployment.router)}{''.join(f'; {extra}' for extra in more)}."
    return text + (f" Services: {'; '.join(map(served, deployment.services))}." if deployment.services else "")


def details(deployment: Deployment, searched: Container[str] = ()) -> str:
    """Return batching, routing and tiers of a deployment in a few words.

    Parameters
    ----------
    deployment
        Of a design.
    searched
        Service stages that designs of its study differ in; others are left out.
    """
    several = len(deployment.pools) > 1
    pools = [f"{pool.name} {batching(pool)}" if several else batching(pool) for pool in deployment.pools]
    around = [served(service) for service in deployment.services if service.stage in searched]
    return " · ".join([*pools, routed(deployment), f"KV {precision(deployment, 'kv')}", *around])


def lengths_words(lengths: Lengths) -> str:
    """Return in words how long requests are."""
    if lengths.statistics:
        return f"lengths of {lengths.statistics}"
    assert lengths.prompt
    assert lengths.output
    return f"{lengths.prompt.distribution} prompts and {lengths.output.distribution} outputs"


def workload_words(workload: Workload, requests: Requests) -> str:
    """Return the load in words, with what was really generated or read."""
    if workload.trace:
        source = f"of the trace {workload.trace.path}"
    else:
        assert workload.arrivals
        arrivals = workload.arrivals
        if arrivals.process == "statistics":
            comes = f"arriving in the bursts of {arrivals.statistics}"
        else:
            comes = f"with {arrivals.process} arrivals"
            comes += f" (CV {arrivals.burstiness_cv:g})" if arrivals.process == "gamma" else ""
        sizes = dict.fromkeys(lengths_words(each.lengths) for each in workload.resolved_classes if each.lengths)
        source = f"generated with seed {workload.seed}, {comes}, {' or '.join(sizes)}"
    if workload.classes:
        whole = sum(each.share for each in workload.classes)
        kinds = ", ".join(f"{percent(each.share / whole)} {each.name}" for each in workload.classes)
        source += f", in classes ({kinds})"
    prompt, output = float(requests.prompt_tokens.mean()), float(requests.output_tokens.mean())
    arriving = "requests" if requests.sessions is None else "sessions"
    count = f"{len(requests):,} requests"
    count += "" if requests.sessions is None else f" in {plural(requests.session_count, 'session')}"
    return (
        f"{count} {source}; {number(requests.rate_rps)} {arriving}/s over "
        f"{seconds(requests.duration_s)}; on average {prompt:,.0f} prompt and {output:,.0f} output tokens"
    )


def axis_title(name: str) -> str:
    """Return the title of a figure's axis."""
    name_and_unit = f"{label(name)} ({unit(name)})" if unit(name) else label(name)
    return f"{name_and_unit[0].upper()}{name_and_unit[1:]}, {better(name)}"


def open_designs(certificate: Certificate) -> str:
    """Say in a sentence what the open designs of a space could still add to the front."""
    if not certificate.open:
        return "none is open: the front is that of the whole space"
    if not math.isfinite(certificate.gap):
        return "what the open ones could add is not known: no design is feasible yet, or an objective has no bound"
    if certificate.gap > 1:
        return "the open ones could change the front altogether: go on with more trials, or --until certified=0.01"
    return f"the open ones could add at most {certificate.gap:.2%} of the front's hypervolume"
