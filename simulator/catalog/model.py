"""One transformer: the shape of its layers, and the counts that follow from it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from simulator.spec.base import Spec

Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


class MixtureOfExperts(Spec):
    """Feed-forward layers made of experts, a few of which each token visits.

    Attributes
    ----------
    experts
        Routed experts per layer.
    experts_per_token
        Routed experts that one token visits in each layer.
    expert_intermediate
        Inner width of one routed expert.
    shared_experts
        Experts that every token visits, besides the routed ones.
    shared_intermediate
        Inner width of one shared expert; 0 where there is none.
    dense_layers
        Leading layers that have a dense feed-forward block (of the model's ``intermediate``) instead.
    """

    experts: Count
    experts_per_token: Count
    expert_intermediate: Count
    shared_experts: CountOrZero = 0
    shared_intermediate: CountOrZero = 0
    dense_layers: CountOrZero = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token {self.experts_per_token} is above experts {self.experts}")
        if (self.shared_experts == 0) != (self.shared_intermediate == 0):
            raise ValueError(
                f"shared_experts {self.shared_experts} and shared_intermediate {self.shared_intermediate} "
                "must both be zero or both be positive"
            )
        return self


class LatentAttention(Spec):
    """Multi-head latent attention (MLA, DeepSeek-V2, arXiv:2405.04434): the cache holds one latent a token.

    Attributes
    ----------
    kv_lora_rank
        Width of the latent that keys and values are rebuilt from.
    q_lora_rank
        Width of the latent that queries are rebuilt from; None where queries are projected directly.
    qk_rope_head_dim
        Part of a query or key head that carries the position; the key's is shared by all heads.
    qk_nope_head_dim
        Part of a query or key head without position.
    v_head_dim
        Width of a value head.
    """

    kv_lora_rank: Count
    q_lora_rank: Count | None
    qk_rope_head_dim: Count
    qk_nope_head_dim: Count
    v_head_dim: Count


class Model(Spec):
    """A transformer, described as far as its cost depends on it.

    Attributes
    ----------
    name
        Short kebab-case name.
    kind
        ``decoder`` generates text token by token; ``encoder`` reads its input once (embedding, ranking).
    layers, hidden
        Number of layers, and width of the residual stream.
    attention_heads, kv_heads, head_dim
        Query heads, key/value heads (fewer for grouped-query attention), and the width of a query or
        key head. With ``mla`` the head width is ``qk_nope_head_dim + qk_rope_head_dim``.
    intermediate
        Inner width of a dense feed-forward block; not used where every layer is a mixture of experts.
    gated_mlp
        Whether feed-forward blocks have three matrices (gate, up, down) or two (up, down).
    vocab
        Rows of the embedding table.
    tied_embeddings
        Whether the output head is the embedding table (encoders have no head).
    max_context_tokens
        Longest sequence, prompt and output together.
    learned_positions
        Rows of a learned position table; 0 for rotary, ALiBi and the like.
    moe, mla
        Mixture of experts and latent attention, where the model has them.
    source
        Where the numbers are from, e.g. the Hugging Face repository of the config.
    """

    name: str
    kind: Literal["decoder", "encoder"] = "decoder"
    layers: Count
    hidden: Count
    attention_heads: Count
    kv_heads: Count
    head_dim: Count
    intermediate: Count
    gated_mlp: bool
    vocab: Count
    tied_embeddings: bool
    max_context_tokens: Count
    learned_positions: CountOrZero = 0
    moe: MixtureOfExperts | None = None
    mla: LatentAttention | None = None
    source: str

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.attention_heads % self.kv_heads:
            raise ValueError(f"attention_heads {self.attention_heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.moe and self.moe.dense_layers >= self.layers:
            raise ValueError(f"moe.dense_layers {self.moe.dense_layers} must be below layers {self.layers}")
        if self.mla and self.kv_heads != self.attention_heads:
            raise ValueError(f"mla: kv_heads {self.kv_heads} must equal attention_heads {self.attention_heads}")
        if self.mla and self.head_dim != self.mla.qk_nope_head_dim + self.mla.qk_rope_head_dim:
            raise ValueError(
                f"mla: head_dim {self.head_dim} must be qk_nope_head_dim + qk_rope_head_dim = "
                f"{self.mla.qk_nope_head_dim + self.mla.qk_rope_head_dim}"
            )
        if self.learned_positions and self.max_context_tokens > self.learned_positions:
            raise ValueError(
                f"max_context_tokens {self.max_context_tokens} is above learned_positions {self.learned_positions}"
            )
        return self

    @property
    def attention_qk_dim(self) -> int:
        """Width of one query or key head: scores cost ``2 * heads * qk_dim`` FLOPs a pair of tokens."""
        return self.head_dim

    @property
    def attention_v_dim(self) -> int:
        """Width of one value head: weighting costs ``2 * heads * v_dim`` FLOPs a pair of tokens."""
        return self.mla.v_head_dim if self.mla else self.head_dim

    @property
    def kv_elements_per_token_per_layer(self) -> int:
        """Numbers that one token leaves in one layer's KV cache.

        ``2 * kv_heads * head_dim`` with keys and values per head; ``kv_lora_rank + qk_rope_head_dim``
        with latent attention. An encoder computes as many but keeps none.
        """
        if self.mla:
            return self.mla.kv_lora_rank + self.mla.qk_rope_head_dim
        return 2 * self.kv_heads * self.head_dim

    @property
    def kv_elements_per_token(self) -> int:
        """Numbers that one token leaves in the KV cache of all layers."""
        return self.layers * self.kv_elements_per_token_per_layer

    @property
    def moe_layers(self) -> int:
        """Layers whose feed-forward block is a mixture of experts."""
        return self.layers - self.moe.dense_layers if self.moe else 0

    @property
    def dense_layers(self) -> int:
        """Layers whose feed-forward block is dense."""
        return self.layers - self.moe_layers

    @property
    def attention_parameters_per_layer(self) -> int:
        """Elements of one layer's attention matrices.

        ``hidden * head_dim * (2 * heads + 2 * kv_heads)`` for Q, K, V and O. With latent attention:
        queries ``hidden * q_rank + q_rank * heads * qk_dim`` (or ``hidden * heads * qk_dim``), keys and
        values ``hidden * (kv_rank + rope) + kv_rank * heads * (nope + v_dim)``, output
        ``heads * v_dim * hidden`` (arXiv:2405.04434, section 2.1).
        """
        mla, heads = self.mla, self.attention_heads
        if mla is None:
            return self.hidden * self.head_dim * 2 * (heads + self.kv_heads)
        queries = heads * self.attention_qk_dim
        q = self.hidden * queries
        if mla.q_lora_rank is not None:
            q = mla.q_lora_rank * (self.hidden + queries)
        kv_down = self.hidden * (mla.kv_lora_rank + mla.qk_rope_head_dim)
        kv_up = mla.kv_lora_rank * heads * (mla.qk_nope_head_dim + mla.v_head_dim)
        return q + kv_down + kv_up + heads * mla.v_head_dim * self.hidden

    def mlp_parameters(self, intermediate: int) -> int:
        """Return the elements of one feed-forward block: ``(3 if gated else 2) * hidden * intermediate``.

        Parameters
        ----------
        intermediate
            Inner width of the block (dense, or of one expert).
        """
        return (3 if self.gated_mlp else 2) * self.hidden * intermediate

    @property
    def expert_parameters(self) -> int:
        """Elements of one routed expert in one layer; 0 for a dense model."""
        return self.mlp_parameters(self.moe.expert_intermediate) if self.moe else 0

    @property
    def shared_expert_parameters_per_layer(self) -> int:
        """Elements of all shared experts in one layer."""
        if self.moe is None:
            return 0
        return self.moe.shared_experts * self.mlp_parameters(self.moe.shared_intermediate)

    @property
    def router_parameters_per_layer(self) -> int:
        """Elements of one layer's router: ``hidden * experts``."""
        return self.hidden * self.moe.experts if self.moe else 0

    @property
    def embedding_parameters(self) -> int:
        """Elements of the input embedding table: ``vocab * hidden``."""
        return self.vocab * self.hidden

    @property
    def head_parameters(self) -> int:
        """Elements multiplied to get output scores, tied or not: ``vocab * hidden``; 0 for an encoder."""
        return self.embedding_parameters if self.kind == "decoder" else 0

    @property
    def parameters(self) -> int:
        """Number of parameters.

        Embeddings, positions, head (unless tied), and per layer attention, feed-forward (dense, or all
        experts and the router) and two norms; one last norm. Left out, as below 0.7 % of any catalogued
        model: biases, norms inside attention, an encoder's pooler, and multi-token-prediction layers.
        """
        experts = self.moe.experts if self.moe else 0
        return self._count(experts)

    @property
    def active_parameters_per_token(self) -> int:
        """Parameters that one token meets: :attr:`parameters` less the routed experts it does not visit.

        As in most model cards this counts the embedding table in full; what is multiplied is
        :attr:`multiplied_parameters_per_token`.
        """
        visited = self.moe.experts_per_token if self.moe else 0
        return self._count(visited)

    @property
    def multiplied_parameters_per_token(self) -> int:
        """Matrix elements that one token is multiplied with; twice this is its FLOPs without attention.

        Layers' matrices (visited experts only) and the output head; looking up an embedding is free.
        """
        visited = self.moe.experts_per_token if self.moe else 0
        return self._layers(visited) + self.head_parameters

    def _layers(self, experts: int) -> int:
        """Return the elements of all layers' matrices with so many routed experts in each."""
        mixture = (
            experts * self.expert_parameters
            + self.shared_expert_parameters_per_layer
            + self.router_parameters_per_layer
        )
        return (
            self.layers * self.attention_parameters_per_layer
            + self.dense_layers * self.mlp_parameters(self.intermediate)
            + self.moe_layers * mixture
        )

    def _count(self, experts: int) -> int:
        """Return the number of parameters with so many routed experts in each layer."""
        head = 0 if self.tied_embeddings else self.head_parameters
        positions = self.learned_positions * self.hidden
        norms = (2 * self.layers + 1) * self.hidden
        return self.embedding_parameters + head + positions + norms + self._layers(experts)
