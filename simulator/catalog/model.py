"""One transformer or hybrid: the shape of its layers, and the counts that follow from it."""

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
        Layers that have a dense feed-forward block (of the model's ``intermediate``) instead.
    dense_first
        Whether these lead (DeepSeek), or are spread evenly over the depth (Jamba).
    """

    experts: Count
    experts_per_token: Count
    expert_intermediate: Count
    shared_experts: CountOrZero = 0
    shared_intermediate: CountOrZero = 0
    dense_layers: CountOrZero = 0
    dense_first: bool = True

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


class SlidingWindow(Spec):
    """Layers whose queries see only the last tokens (Longformer, arXiv:2004.05150; Mistral 7B, arXiv:2310.06825).

    Attributes
    ----------
    layers
        Attention layers with a window, spread evenly over the depth; the others see everything.
    window_tokens
        Tokens that a query sees, itself included.
    """

    layers: Count
    window_tokens: Count


class StateSpace(Spec):
    """Layers with a recurrent state in the place of attention: Mamba-2 (arXiv:2405.21060) or Mamba (arXiv:2312.00752).

    Attributes
    ----------
    layers
        Layers with such a mixer, spread evenly over the depth.
    heads, head_dim
        Heads and their width; their product is the inner width. Mamba is written with heads of width 1.
    state
        State elements per inner channel (N).
    groups
        Groups of heads that share B and C; not used by Mamba, whose channels all share them.
    conv
        Width of the causal convolution before the scan.
    dt_rank
        Width that Mamba's step sizes are projected from; None for Mamba-2.
    chunk_tokens
        Tokens that a prompt's scan treats at a time (Mamba-2).
    state_bytes_per_element
        Bytes of a stored state element: 2 as engines keep it by default, 4 where the model wants single precision.
    feed_forward_layers
        Layers that hold a feed-forward block alone, the others then hold none (Nemotron-H; 0 for pure Mamba).
        None where every layer holds one beside its mixer.
    """

    layers: Count
    heads: Count
    head_dim: Count
    state: Count
    groups: Count = 1
    conv: Count = 4
    dt_rank: Count | None = None
    chunk_tokens: Count = 256
    state_bytes_per_element: Annotated[int, Field(ge=1, le=4)] = 2
    feed_forward_layers: CountOrZero | None = None

    @property
    def inner(self) -> int:
        """Inner width: ``heads * head_dim``."""
        return self.heads * self.head_dim

    @property
    def shared(self) -> int:
        """Width of B and C together: ``2 * groups * state``."""
        return 2 * self.groups * self.state

    def parameters(self, hidden: int) -> int:
        """Return the elements of one layer.

        Mamba-2: ``hidden * (2 inner + 2 groups state + heads)`` into the block and ``inner * hidden`` out of it, the
        convolution over ``inner + 2 groups state`` channels, A, D and the step's bias a head, a norm of ``inner``.
        Mamba: ``2 hidden * inner`` in, ``inner * (dt_rank + 2 state) + dt_rank * inner`` for steps, B and C,
        ``inner * hidden`` out, the convolution, A of ``inner * state``, D and the step's bias a channel.

        Parameters
        ----------
        hidden
            Width of the residual stream.
        """
        inner = self.inner
        if self.dt_rank is not None:
            steps = inner * (self.dt_rank + 2 * self.state) + self.dt_rank * inner
            return 3 * hidden * inner + steps + inner * (self.conv + self.state + 2)
        projections = hidden * (2 * inner + self.shared + self.heads) + inner * hidden
        return projections + (inner + self.shared) * self.conv + 3 * self.heads + inner


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
    moe, mla, window, ssm
        Mixture of experts, latent attention, layers with a sliding window and state-space layers, where the model
        has them.
    modality_experts
        Whether every layer has a second dense feed-forward block for the tokens of images (CogVLM, arXiv:2311.03079).
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
    window: SlidingWindow | None = None
    ssm: StateSpace | None = None
    modality_experts: bool = False
    source: str

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.attention_heads % self.kv_heads:
            raise ValueError(f"attention_heads {self.attention_heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.moe and self.moe.dense_layers >= self.layers:
            raise ValueError(f"moe.dense_layers {self.moe.dense_layers} must be below layers {self.layers}")
        if self.attention_layers < 0:
            raise ValueError(
                f"ssm: its layers and feed_forward_layers are {self.layers - self.attention_layers} "
                f"and must be at most layers {self.layers}"
            )
        if self.window and self.window.layers > self.attention_layers:
            raise ValueError(
                f"window.layers {self.window.layers} must be at most the {self.attention_layers} layers with attention"
            )
        if self.window and self.mla:
            raise ValueError("window: not supported together with mla")
        if self.modality_experts and (self.moe or self.dense_layers < self.layers):
            raise ValueError("modality_experts: only where every layer has a dense feed-forward block")
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
        """Numbers that one token leaves in the KV cache of all layers, those with a window included."""
        return self.attention_layers * self.kv_elements_per_token_per_layer

    @property
    def state_space_layers(self) -> int:
        """Layers with a recurrent state in the place of attention."""
        return self.ssm.layers if self.ssm else 0

    @property
    def lone_feed_forward_layers(self) -> int:
        """Layers without a mixer."""
        return (self.ssm.feed_forward_layers or 0) if self.ssm else 0

    @property
    def attention_layers(self) -> int:
        """Layers with attention."""
        return self.layers - self.state_space_layers - self.lone_feed_forward_layers

    @property
    def window_layers(self) -> int:
        """Layers whose attention sees only a window."""
        return self.window.layers if self.window else 0

    @property
    def growing_layers(self) -> int:
        """Layers whose KV grows with every token."""
        return self.attention_layers - self.window_layers

    @property
    def feed_forward_layers(self) -> int:
        """Layers with a feed-forward block."""
        alone = self.ssm.feed_forward_layers if self.ssm else None
        return self.layers if alone is None else alone

    @property
    def moe_layers(self) -> int:
        """Layers whose feed-forward block is a mixture of experts."""
        return self.feed_forward_layers - self.moe.dense_layers if self.moe else 0

    @property
    def dense_layers(self) -> int:
        """Layers whose feed-forward block is dense."""
        return self.feed_forward_layers - self.moe_layers

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
    def dense_blocks(self) -> int:
        """Dense feed-forward blocks of a layer that has any, of which a token visits one."""
        return 2 if self.modality_experts else 1

    @property
    def state_space_parameters_per_layer(self) -> int:
        """Elements of one state-space layer; 0 where there is none."""
        return self.ssm.parameters(self.hidden) if self.ssm else 0

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
        return self._count(experts, self.dense_blocks)

    @property
    def active_parameters_per_token(self) -> int:
        """Parameters that one token meets: :attr:`parameters` less the experts it does not visit.

        As in most model cards this counts the embedding table in full; what is multiplied is
        :attr:`multiplied_parameters_per_token`.
        """
        visited = self.moe.experts_per_token if self.moe else 0
        return self._count(visited, 1)

    @property
    def multiplied_parameters_per_token(self) -> int:
        """Matrix elements that one token is multiplied with; twice this is its FLOPs without attention.

        Layers' matrices (visited experts only) and the output head; looking up an embedding is free.
        """
        visited = self.moe.experts_per_token if self.moe else 0
        return self._layers(visited, 1) + self.head_parameters

    def _layers(self, experts: int, dense_blocks: int) -> int:
        """Return the elements of all layers' matrices with so many routed experts or dense blocks in each."""
        mixture = (
            experts * self.expert_parameters
            + self.shared_expert_parameters_per_layer
            + self.router_parameters_per_layer
        )
        return (
            self.attention_layers * self.attention_parameters_per_layer
            + self.state_space_layers * self.state_space_parameters_per_layer
            + self.dense_layers * dense_blocks * self.mlp_parameters(self.intermediate)
            + self.moe_layers * mixture
        )

    def _count(self, experts: int, dense_blocks: int) -> int:
        """Return the number of parameters with so many routed experts or dense blocks in each layer."""
        head = 0 if self.tied_embeddings else self.head_parameters
        positions = self.learned_positions * self.hidden
        norms = (2 * self.layers + 1) * self.hidden
        return self.embedding_parameters + head + positions + norms + self._layers(experts, dense_blocks)
