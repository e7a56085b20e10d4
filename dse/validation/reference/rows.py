"""All rows of the page, in its order."""

from __future__ import annotations

from typing import Final

from dse.validation.reference import engines, power, silicon, stages
from dse.validation.reference.row import Row

ROWS: Final = (
    Row("vllm-0.15", ("engine/vllm015_h100_runs.csv",), engines.vllm_015),
    Row("splitwise", ("engine/splitwise_prompt_and_token_time.csv",), engines.splitwise),
    Row("llama2-latency", ("engine/llama2_latency_a100_batch1_200in_200out.csv",), engines.llama2_latency),
    Row("trtllm-0.14", ("engine/trtllm014_online_llama31_8b.csv",), engines.trtllm_online),
    Row("rtx-4090", ("engine/llmservingsim_rtx4090/Llama-3.1-8B",), engines.rtx_4090),
    Row("silicon", (), silicon.engines_of_others, needs=silicon.installed),
    Row("kv-transfers", ("stages/mooncake_pd_kv_transfer.csv",), stages.kv_transfers),
    Row("retrieval", tuple(f"stages/{file}" for file in stages.XEONS.values()), stages.retrieval),
    Row("power", power.FILES, power.power),
)
