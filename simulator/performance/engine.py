"""A model on the accelerators of one client: how it is sharded, and whether that is possible."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from simulator import catalog
from simulator.catalog import Accelerator, Model
from simulator.errors import SpecError
from simulator.spec.deployment import Pool

BYTES_PER_ELEMENT = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5}


@dataclass(frozen=True, eq=False)
class Engine:
    """One client's model, accelerators, tensor parallelism and precisions.

    All properties are per accelerator.
    """

    model: Model
    accelerator: Accelerator
    tp: int
    weights: str
    kv: str

    @property
    def heads(self) -> int:
        """Query heads on one accelerator."""
        return self.model.attention_heads // self.tp

    @property
    def kv_heads(self) -> int:
        """KV heads on one accelerator; with more accelerators than heads they are replicated."""
        return max(1, self.model.kv_heads // self.tp)

    @property
    def weight_bytes_per_element(self) -> float:
        """Bytes of one weight."""
        return BYTES_PER_ELEMENT[self.weights]

    @property
    def flops_per_s(self) -> float:
        """Peak of the matrix units at the weights' precision.

        A chip without units for it expands the weights to bf16 on the fly (weight-only quantisation).
        """
        precisions = self.accelerator.peak_tflops
        usable = self.weights if self.weights in precisions else "bf16" if "bf16" in precisions else "fp16"
        return self.accelerator.peak_flops(usable)

    @property
    def flops_16bit_per_s(self) -> float:
        """Peak of the matrix units at 16 bits, for attention and what is not quantised."""
        return self.accelerator.peak_flops("bf16" if "bf16" in self.accelerator.peak_tflops else "fp16")

    @property
    def kv_bytes_per_token(self) -> float:
        """KV cache of one token of context; a latent (MLA) is held by every accelerator in full."""
        model = self.model
        per_head = 2 * self.kv_heads * model.head_dim
        elements = model.kv_elements_per_token_per_layer if model.mla else per_head
        return model.layers * elements * BYTES_PER_ELEMENT[self.kv]

    @property
    def weight_bytes(self) -> float:
        """Weights; embeddings and the output head stay at 16 bits."""
        model = self.model
        tables = model.embedding_parameters + (0 if model.tied_embeddings else model.head_parameters)
        rest = model.parameters - tables
        return (rest * self.weight_bytes_per_element + tables * 2) / self.tp


def engine_of(pool: Pool) -> Engine:
    """Return the engine of a pool's clients.

    Raises
    ------
    SpecError
        If the model or accelerator is unknown or cannot be combined in this way.
    """
    if pool.model.endswith(".json"):
        return _engine.__wrapped__(pool.model, pool.accelerator, pool.tp, pool.weights, pool.kv)
    return _engine(pool.model, pool.accelerator, pool.tp, pool.weights, pool.kv)


@lru_cache(maxsize=1024)
def _engine(model_name: str, accelerator_name: str, tp: int, weights: str, kv: str) -> Engine:
    model, accelerator = catalog.model(model_name), catalog.accelerator(accelerator_name)
    if model.kind != "decoder":
        raise SpecError(f"model: {model.name} is an {model.kind}, it generates no tokens; choose a decoder")
    allowed = [size for size in tensor_parallel_sizes(model) if size <= accelerator.scale_up.devices]
    if tp not in allowed:
        raise SpecError(
            f"tp: {tp} does not divide {model.name} ({model.attention_heads} heads, {model.kv_heads} KV heads) "
            f"or exceeds the {accelerator.scale_up.devices} linked {accelerator.name}; "
            f"allowed: {', '.join(map(str, allowed))}"
        )
    return Engine(model, accelerator, tp, weights, kv)


def tensor_parallel_sizes(model: Model) -> list[int]:
    """Return the degrees of tensor parallelism that divide a model's heads and feed-forward width."""
    width = model.moe.expert_intermediate if model.moe else model.intermediate
    return [
        tp
        for tp in range(1, model.attention_heads + 1)
        if model.attention_heads % tp == 0
        and width % tp == 0
        and (model.mla is not None or model.kv_heads % tp == 0 or tp % model.kv_heads == 0)
    ]
