"""A client's prefix cache: chunks of prompts whose KV is on the client, shared by the requests that need them.

Blocks of entries with references are in use; those of the others count as free until somebody takes them.
"""

from simulator.kernel._compile import compiled
from simulator.kernel.blocks import blocks_held
from simulator.kernel.caches import (
    add,
    append_newest,
    find,
    remove,
    store,
    store_through,
    unlink,
)
from simulator.kernel.layout import (
    CACHE_OLDEST,
    ENTRY_CHUNK,
    ENTRY_REFERENCES,
    KEEP,
    OFFLOAD,
    WRITE_BACK,
    WRITE_THROUGH,
)


@compiled
def hit_limit(world, request):
    """Return how many leading chunks may be spared: at least one token of the prompt is computed."""
    return min(request.prompt_chunks, (request.prompt_tokens - 1) // world.chunk_tokens)


@compiled
def leading_chunks(world, cache, request, scratch, first):
    """Return how many chunks of a request from ``first`` on a cache holds without a gap."""
    limit = hit_limit(world, request)
    i = first
    while i < limit and find(cache, scratch, scratch[request.chunk_first + i]) > 0:
        i += 1
    return i - first


@compiled
def look_up(world, client, request, scratch):
    """Note what the cache would spare a request if it were admitted now."""
    request.hits = request.idle_hits = request.covered = 0
    if request.prompt_chunks == 0:
        return
    if client.expected == 1:
        request.covered = hit_limit(world, request)
        return
    cache = client.cache
    request.hits = leading_chunks(world, cache, request, scratch, 0)
    for i in range(request.hits):
        if scratch[find(cache, scratch, scratch[request.chunk_first + i]) + ENTRY_REFERENCES] == 0:
            request.idle_hits += 1
    request.covered = request.hits
    if request.hits >= request.fetch_from:
        request.covered = max(request.hits, request.fetched)


@compiled
def take_entry(world, client, cache, scratch, entry):
    """Reference an entry; tell whether nobody did so far."""
    scratch[entry + ENTRY_REFERENCES] += 1
    if scratch[entry + ENTRY_REFERENCES] > 1:
        return False
    unlink(cache, scratch, entry)
    client.cached_blocks -= world.chunk_tokens // client.block_tokens
    return True


@compiled
def reference_hits(world, client, request, scratch):
    """Let a request that is admitted use what it hits."""
    cache = client.cache
    blocks = world.chunk_tokens // client.block_tokens
    for i in range(request.hits):
        if take_entry(world, client, cache, scratch, find(cache, scratch, scratch[request.chunk_first + i])):
            client.free_blocks -= blocks
    request.shared = request.hits
    spared = request.covered * world.chunk_tokens
    client.hit_tokens += spared
    client.fetched_tokens += spared - request.hits * world.chunk_tokens
    client.outstanding_tokens -= spared


@compiled
def share_chunks(world, client, request, scratch, last):
    """Make the chunks up to ``last`` that a request computed entries, or use those that others made meanwhile."""
    cache = client.cache
    blocks = world.chunk_tokens // client.block_tokens
    while request.shared < last:
        chunk = scratch[request.chunk_first + request.shared]
        entry = find(cache, scratch, chunk)
        if entry == 0:
            scratch[add(cache, scratch, chunk) + ENTRY_REFERENCES] = 1
            if client.write == WRITE_THROUGH:
                store_through(scratch, client.tier, chunk)
        elif not take_entry(world, client, cache, scratch, entry):
            client.free_blocks += blocks
        request.shared += 1


@compiled
def drop_references(world, client, request, scratch):
    """Let a request that leaves use its chunks no more, the last first."""
    cache = client.cache
    blocks = world.chunk_tokens // client.block_tokens
    while request.shared > 0:
        request.shared -= 1
        entry = find(cache, scratch, scratch[request.chunk_first + request.shared])
        scratch[entry + ENTRY_REFERENCES] -= 1
        if scratch[entry + ENTRY_REFERENCES] == 0:
            append_newest(cache, scratch, entry)
            client.cached_blocks += blocks
            client.free_blocks += blocks


@compiled
def forget_chunks(world, client, request, scratch, count):
    """Take the chunks of a finished request that nobody uses out of the cache, the last first."""
    cache = client.cache
    for i in range(count - 1, -1, -1):
        chunk = scratch[request.chunk_first + i]
        entry = find(cache, scratch, chunk)
        if entry > 0 and scratch[entry + ENTRY_REFERENCES] == 0:
            if request.keep == OFFLOAD:
                store(scratch, client.tier, chunk)
            unlink(cache, scratch, entry)
            remove(cache, scratch, entry)
            client.cached_blocks -= world.chunk_tokens // client.block_tokens


@compiled
def free_request(world, client, request, scratch, context):
    """Free all blocks of a request that leaves a client."""
    client.free_blocks += blocks_held(world, client, request, context)
    if client.draft > 0:
        request.blocks = 0
    if request.shared > 0:
        drop_references(world, client, request, scratch)


@compiled
def free_finished(world, client, request, scratch, context):
    """Free all blocks of a finished request; the chunks of its answer become entries first."""
    if client.cache < 0 or request.all_chunks == 0:
        free_request(world, client, request, scratch, context)
        return
    count = max(request.shared, min(request.all_chunks, context // world.chunk_tokens))
    share_chunks(world, client, request, scratch, count)
    free_request(world, client, request, scratch, context)
    if request.keep != KEEP:
        forget_chunks(world, client, request, scratch, count)


@compiled
def make_room(world, client, scratch, needed):
    """Let entries without reference leave, the least recently used first, if their blocks are taken."""
    if client.cached_blocks <= client.free_blocks - needed:
        return
    cache = client.cache
    left = max(0, client.free_blocks - needed - client.eviction_blocks)
    while client.cached_blocks > left:
        oldest = scratch[cache + CACHE_OLDEST]
        chunk = scratch[oldest + ENTRY_CHUNK]
        unlink(cache, scratch, oldest)
        remove(cache, scratch, oldest)
        client.cached_blocks -= world.chunk_tokens // client.block_tokens
        if client.write == WRITE_BACK:
            store(scratch, client.tier, chunk)
