"""A workload as a data set, and scripts that send it to a running engine by GuideLLM or ``vllm bench serve``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dse.export.command import Command
from dse.export.commented_yaml import dump
from dse.export.exported import Account, Exported
from dse.export.names import PLACEHOLDER, repository_of
from dse.export.parsers import flag_list
from dse.export.safe_names import file_names
from simulator import Deployment, Pool, Requests, Workload, build_requests, simulate
from simulator.performance.engine_defaults import resolved
from simulator.spec.stages import LLM
from simulator.spec.workload import MOONCAKE_CHUNK_TOKENS

DATASET: Final = "requests.jsonl"
GUIDELLM: Final = "0.8.1"
FIELDS: Final = {
    "timestamp": "timestamp",
    "input-length": "input_length",
    "output-length": "output_length",
    "hash-ids": "hash_ids",
}
"""Keys of the data set, that of a Mooncake trace, by the names that vLLM has for them."""


def export_load(deployment: Deployment, workload: Workload) -> Exported:
    """Return what replays a workload against a deployment, so that ``dse validate`` can judge the prediction.

    A data set in the form of a Mooncake trace (time in milliseconds, lengths, ids of chunks of the prompts that are the
    same text), a script for vLLM's benchmark, one for GuideLLM with its scenario, and the deployment. With several LLM
    stages there is a folder for each.

    Parameters
    ----------
    deployment
        What is served.
    workload
        What it was designed for. Calls that follow others are sent when the simulation of this deployment says.

    Raises
    ------
    SpecError
        If the workload cannot be built.
    """
    requests = build_requests(workload)
    account = Account(deployment)
    arrival_s, served = _arrivals(requests, deployment, workload, account)
    stages = file_names(dict.fromkeys(pool.stage for pool in deployment.pools))
    files: dict[str, str] = {}
    for stage, name in stages.items():
        rows, added = _rows_of(stage, requests, workload)
        rows = rows[served[rows]]
        if not len(rows):
            account.say(f"stage {stage}: no request of the workload reaches it.")
            continue
        folder = f"{name}/" if len(stages) > 1 else ""
        order = rows[np.argsort(arrival_s[rows], kind="stable")]
        pools = tuple(pool for pool in deployment.pools if pool.stage == stage)
        model = repository_of(pools[0].model) or PLACEHOLDER
        chunk = requests.prefixes.chunk_tokens if requests.prefixes else MOONCAKE_CHUNK_TOKENS
        lines = list(_lines(order, arrival_s, requests, added, chunk))
        files[f"{folder}{DATASET}"] = "".join(f"{line}\n" for line in lines)
        files[f"{folder}replay-vllm.sh"] = _vllm_script(model, len(lines), chunk, account)
        files[f"{folder}replay-guidellm.sh"], files[f"{folder}guidellm.yaml"] = _guidellm(model, chunk)
        # Its defaults are written out, as what a file says is no default any more.
        files[f"{folder}deployment.yaml"] = resolved(_alone(stage, pools, deployment)).to_yaml()
    _tell(requests, workload, account)
    return Exported(files, tuple(account.notes))


def _alone(stage: str, pools: tuple[Pool, ...], deployment: Deployment) -> Deployment:
    """Return the deployment of one stage that is measured alone: without services, and as the only LLM stage."""
    routers = {each.stage: each.router for each in deployment.routers}
    return deployment.model_copy(
        update={
            "pools": tuple(pool.model_copy(update={"stage": LLM}) for pool in pools),
            "services": (),
            "router": routers.get(stage, deployment.router),
            "routers": (),
            "tiers": deployment.tiers if any(pool.prefix_cache for pool in pools) else (),
            "lending": None if all(pool.role == "both" for pool in pools) else deployment.lending,
        }
    )


def _arrivals(
    requests: Requests, deployment: Deployment, workload: Workload, account: Account
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return when each call is sent, in seconds, and whether it is sent at all."""
    if requests.sessions is None:
        return requests.arrival_ps / 1e12, np.ones(len(requests), dtype=np.bool_)
    table = simulate(deployment, requests, plan=workload.plan).requests()
    account.say(
        "sessions: calls that follow others are sent at the times of the simulation, whenever the engine has "
        "answered: a slower engine sees the same load."
    )
    return table["arrival_s"].to_numpy(dtype=np.float64), table["served"].to_numpy(dtype=np.bool_)


def _rows_of(stage: str, requests: Requests, workload: Workload) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the calls that reach an LLM stage, and the tokens that retrieval adds to each call's prompt."""
    plan = workload.plan
    way = np.zeros(len(requests), dtype=np.int64) if requests.way is None else requests.way.astype(np.int64)
    passing = np.array([stage in stages for stages in plan.ways])
    added: NDArray[np.int64] = np.array(plan.added_prompt_tokens, dtype=np.int64)[way]
    return np.flatnonzero(passing[way]), added


def _lines(
    rows: NDArray[np.int64],
    arrival_s: NDArray[np.float64],
    requests: Requests,
    added: NDArray[np.int64],
    chunk: int,
) -> Iterator[str]:
    """Yield a JSON object for each request; chunks that no other prompt shares have ids of their own."""
    prefixes = requests.prefixes
    free = int(prefixes.chunks.max()) + 1 if prefixes is not None and prefixes.chunks.size else 0
    start = float(arrival_s[rows[0]])
    for row in rows.tolist():
        prompt = int(requests.prompt_tokens[row] + added[row])
        shared: list[int] = []
        if prefixes is not None:
            first = int(prefixes.chunk_first[row])
            shared = prefixes.chunks[first : first + int(prefixes.prompt_chunks[row])].tolist()
        own = -(-prompt // chunk) - len(shared)
        ids = [*shared, *range(free, free + own)]
        free += own
        yield json.dumps(
            {
                # Eight digits behind the point are the simulator's picoseconds as far as a float holds them.
                "timestamp": round((float(arrival_s[row]) - start) * 1e3, 8),
                "input_length": prompt,
                "output_length": int(requests.output_tokens[row]),
                "hash_ids": ids,
            },
            separators=(",", ":"),
        )


def _vllm_script(model: str, count: int, chunk: int, account: Account) -> str:
    flags = flag_list("vllm-bench")
    command = Command(account, ("vllm", "bench", "serve"))
    command.add("--backend", "openai")
    command.add("--endpoint", "/v1/completions")
    command.add("--model", model)
    command.add("--dataset-name", "timed_trace")
    command.add("--dataset-path", DATASET)
    command.add("--num-prompts", count)
    for name, key in FIELDS.items():
        command.add(f"--timed-trace-label-{name}", key)
    command.add("--timed-trace-sec-multiplier", 0.001)
    command.add("--timed-trace-chunk-hash-size", chunk)
    command.add("--ignore-eos", None)
    command.add("--percentile-metrics", "ttft,tpot,itl,e2el")
    command.add("--save-result", None)
    command.add("--save-detailed", None)
    command.add("--result-filename", "vllm-bench.json")
    return (
        f"#!/usr/bin/env bash\n# Sends {DATASET} at its own times, for {flags.package} {flags.version}; then: dse "
        "validate vllm-bench.json\n"
        'set -euo pipefail\ncd "$(dirname "$0")"\n'
        f"arguments=(\n{command.commented('  ')}\n)\n"
        'exec vllm bench serve "${arguments[@]}" --base-url "${URL:-http://localhost:8000}"\n'
    )


def _guidellm(model: str, chunk: int) -> tuple[str, str]:
    """Return the script and the scenario of GuideLLM."""
    scenario = {
        "spec": {
            "backend": {
                "kind": "openai_http",
                "target": "http://localhost:8000",
                "model": model,
                "request_format": "/v1/completions",
            },
            "tokenizer": {"kind": "huggingface_auto", "model": model},
            # Times of the data set are milliseconds.
            "data": [
                {
                    "kind": "mooncake",
                    "hash_id_block_size": chunk,
                    "time_scale": 0.001,
                    "source": {"kind": "json_file", "path": DATASET},
                }
            ],
            "profile": {"kind": "replay", "schedule_turn": "timestamp"},
            "outputs": [{"kind": "json", "path": "guidellm.json"}],
        }
    }
    script = (
        f"#!/usr/bin/env bash\n# Sends {DATASET} at its own times, for guidellm {GUIDELLM}; then: dse validate "
        "guidellm.json\n"
        'set -euo pipefail\ncd "$(dirname "$0")"\nexec guidellm run --config guidellm.yaml "$@"\n'
    )
    return script, dump(scenario, f"Scenario of GuideLLM {GUIDELLM}: guidellm run --config guidellm.yaml")


def _tell(requests: Requests, workload: Workload, account: Account) -> None:
    """Say what the replay leaves out."""
    if requests.media_tokens is not None:
        account.say("media: prompts have the tokens of their images, but the images are not sent.")
    if requests.adapter is not None:
        account.say("adapters: every request goes to the model itself; no adapter is asked for.")
    if requests.priority is not None or requests.deadline_ps is not None:
        account.say("priority, deadline_s: are not sent.")
    if any(workload.plan.added_prompt_tokens):
        account.say(
            "retrieval: prompts have the tokens of the documents; the time of the services before is not waited."
        )
    account.say(
        "text: made up by the tool, in chunks that repeat where the workload says so; speculation and the choice of "
        "experts see text that nobody wrote."
    )
