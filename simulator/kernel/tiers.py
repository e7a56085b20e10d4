"""Prefixes that are fetched from tiers behind a client's cache, if that is quicker than computing them again."""

from simulator.kernel._compile import compiled
from simulator.kernel.caches import find, store, touch
from simulator.kernel.cost import linear_ps, prefill_attention_ps
from simulator.kernel.heaps import push_hop
from simulator.kernel.layout import (
    CACHE_BEHIND,
    CACHE_CHUNK_PS,
    CACHE_HIT_CHUNKS,
    CACHE_LATENCY_PS,
    CACHE_LINK,
    COEFFICIENT_SHIFT,
    FETCHING,
)
from simulator.kernel.links import start_transfer
from simulator.kernel.prefix import hit_limit, leading_chunks


@compiled
def recompute_ps(world, client, scratch, fetched, count):
    """Return the time of the prefill that chunks spare."""
    tokens = count * world.chunk_tokens
    return linear_ps(scratch, client.linear, tokens) + prefill_attention_ps(
        client, tokens, fetched * world.chunk_tokens
    )


@compiled
def expect(world, client, requests, scratch, r, now):
    """Let a request wait for as long as its prefix takes on average; tell whether it has one."""
    request = requests[r]
    count = hit_limit(world, request)
    if count == 0:
        return False
    scaled = count * client.expected_chunk + client.expected_miss * recompute_ps(world, client, scratch, 0, count)
    request.state = FETCHING
    request.tier = -1
    request.hop_ps = now + max(1, client.expected_latency_ps + (scaled >> COEFFICIENT_SHIFT))
    push_hop(world, requests, scratch, r)
    return True


@compiled
def is_fetch_quicker(world, client, link, tier, scratch, fetched, count):
    """Tell whether a transfer takes less time than the prefill it spares, as the link is used now."""
    if client.always_fetch == 1:
        return True
    alone_ps = count * scratch[tier + CACHE_CHUNK_PS]
    return scratch[tier + CACHE_LATENCY_PS] + alone_ps * (link.running + 1) < recompute_ps(
        world, client, scratch, fetched, count
    )


@compiled
def fetch_next(world, clients, requests, scratch, c, r, now):
    """Start the next transfer of a request's prefix; tell whether there is one."""
    request, client = requests[r], clients[c]
    while request.tier >= 0:
        tier = request.tier
        link = clients[scratch[tier + CACHE_LINK]]
        count = leading_chunks(world, tier, request, scratch, request.fetched)
        if count > 0 and is_fetch_quicker(world, client, link, tier, scratch, request.fetched, count):
            for i in range(request.fetched, request.fetched + count):
                touch(tier, scratch, find(tier, scratch, scratch[request.chunk_first + i]))
            scratch[tier + CACHE_HIT_CHUNKS] += count
            request.chunk = count
            request.state = FETCHING
            work_ps = count * scratch[tier + CACHE_CHUNK_PS]
            start_transfer(world, clients, requests, scratch, scratch[tier + CACHE_LINK], r, work_ps, now)
            return True
        request.tier = scratch[tier + CACHE_BEHIND]
    return False


@compiled
def begin_fetch(world, clients, requests, scratch, c, r, now):
    """Look for a request's prefix in the tiers of its client; tell whether something is fetched."""
    request, client = requests[r], clients[c]
    if client.expected == 1:
        return expect(world, client, requests, scratch, r, now)
    if client.tier < 0 or request.prompt_chunks == 0:
        return False
    request.fetch_from = leading_chunks(world, client.cache, request, scratch, 0)
    request.fetched = request.fetch_from
    request.tier = client.tier
    return fetch_next(world, clients, requests, scratch, c, r, now)


@compiled
def promote(client, request, scratch):
    """Store the chunks that were fetched in all nearer tiers, farthest first."""
    farther = request.tier
    while farther != client.tier:
        nearer = client.tier
        while scratch[nearer + CACHE_BEHIND] != farther:
            nearer = scratch[nearer + CACHE_BEHIND]
        for i in range(request.fetched, request.fetched + request.chunk):
            store(scratch, nearer, scratch[request.chunk_first + i])
        farther = nearer


@compiled
def end_fetch(world, clients, requests, scratch, r, now):
    """Take in what was fetched; tell whether more of the prefix is on its way now."""
    request = requests[r]
    if request.tier < 0:
        return False
    promote(clients[request.client], request, scratch)
    request.fetched += request.chunk
    request.tier = scratch[request.tier + CACHE_BEHIND]
    return fetch_next(world, clients, requests, scratch, request.client, r, now)
