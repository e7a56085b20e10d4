"""Small random scenarios: few distinct times, so that events coincide, and few blocks, so that they run out.

One strategy for each theme, and `everything` for all of them at once. What occurs how often can be counted by
``python -m tests.oracle.census``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

from hypothesis import strategies as st

from .engine import (
    LINEAR_KNOTS,
    OracleClientSpec,
    OracleProfile,
    OracleRequest,
    OracleResult,
    OracleStage,
    OracleTier,
    simulate,
)
from .order import ORDERS

ROUTERS = (
    "round_robin",
    "join_shortest_queue",
    "least_outstanding_tokens",
    "least_prompt_tokens",
    "least_output_tokens",
    "least_kv_tokens",
    "random",
    "power_of_two",
    "session_affinity",
    "prefix_affinity",
)
QUANTITIES = ("none", "query", "prompt", "output", "media")
ROLES = (
    ("both",),
    ("both", "both", "both"),
    ("prefill", "decode"),
    ("decode", "prefill", "both", "decode", "prefill"),
    ("decode", "decode", "prefill"),
    ("prefill", "prefill", "decode", "decode"),
)
NO_LIMIT = 2**31 - 1
# Of noise: between half and one and a half, from nothing to far more, and such that every product has a remainder.
FACTORS = (
    tuple(2**19 + i * 2**10 for i in range(1024)),
    tuple(i * i * 7 for i in range(1024)),
    tuple(2**20 - 1 + i % 3 for i in range(1024)),
)
MOST_REQUESTS = 30

T = TypeVar("T")


@dataclass(frozen=True)
class Scenario:
    """All that a simulation needs."""

    clients: tuple[OracleClientSpec, ...]
    requests: tuple[OracleRequest, ...]
    stages: tuple[OracleStage, ...]
    ways: tuple[tuple[int, ...], ...]
    tiers: tuple[OracleTier, ...] = ()
    links: int = 0
    chunk_tokens: int = 1
    seed: int = 0

    def simulate(self) -> OracleResult:
        return simulate(
            self.clients,
            self.requests,
            self.stages,
            self.ways,
            tiers=self.tiers,
            links=self.links,
            chunk_tokens=self.chunk_tokens,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Theme:
    """What scenarios of a theme may hold."""

    pipelines: bool = False
    sessions: bool = False
    caches: bool = False
    engines: bool = False  # what clients of an LLM stage may have beyond a role, a policy and their limits


@dataclass(frozen=True)
class Scale:
    """What is the same for all parts of a scenario, so that they fit together."""

    theme: Theme
    longest: int  # prompt or output
    quantum: int  # of times
    chunk_tokens: int
    links: int
    tiers: tuple[OracleTier, ...]
    behind: tuple[int, ...]  # of each tier; -1: none
    nearest: tuple[int, ...]  # tiers with which chains begin, the more often the more likely; -1: no chain

    def chain(self, tier: int) -> tuple[int, ...]:
        """The tiers from this one on."""
        return () if tier == -1 else (tier, *self.chain(self.behind[tier]))


# -- drawing


def chance(draw: st.DrawFn, percent: int) -> bool:
    """Shrinks to False."""
    return draw(st.integers(0, 99)) >= 100 - percent


def one_of(draw: st.DrawFn, *values: T) -> T:
    """Shrinks to the first."""
    return draw(st.sampled_from(values))


def between(draw: st.DrawFn, least: int, most: int) -> int:
    return draw(st.integers(least, most))


# -- clients


@cache
def table(base: int, slope: int, knots: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(base + slope * knot for knot in knots)


@st.composite
def profiles(draw: st.DrawFn) -> OracleProfile:
    windows = chance(draw, 30)
    return OracleProfile(
        linear=table(between(draw, 1, 60), between(draw, 0, 12), LINEAR_KNOTS),
        sequences=table(0, between(draw, 0, 7), tuple(range(1025))),
        attention_ps=between(draw, 0, 3),
        pair=one_of(draw, 0, 700, 2500),
        read=one_of(draw, 0, 1024, 9000),
        window_ps=between(draw, 1, 3) if windows else 0,
        window_pair=one_of(draw, 0, 700, 2500) if windows else 0,
        decode_ps=one_of(draw, 0, 0, 9),
        decode_sequence_ps=one_of(draw, 0, 0, 2),
    )


@st.composite
def service_clients(draw: st.DrawFn, stage: int) -> list[OracleClientSpec]:
    """The clients of a stage of services."""
    return [
        OracleClientSpec(
            role="service",
            policy="static",
            max_batch=between(draw, 1, 5),
            token_budget=1,
            block_tokens=1,
            total_blocks=0,
            watermark_blocks=0,
            profile=draw(profiles()),
            link_latency_ps=one_of(draw, 1, 7, 100),
            link_ps_per_token=0,
            stage=stage,
            max_wait_ps=one_of(draw, 0, 1, 30, 400),
            quantity=one_of(draw, *QUANTITIES),
        )
        for _ in range(between(draw, 1, 3))
    ]


@st.composite
def llm_clients(draw: st.DrawFn, stage: int, scale: Scale) -> list[OracleClientSpec]:
    """The clients of an LLM stage."""
    roles = one_of(draw, *ROLES, *([("both", "both")] * 3 if scale.theme.caches else []))
    order = one_of(draw, *ORDERS) if scale.theme.engines else "fcfs"
    return [draw(llm_client(role, stage, order, scale)) for role in roles]


@st.composite
def llm_client(draw: st.DrawFn, role: str, stage: int, order: str, scale: Scale) -> OracleClientSpec:
    block_tokens = draw(st.sampled_from([b for b in range(1, 6) if not scale.theme.caches or divides(b, scale)]))
    # Enough for most requests, but not for many of them.
    enough = -(-2 * scale.longest // block_tokens)
    spec = OracleClientSpec(
        role=role,
        policy=one_of(draw, "continuous", "chunked", "continuous", "chunked", "static"),
        max_batch=between(draw, 1, 7),
        token_budget=between(draw, 1, 24),
        block_tokens=block_tokens,
        total_blocks=max(2, enough + between(draw, -2, 4)),
        watermark_blocks=one_of(draw, 0, 0, 1, 3),
        profile=draw(profiles()),
        link_latency_ps=one_of(draw, 1, 2, 40),
        link_ps_per_token=between(draw, 0, 4),
        stage=stage,
        order=order,
    )
    if spec.policy != "static" and chance(draw, 35):
        spec = replace(spec, schedules_ahead=True)
    if chance(draw, 12):
        spec = replace(spec, factors=one_of(draw, *FACTORS))
    if scale.links > 0 and role == "prefill":
        spec = replace(spec, egress=between(draw, -1, scale.links - 1))
    if scale.theme.engines:
        spec = draw(engines(spec, scale))
    if scale.theme.caches and role != "decode" and spec.policy != "static" and spec.draft == 0:
        spec = draw(caches(spec, scale))
    return spec


def divides(block_tokens: int, scale: Scale) -> bool:
    return scale.chunk_tokens % block_tokens == 0


@st.composite
def engines(draw: st.DrawFn, spec: OracleClientSpec, scale: Scale) -> OracleClientSpec:
    """A client with some of what clients may have."""
    if chance(draw, 50):
        spec = replace(spec, group=between(draw, 0, 1))
    if chance(draw, 20):
        middle = scale.longest // 2 + 1
        least, most = one_of(draw, (1, middle), (2, NO_LIMIT), (middle, NO_LIMIT))
        spec = replace(spec, min_prompt=least, max_prompt=most)
    if spec.role == "prefill" and chance(draw, 50):
        spec = replace(spec, link_layers=between(draw, 1, 4))
    if chance(draw, 50):
        spec = replace(spec, swap_ps=between(draw, 1, 5), swap_free=one_of(draw, 2 * scale.longest, 200, 12, 200))
    if chance(draw, 40):
        spec = replace(
            spec,
            max_adapters=between(draw, 1, 2),
            adapter_ps=one_of(draw, 0, 3),
            adapter_load_ps=one_of(draw, 0, 25),
        )
    extra = one_of(draw, "none", "draft", "fixed")
    if extra == "draft" and spec.policy != "static":
        draft = between(draw, 1, 4)
        thresholds = draw(st.lists(st.integers(0, 2**32), min_size=draft, max_size=draft))
        spec = replace(spec, draft=draft, thresholds=tuple(sorted(thresholds)), state_blocks=one_of(draw, 0, 0, 2))
    elif extra == "fixed":
        spec = replace(
            spec,
            state_blocks=one_of(draw, 0, 1, 3),
            window_tokens=one_of(draw, 0, 4, 12),
            window_share=one_of(draw, 0, 300, 1024),
        )
        spec = replace(spec, total_blocks=spec.total_blocks + spec.state_blocks + one_of(draw, 0, 2, 5))
    return spec


@st.composite
def caches(draw: st.DrawFn, spec: OracleClientSpec, scale: Scale) -> OracleClientSpec:
    """A client with a prefix cache, in most cases."""
    if chance(draw, 10):
        return spec
    if chance(draw, 15):
        expected = (one_of(draw, 0, 1, 300), one_of(draw, 0, 700, 40_000), one_of(draw, 0, 512, 1024))
        return replace(spec, expected=expected)
    return replace(
        spec,
        cached=True,
        total_blocks=spec.total_blocks + between(draw, 0, 6),
        eviction_blocks=one_of(draw, 0, 2, 5, 30),
        tiers=scale.chain(one_of(draw, *scale.nearest)),
        always_fetch=chance(draw, 60),
        write=one_of(draw, "through", "back", "through", "through", "back", "none"),
    )


# -- stages and ways


@st.composite
def llm_stages(draw: st.DrawFn, scale: Scale) -> OracleStage:
    favourites = ["session_affinity"] * 3 if scale.theme.sessions else []
    return OracleStage(
        "llm",
        router=one_of(draw, *ROUTERS, *favourites),
        handover_router=one_of(draw, *ROUTERS),
        local_handover=scale.theme.engines and draw(st.booleans()),
        lend_prefill_tokens=one_of(draw, -1, 0, 3, 20) if scale.theme.engines else -1,
        lend_decode_tokens=one_of(draw, -1, 0, 3, 20) if scale.theme.engines else -1,
        affinity=one_of(draw, 0, 1, 3),
    )


@st.composite
def stages_and_ways(draw: st.DrawFn, scale: Scale) -> tuple[list[OracleStage], list[tuple[int, ...]]]:
    """One LLM stage, or in pipelines some of them and services, in any order."""
    if not scale.theme.pipelines:
        return [draw(llm_stages(scale))], [(0,)]
    kinds = draw(st.permutations(["llm"] * one_of(draw, 1, 1, 2) + ["service"] * between(draw, 1, 3)))
    stages = [draw(llm_stages(scale)) if kind == "llm" else OracleStage(kind, one_of(draw, *ROUTERS)) for kind in kinds]
    llms = [i for i, kind in enumerate(kinds) if kind == "llm"]
    services = st.lists(st.sampled_from([i for i, kind in enumerate(kinds) if kind == "service"]), max_size=2)
    ways = []
    for llm in [*llms, *draw(st.lists(st.sampled_from([*llms, -1]), max_size=2))]:
        way = [*draw(services), *([llm] if llm != -1 else []), *draw(services)]
        ways.append(tuple(way) or (llms[0],))
    return stages, ways


# -- links and tiers


@st.composite
def scales(draw: st.DrawFn, theme: Theme) -> Scale:
    longest = one_of(draw, 20, 8, 40)
    behind: list[int] = []
    tiers: list[OracleTier] = []
    links = between(draw, 0, 2) if theme.engines else 0
    if theme.caches:
        links = between(draw, 1, 2)
        count = one_of(draw, 2, 1, 3, 2, 3, 0)
        for i in range(count):
            behind.append(draw(st.sampled_from([*range(i + 1, count), *range(i + 1, count), -1])))
            tiers.append(
                OracleTier(
                    capacity=one_of(draw, 4, 2, 8, 20, 1, 20, 0),
                    link=between(draw, 0, links - 1),
                    latency_ps=one_of(draw, 0, 1, 20),
                    chunk_ps=one_of(draw, 1, 0, 10, 50, 200),
                    spills=draw(st.booleans()),
                )
            )
    return Scale(
        theme,
        longest,
        # Who comes when others are done finds more in a cache.
        quantum=one_of(draw, 100, 1000, 10, 300) if theme.caches else one_of(draw, 10, 1, 100),
        chunk_tokens=one_of(draw, 2, 3, 4, 6) if theme.caches else 1,
        links=links,
        tiers=tuple(tiers),
        behind=tuple(behind),
        nearest=(*[0] * (3 * bool(tiers)), *range(len(tiers)), -1),
    )


# -- requests


@st.composite
def plain_requests(draw: st.DrawFn, ways: int, scale: Scale) -> list[OracleRequest]:
    """Requests that do not follow each other."""
    count = one_of(draw, 12, 20, MOST_REQUESTS, 20, MOST_REQUESTS, 5, 1)
    gap = st.sampled_from([0, 0, 0, 1, 2, 12])
    length = st.integers(1, scale.longest)
    drawn = draw(st.lists(st.tuples(gap, length, length), min_size=count, max_size=count))
    arrival_ps = 0
    requests = []
    for gap_ps, prompt, output in drawn:
        arrival_ps += gap_ps * scale.quantum
        requests.append(OracleRequest(arrival_ps, prompt, output, way=between(draw, 0, ways - 1) if ways > 1 else 0))
    if scale.theme.engines:
        requests = [
            replace(
                request,
                priority=between(draw, 0, 2),
                deadline_ps=request.arrival_ps + between(draw, 0, 3) * scale.quantum,
                adapter=between(draw, 0, 3),
            )
            for request in requests
        ]
    if scale.theme.pipelines:
        requests = [
            replace(request, query_tokens=between(draw, 0, request.prompt_tokens), media_tokens=between(draw, 0, 9))
            for request in requests
        ]
    return requests


@st.composite
def sessions(draw: st.DrawFn, requests: Sequence[OracleRequest], quantum: int) -> list[OracleRequest]:
    """The same requests as chains, forks and joins, each of which begins with one that needs no other."""
    result: list[OracleRequest] = []
    while len(result) < len(requests):
        left = len(requests) - len(result)
        shape = one_of(draw, "chain", "fork", "join", "single")
        width = min(left - 1, between(draw, 2, 4))
        if width < 1 or shape == "single":
            links = [(0, 0)]
        elif shape == "chain":
            links = [(1, 1)] * width + [(0, 0)]
        elif shape == "fork" or width + 2 > left:
            links = [(1, width)] + [(0, 0)] * width
        else:
            links = [(1, width), *((width - i, 1) for i in range(width)), (0, 0)]
        needs = [0] + [1] * (len(links) - 1)
        if shape == "join" and width + 2 == len(links):
            needs[-1] = one_of(draw, 1, width // 2 + 1, width)
        for (ahead, followers), need in zip(links, needs, strict=True):
            index = len(result)
            result.append(follow(draw, requests[index], index, ahead, followers, need, quantum))
    return result


@st.composite
def tangles(draw: st.DrawFn, requests: Sequence[OracleRequest], quantum: int) -> list[OracleRequest]:
    """The same requests, any of which may lead to any others: some never arrive."""
    last = len(requests) - 1
    result = []
    for index, request in enumerate(requests):
        first = between(draw, 0, last)
        followers = min(between(draw, 0, 3), last + 1 - first)
        needs = one_of(draw, 0, 1, 2, 1)
        result.append(follow(draw, request, index, first - index, followers, needs, quantum))
    return result


def follow(
    draw: st.DrawFn, request: OracleRequest, index: int, ahead: int, followers: int, needs: int, quantum: int
) -> OracleRequest:
    """A request that needs others, and whose followers begin so many requests ahead of it."""
    return replace(
        request,
        # Without a meaning, unless it needs none.
        deadline_ps=request.deadline_ps - (request.arrival_ps if needs > 0 and request.deadline_ps > 0 else 0),
        needs=needs,
        wait_ps=one_of(draw, 0, 1, 10) * quantum if needs > 0 else 0,
        first_follower=index + ahead if followers > 0 else 0,
        followers=followers,
    )


@st.composite
def texts(draw: st.DrawFn, requests: Sequence[OracleRequest], chunk_tokens: int) -> list[OracleRequest]:
    """The same requests with ids of chunks: paths in a tree, in which one that follows another often goes on.

    The id of a chunk is determined by that of the chunk before it and a symbol, so equal ids have equal prefixes.
    """
    ids: dict[tuple[int, int], int] = {}
    before: dict[int, tuple[int, ...]] = {}  # the symbols of a request that leads to this one
    result = []
    for index, request in enumerate(requests):
        most = (request.prompt_tokens + request.output_tokens) // chunk_tokens
        path = list(before.get(index, ()) if chance(draw, 70) else ())
        if not path and chance(draw, 50):
            # A prompt that many share, and an answer of its own.
            path = [0] * (request.prompt_tokens // chunk_tokens)
        more = draw(st.lists(st.sampled_from([0, 0, 0, 0, 1]), min_size=most, max_size=most))
        path = [*path, *more][: one_of(draw, most, most, most, most // 2)]
        for follower in range(request.first_follower, request.first_follower + request.followers):
            before.setdefault(follower, tuple(path))
        chunk_ids: list[int] = []
        for symbol in path:
            parent = chunk_ids[-1] if chunk_ids else -1
            chunk_ids.append(ids.setdefault((parent, symbol), len(ids)))
        prompt_chunks = min(len(chunk_ids), request.prompt_tokens // chunk_tokens)
        if chance(draw, 10):
            prompt_chunks = between(draw, 0, prompt_chunks)
        keep = one_of(draw, "keep", "keep", "keep", "drop", "offload")
        result.append(replace(request, chunk_ids=tuple(chunk_ids), prompt_chunks=prompt_chunks, keep=keep))
    return result


# -- scenarios


@st.composite
def scenarios(draw: st.DrawFn, theme: Theme) -> Scenario:
    scale = draw(scales(theme))
    stages, ways = draw(stages_and_ways(scale))
    clients = [
        draw(llm_clients(i, scale) if stage.kind == "llm" else service_clients(i)) for i, stage in enumerate(stages)
    ]
    in_any_order = draw(st.permutations(clients)) if theme.pipelines else clients
    requests = draw(plain_requests(len(ways), scale))
    if theme.sessions or (theme.caches and draw(st.booleans())):
        tangled = theme.sessions and chance(draw, 15)
        requests = draw((tangles if tangled else sessions)(requests, scale.quantum))
    if theme.caches:
        requests = draw(texts(requests, scale.chunk_tokens))
    return Scenario(
        clients=tuple(spec for specs in in_any_order for spec in specs),
        requests=tuple(requests),
        stages=tuple(stages),
        ways=tuple(ways),
        tiers=scale.tiers,
        links=scale.links,
        chunk_tokens=scale.chunk_tokens,
        seed=between(draw, 0, 2**32 - 1),
    )


def llm_scenarios() -> st.SearchStrategy[Scenario]:
    """One LLM stage, whose clients have what clients may have but for a cache."""
    return scenarios(Theme(engines=True))


def pipeline_scenarios() -> st.SearchStrategy[Scenario]:
    """Services before and after one of several LLM stages, several ways, some of them without an LLM."""
    return scenarios(Theme(pipelines=True))


def session_scenarios() -> st.SearchStrategy[Scenario]:
    """Chains, forks and joins, and tangles of them, on simple clients, with services or without."""
    return st.booleans().flatmap(lambda pipelines: scenarios(Theme(sessions=True, pipelines=pipelines)))


def cache_scenarios() -> st.SearchStrategy[Scenario]:
    """Prefix caches and tiers behind them, for requests that share prompts and sessions of several turns."""
    return scenarios(Theme(caches=True))


def everything() -> st.SearchStrategy[Scenario]:
    """All themes at once."""
    return scenarios(Theme(pipelines=True, sessions=True, caches=True, engines=True))
