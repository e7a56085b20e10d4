"""The kernel's memory: one record a request, one a client, one for the world, and two flat int64 arrays.

A row of a record array crosses a compiled call as one pointer; that is what makes the kernel fast. Everything of
variable size (heaps, counters, histograms) lies in ``scratch`` at an offset that a record holds; cost tables
lie in ``tables``. Meanings are those of ``docs/semantics.md``.
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

# Roles, policies and routers, as a client's or the world's record holds them.
ROLE_BOTH, ROLE_PREFILL, ROLE_DECODE, ROLE_SERVICE = 0, 1, 2, 3
POLICY_STATIC, POLICY_CONTINUOUS, POLICY_CHUNKED = 0, 1, 2
ROUTER_ROUND_ROBIN, ROUTER_JOIN_SHORTEST_QUEUE, ROUTER_LEAST_OUTSTANDING_TOKENS = 0, 1, 2

# Which length of a request the work of a service depends on.
QUANTITY_NONE, QUANTITY_QUERY, QUANTITY_PROMPT, QUANTITY_OUTPUT = 0, 1, 2, 3

# States of a request; READY: its KV is on the decode client, HANDED_OVER: on its way there, HOPPING: between stages.
UNSEEN, WAITING, READY, PREFILLING, DECODING, HANDED_OVER, HOPPING, DONE, REJECTED = 0, 1, 2, 3, 4, 5, 6, 7, 8

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

REQUEST = np.dtype(
    [
        ("arrival_ps", "i8"),
        ("scheduled_ps", "i8"),
        ("first_token_ps", "i8"),
        ("finish_ps", "i8"),
        ("last_token_ps", "i8"),  # when it last joined a client's decodes, or was preempted
        ("hop_ps", "i8"),  # when it reaches its decode client or next stage
        ("joined_ps", "i8"),  # when it joined the queue of a service
        ("service_ps", "i8"),
        ("done_ps", "i8"),
        ("joined_iteration", "i8"),  # of the client's decode iterations
        ("query_tokens", "i4"),
        ("prompt_tokens", "i4"),
        ("output_tokens", "i4"),
        ("generated", "i4"),  # stale while decoding: finish iteration says how many are left
        ("prefilled", "i4"),
        ("chunk", "i4"),  # prompt tokens in the step under way
        ("state", "i4"),
        ("stage", "i4"),
        ("client", "i4"),
        ("prefill_client", "i4"),
        ("next", "i4"),  # in the waiting queue or the running list
        ("previous", "i4"),
        ("heap_slot", "i4"),
        ("preemptions", "i4"),
    ],
    align=True,
)

CLIENT = np.dtype(
    [
        # What it is.
        ("role", "i4"),
        ("stage", "i4"),
        ("policy", "i4"),
        ("quantity", "i4"),
        ("max_batch", "i4"),
        ("token_budget", "i4"),
        ("block_tokens", "i4"),
        ("watermark_blocks", "i4"),
        ("total_blocks", "i8"),
        ("capacity_tokens", "i8"),
        ("attention_ps", "i8"),
        ("prefill_pair", "i8"),
        ("prefill_read", "i8"),
        ("max_wait_ps", "i8"),
        ("link_latency_ps", "i8"),
        ("link_ps_per_token", "i8"),
        ("linear", "i8"),  # offset in tables
        ("sequences", "i8"),  # offset in tables
        ("finish_heap", "i8"),  # offset in scratch
        ("phases", "i8"),  # offset in scratch
        ("step_histogram", "i8"),  # offset in scratch
        # What it does now.
        ("event_ps", "i8"),
        ("step_start_ps", "i8"),
        ("step_ps", "i8"),  # duration of the first iteration of the run under way
        ("step_growth_ps", "i8"),  # by which each later iteration is longer than the one before
        ("run_steps", "i8"),  # iterations in the run under way, 0 when idle
        ("iterations", "i8"),  # decode iterations done
        ("last_iteration_ps", "i8"),
        ("context_tokens", "i8"),  # summed over decoding requests
        ("outstanding_tokens", "i8"),  # at the start of the run under way
        ("free_blocks", "i8"),  # at the start of the run under way
        ("waiting_head", "i4"),
        ("waiting_tail", "i4"),
        ("waiting", "i4"),  # services only
        ("batch_head", "i4"),  # services only: first request of the batch under way
        ("running_tail", "i4"),
        ("fresh_head", "i4"),  # first running request that may not have decoded here yet
        ("prefill_head", "i4"),  # first running request that prefills in the step under way
        ("partial", "i4"),  # the partly prefilled request
        ("running", "i4"),
        ("decoding", "i4"),
        ("step_decodes", "i4"),
        ("step_prefills", "i4"),
        ("step_prefill_tokens", "i4"),
        ("outstanding", "i4"),
        ("blocked", "i4"),
        ("event_slot", "i4"),
        # What it did.
        ("busy_ps", "i8"),
        ("steps", "i8"),
        ("service_requests", "i8"),
        ("prefill_tokens", "i8"),
        ("decode_tokens", "i8"),
        ("decode_context_tokens", "i8"),
        ("prefill_pairs", "i8"),
        ("peak_blocks", "i8"),
        ("preemptions", "i8"),
        ("blocked_kv_ps", "i8"),
        ("blocked_batch_ps", "i8"),
        ("blocked_budget_ps", "i8"),
    ],
    align=True,
)

WORLD = np.dtype(
    [
        ("router", "i4"),
        ("handover_router", "i4"),
        ("handover_pointer", "i4"),  # of round-robin
        ("stages", "i4"),
        ("llm_stage", "i4"),
        ("max_run", "i8"),
        ("both_capacity_tokens", "i8"),
        ("prefill_capacity_tokens", "i8"),
        ("decode_capacity_tokens", "i8"),
        ("stage_table", "i8"),  # offset in scratch: first client, last client + 1, round-robin pointer of each stage
        ("event_heap", "i8"),  # offset in scratch: event_ps of each slot, then its client
        ("hop_heap", "i8"),  # offset in scratch: requests
        ("hops", "i8"),
        ("itl_histogram", "i8"),  # offset in scratch
        ("events", "i8"),
        ("overrun", "i8"),  # whether the horizon was reached
    ],
    align=True,
)
