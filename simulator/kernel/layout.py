"""The kernel's memory: records of requests, of clients and of the world, and one flat int64 array.

A row of a record array crosses a compiled call as one pointer; that is what makes the kernel fast. A whole array
crosses as seven words, so there are only three. Everything else (cost tables, heaps, counters, histograms, stages,
ways, caches) lies in the array ``scratch`` at an offset that a record holds. Meanings are those of
``docs/semantics.md``.
"""

from __future__ import annotations

import numpy as np

NEVER = np.iinfo(np.int64).max
"""Event time of an idle client."""

HORIZON_PS = 100 * 86_400 * 10**12
"""Simulated time after which a run is given up: int64 picoseconds end at 106 days."""

# Bounds of a fast-forwarded run, so that its end cannot overflow; a longer one is cut, with the same result.
LONGEST_RUN = 1 << 16
LONGEST_STEP_PS = 1 << 40

# Roles, policies, queue orders and routers, as a client's or a stage's record holds them. A link is a client, too.
ROLE_BOTH, ROLE_PREFILL, ROLE_DECODE, ROLE_SERVICE, ROLE_LINK = 0, 1, 2, 3, 4
POLICY_STATIC, POLICY_CONTINUOUS, POLICY_CHUNKED = 0, 1, 2
ORDER_FCFS, ORDER_SHORTEST_FIRST, ORDER_LEAST_WORK_LEFT, ORDER_PRIORITY, ORDER_EARLIEST_DEADLINE = 0, 1, 2, 3, 4
(
    ROUTER_ROUND_ROBIN,
    ROUTER_JOIN_SHORTEST_QUEUE,
    ROUTER_LEAST_OUTSTANDING_TOKENS,
    ROUTER_LEAST_PROMPT_TOKENS,
    ROUTER_LEAST_OUTPUT_TOKENS,
    ROUTER_LEAST_KV_TOKENS,
    ROUTER_RANDOM,
    ROUTER_POWER_OF_TWO,
    ROUTER_SESSION_AFFINITY,
    ROUTER_PREFIX_AFFINITY,
) = range(10)

# For what a client is sought: a prefill, the decode after a hand-over, or a prefill that decode clients may take, too.
FOR_PREFILL, FOR_DECODE, FOR_LENT_PREFILL = 0, 1, 2

# Which length of a request the work of a service depends on.
QUANTITY_NONE, QUANTITY_QUERY, QUANTITY_PROMPT, QUANTITY_OUTPUT, QUANTITY_MEDIA = 0, 1, 2, 3, 4

# When chunks are written from a client's prefix cache to its tiers; what becomes of a request's chunks at its end.
WRITE_NONE, WRITE_THROUGH, WRITE_BACK = 0, 1, 2
KEEP, DROP, OFFLOAD = 0, 1, 2

# States of a request; READY, SWAPPED: waiting with its KV present; HANDED_OVER: its KV on the way to a decode client;
# FETCHING: its prefix on the way from a tier; HOPPING: between stages; FOLLOWING: about to arrive after others.
(
    UNSEEN,
    WAITING,
    READY,
    SWAPPED,
    PREFILLING,
    DECODING,
    HANDED_OVER,
    FETCHING,
    HOPPING,
    FOLLOWING,
    DONE,
    REJECTED,
) = range(12)

# Why the head of a waiting queue was left there.
BLOCKED_NOT, BLOCKED_KV, BLOCKED_BATCH, BLOCKED_BUDGET = 0, 1, 2, 3

# Cost tables over the tokens of a step: three segments of knots, (first token, log2 of the distance).
EXACT_TOKENS = 1024
MIDDLE_TOKENS, MIDDLE_SHIFT = 8192, 5
LAST_TOKENS, LAST_SHIFT = 131072, 9
MIDDLE_KNOT = EXACT_TOKENS
LAST_KNOT = MIDDLE_KNOT + ((MIDDLE_TOKENS - EXACT_TOKENS) >> MIDDLE_SHIFT)
LINEAR_KNOTS = LAST_KNOT + ((LAST_TOKENS - MIDDLE_TOKENS) >> LAST_SHIFT) + 1
SEQUENCE_KNOTS = 1025
COEFFICIENT_SHIFT = 10

# Histogram of inter-token latencies: 7 bits after the leading one.
ITL_BITS = 7
ITL_BINS = (64 - ITL_BITS) << ITL_BITS

# Factors by which the noise of a client's steps lengthens them: as many as ten random bits tell apart, in fixed point.
NOISE_BITS = 10
NOISE_SHIFT = 20

# Numbers of a visit in scratch: when a request reached a stage, was first served there, and left.
REACHED, STARTED, LEFT = 0, 1, 2
VISIT_FIELDS = 3

# Numbers of a cache's entry, and of an adapter's place, in scratch.
ENTRY_CHUNK, ENTRY_OLDER, ENTRY_NEWER, ENTRY_REFERENCES = 0, 1, 2, 3
ENTRY_FIELDS = 4
PLACE_ADAPTER, PLACE_USERS, PLACE_LAST = 0, 1, 2
PLACE_FIELDS = 3

# Numbers of an entry of the log in scratch: see :mod:`simulator.kernel.log`. Blocks in use are those at the start.
(
    LOG_CLIENT,
    LOG_START_PS,
    LOG_END_PS,
    LOG_STEPS,
    LOG_PREFILL_TOKENS,
    LOG_DECODES,
    LOG_RUNNING,
    LOG_BLOCKS,
) = range(8)
LOG_FIELDS = 8

# What every request needs stands in the first two cache lines; the record fills four.
REQUEST = np.dtype(
    [
        ("arrival_ps", "i8"),
        ("scheduled_ps", "i8"),
        ("first_token_ps", "i8"),
        ("finish_ps", "i8"),
        ("last_token_ps", "i8"),  # when it last joined a client's decodes, or was preempted
        ("done_ps", "i8"),
        ("joined_iteration", "i8"),  # of the client's decode iterations
        ("prompt_tokens", "i4"),
        ("output_tokens", "i4"),
        ("generated", "i4"),  # stale while decoding without speculation: finish iteration says how many are left
        ("prefilled", "i4"),
        ("chunk", "i4"),  # prompt tokens in the step under way; prefix chunks on their way from a tier
        ("state", "i4"),
        ("stage", "i4"),
        ("client", "i4"),
        ("prefill_client", "i4"),
        ("next", "i4"),  # in the waiting queue or the running list; left child in an ordered queue
        ("previous", "i4"),  # right child in an ordered queue
        ("heap_slot", "i4"),
        ("way", "i4"),  # offset in scratch of the stage it is at
        ("visit", "i4"),  # offset in scratch of its record of that stage, -1 if none is kept
        ("followers", "i4"),
        ("adapter", "i4"),
        ("shared", "i4"),  # leading chunks that it references in the client's cache
        ("llm_stage", "i4"),  # of its way, -1 if there is none
        ("rank", "i8"),  # in an ordered queue, or among the transfers of a link
        ("hop_ps", "i8"),  # when it reaches its decode client, next stage, ...
        ("joined_ps", "i8"),  # when it joined the queue of a service, or of a client that had decided its next batch
        ("service_ps", "i8"),
        ("wait_ps", "i8"),
        ("deadline_ps", "i8"),
        ("query_tokens", "i4"),
        ("media_tokens", "i4"),
        ("number", "i4"),  # in the workload, for draws
        ("priority", "i4"),
        ("preemptions", "i4"),
        ("needs", "i4"),
        ("first_follower", "i4"),
        ("former", "i4"),
        # Prefix cache, tiers, speculation.
        ("chunk_first", "i4"),  # offset in scratch
        ("prompt_chunks", "i4"),
        ("all_chunks", "i4"),
        ("keep", "i4"),
        ("hits", "i4"),  # leading chunks that the cache held when it was last looked at for admission
        ("idle_hits", "i4"),  # of these, without reference
        ("covered", "i4"),  # leading chunks that it need not compute
        ("fetch_from", "i4"),
        ("fetched", "i4"),
        ("tier", "i4"),  # in which it looks next, or from which it fetches, offset in scratch
        ("blocks", "i4"),  # held, with speculation
    ],
    align=True,
)

CLIENT = np.dtype(
    [
        # What routers look at, in one cache line.
        ("role", "i4"),
        ("stage", "i4"),
        ("group", "i4"),
        ("min_prompt", "i4"),
        ("max_prompt", "i4"),
        ("outstanding", "i4"),
        ("capacity_tokens", "i8"),  # that one request may have here, if no window sees to it
        ("window_share", "i8"),
        ("outstanding_tokens", "i8"),  # at the start of the run under way
        ("run_steps", "i8"),  # iterations in the run under way, 0 when idle
        ("step_decodes", "i4"),
        ("total_blocks", "i8"),
        # What it is.
        ("policy", "i4"),
        ("quantity", "i4"),
        ("order", "i4"),
        ("max_batch", "i4"),
        ("token_budget", "i4"),
        ("block_tokens", "i4"),
        ("watermark_blocks", "i4"),
        ("attention_ps", "i8"),
        ("prefill_pair", "i8"),
        ("prefill_read", "i8"),
        ("window_tokens", "i8"),
        ("window_ps", "i8"),
        ("window_pair", "i8"),
        ("decode_ps", "i8"),
        ("decode_sequence_ps", "i8"),
        ("state_blocks", "i8"),
        ("max_wait_ps", "i8"),
        ("link_latency_ps", "i8"),
        ("link_ps_per_token", "i8"),
        ("link_layers", "i4"),
        ("egress", "i4"),  # the link its hand-overs take, -1 if none
        ("swap_ps", "i8"),
        ("swap_free", "i8"),  # tokens
        ("draft", "i4"),
        ("ahead", "i4"),  # whether it decides a batch while the step before it runs
        ("noise", "i8"),  # offset in scratch of the factors of its steps' durations, -1 if none
        ("max_adapters", "i4"),
        ("adapter_ps", "i8"),
        ("adapter_load_ps", "i8"),
        ("reuses", "i4"),  # whether it spares prompts, by a cache or as expected
        ("cache", "i8"),  # offset in scratch, -1 if none
        ("tier", "i8"),  # the nearest, offset in scratch, -1 if none
        ("write", "i4"),
        ("always_fetch", "i4"),
        ("eviction_blocks", "i8"),
        ("expected", "i4"),  # whether what is found in tiers is expected, not simulated
        ("expected_latency_ps", "i8"),
        ("expected_chunk", "i8"),
        ("expected_miss", "i8"),
        ("decode_hint", "i4"),  # the decode client with most room that it may hand over to
        ("linear", "i8"),  # offset in scratch
        ("sequences", "i8"),  # offset in scratch
        ("thresholds", "i8"),  # offset in scratch, of ``draft`` numbers
        ("finish_heap", "i8"),  # offset in scratch
        ("phases", "i8"),  # offset in scratch
        ("step_histogram", "i8"),  # offset in scratch
        ("adapters", "i8"),  # offset in scratch
        # What it does now.
        ("event_ps", "i8"),
        ("step_start_ps", "i8"),
        ("step_ps", "i8"),  # duration of the first iteration of the run under way
        ("step_growth_ps", "i8"),  # by which each later iteration is longer than the one before
        ("extra_ps", "i8"),  # what swaps and loads add to the next step
        ("iterations", "i8"),  # decode iterations done
        ("last_iteration_ps", "i8"),
        ("context_tokens", "i8"),  # summed over decoding requests
        ("window_context", "i8"),  # the same, as far as a window sees
        ("outstanding_prompt", "i8"),
        ("outstanding_output", "i8"),
        ("free_blocks", "i8"),  # at the start of the run under way
        ("cached_blocks", "i8"),  # of them, of entries without reference
        ("virtual_ps", "i8"),  # links: service that each transfer had since the beginning
        ("virtual_at_ps", "i8"),  # links: when that was so
        ("admissions", "i8"),
        ("waiting_head", "i4"),
        ("waiting_tail", "i4"),
        ("late_head", "i4"),  # first request that joined when the batch of the coming step was decided
        ("late_tail", "i4"),
        ("waiting", "i4"),  # services only
        ("batch_head", "i4"),  # services only: first request of the batch under way
        ("running_tail", "i4"),
        ("fresh_head", "i4"),  # first running request that may not have decoded here yet
        ("prefill_head", "i4"),  # first running request that prefills in the step under way
        ("partial", "i4"),  # the partly prefilled request
        ("running", "i4"),  # links: transfers
        ("decoding", "i4"),
        ("step_prefills", "i4"),
        ("step_prefill_tokens", "i4"),
        ("active_adapters", "i4"),
        ("blocked", "i4"),
        ("event_slot", "i4"),
        # What it did.
        ("busy_ps", "i8"),
        ("steps", "i8"),
        ("service_requests", "i8"),
        ("prefill_tokens", "i8"),
        ("hit_tokens", "i8"),
        ("fetched_tokens", "i8"),
        ("decode_tokens", "i8"),
        ("decode_context_tokens", "i8"),
        ("prefill_pairs", "i8"),
        ("peak_blocks", "i8"),
        ("peak_running", "i8"),
        ("peak_step_tokens", "i8"),
        ("preemptions", "i8"),
        ("blocked_kv_ps", "i8"),
        ("blocked_batch_ps", "i8"),
        ("blocked_budget_ps", "i8"),
    ],
    align=True,
)

# Fields of a client that hold a request's index, -1 for nobody.
LINKS_OF_CLIENTS = (
    "waiting_head",
    "waiting_tail",
    "late_head",
    "late_tail",
    "batch_head",
    "running_tail",
    "fresh_head",
    "prefill_head",
    "partial",
)

# A stage lies in scratch, these numbers one after the other; -1 lends never.
(
    STAGE_LLM,
    STAGE_ROUTER,
    STAGE_HANDOVER_ROUTER,
    STAGE_LOCAL_HANDOVER,
    STAGE_LEND_PREFILL_TOKENS,
    STAGE_LEND_DECODE_TOKENS,
    STAGE_AFFINITY,
    STAGE_FIRST,
    STAGE_LAST,
    STAGE_POINTER,
    STAGE_HANDOVER_POINTER,
) = range(11)
STAGE = np.dtype(
    [
        ("llm", "i8"),
        ("router", "i8"),
        ("handover_router", "i8"),
        ("local_handover", "i8"),
        ("lend_prefill_tokens", "i8"),
        ("lend_decode_tokens", "i8"),
        ("affinity", "i8"),
        ("first", "i8"),
        ("last", "i8"),  # client + 1
        ("pointer", "i8"),  # of round-robin
        ("handover_pointer", "i8"),
    ]
)
STAGE_FIELDS = STAGE_HANDOVER_POINTER + 1

# A cache lies in scratch, too: a client's prefix cache, or a tier.
(
    CACHE_CAPACITY,
    CACHE_LINK,
    CACHE_BEHIND,
    CACHE_SPILLS,
    CACHE_LATENCY_PS,
    CACHE_CHUNK_PS,
    CACHE_TABLE,
    CACHE_MASK,
    CACHE_ENTRIES,
    CACHE_SIZE,
    CACHE_VACANT,
    CACHE_OLDEST,
    CACHE_NEWEST,
    CACHE_HIT_CHUNKS,
    CACHE_STORED_CHUNKS,
    CACHE_START,
) = range(16)
CACHE = np.dtype(
    [
        ("capacity", "i8"),  # chunks
        ("link", "i8"),  # tiers: the client that is its link
        ("behind", "i8"),  # tiers: offset in scratch of the next one, -1 if none
        ("spills", "i8"),
        ("latency_ps", "i8"),
        ("chunk_ps", "i8"),
        ("table", "i8"),  # offset in scratch of the hash table
        ("mask", "i8"),
        ("entries", "i8"),  # offset in scratch
        ("size", "i8"),
        ("vacant", "i8"),  # offset in scratch of the first vacant entry
        ("oldest", "i8"),
        ("newest", "i8"),
        ("hit_chunks", "i8"),
        ("stored_chunks", "i8"),
        ("start", "i8"),  # offset in scratch of the cache itself
    ]
)
CACHE_FIELDS = CACHE_START + 1

WORLD = np.dtype(
    [
        ("seed", "i8"),
        ("max_run", "i8"),
        ("chunk_tokens", "i8"),
        ("stages", "i8"),  # offset in scratch
        ("event_heap", "i8"),  # offset in scratch: event_ps of each slot, then its client
        ("hop_heap", "i8"),  # offset in scratch: requests
        ("hops", "i8"),
        ("itl_histogram", "i8"),  # offset in scratch
        ("arrived", "i8"),  # index of the next request to arrive by itself
        ("until_ps", "i8"),  # arrival of the first request that is not loaded yet
        ("log", "i8"),  # offset in scratch
        ("log_capacity", "i8"),  # entries
        ("log_from_ps", "i8"),
        ("log_until_ps", "i8"),
        ("logged", "i8"),  # entries that were to be written
        ("events", "i8"),
        ("overrun", "i8"),  # whether the horizon was reached
    ],
    align=True,
)
