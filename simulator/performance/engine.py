"""A model on the accelerators of one client: how it is sharded, and whether that is possible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Generic, TypeVar

from simulator import catalog
from simulator.catalog import Accelerator, KernelProfile, Model
from simulator.errors import SpecError
from simulator.performance.pipeline import Stage, even_layers, stages
from simulator.performance.roofline import Chip
from simulator.performance.topology import Group, group_of, topology_of
from simulator.spec.adapters import Adapters
from simulator.spec.deployment import Pool
from simulator.spec.engine_profile import EngineProfile
from simulator.spec.lookup import Lookup
from simulator.spec.speculation import Speculation
from simulator.spec.topology import Topology

Profile = TypeVar("Profile", EngineProfile, KernelProfile)

BYTES_PER_ELEMENT = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5}


@dataclass(frozen=True, eq=False)
class Engine:
    """One client's model, accelerators, parallelism, precisions and what is served beside the model.

    Accelerators are numbered tensor-parallel ranks first, then data-parallel ranks, then pipeline stages.
    All properties are per accelerator.

    Attributes
    ----------
    tp, dp, ep
        Degrees of tensor, attention-data and expert parallelism; with ``ep`` 1 every expert is split over ``tp · dp``.
    layers_per_stage
        Layers of each pipeline stage; one stage if absent.
    stage_accelerators
        Accelerator of each pipeline stage where they differ; all are :attr:`accelerator` if absent.
    topology
        Links; those of the catalogued accelerator if absent.
    most_decodes
        Tokens of the largest step without prompts, as far as the cost depends on it (``Model.modality_experts``).
    draft
        The draft model of :attr:`speculation`, on the same accelerators.
    profile
        What the engine adds to its kernels; overheads set by hand if absent.
    expert_skew
        Exponent of the power law by which tokens visit experts (:mod:`simulator.performance.experts`).
    own_kernels
        What the accelerator's kernels reach; as catalogued if absent.
    """

    model: Model
    accelerator: Accelerator
    tp: int
    weights: str
    kv: str
    dp: int = 1
    ep: int = 1
    layers_per_stage: tuple[int, ...] | None = None
    topology: Topology | None = None
    most_decodes: int = 0
    adapters: Adapters | None = None
    speculation: Speculation | None = None
    draft: Engine | None = None
    lookup: Lookup | None = None
    profile: EngineProfile | None = None
    expert_skew: float = 0.0
    own_kernels: KernelProfile | None = None
    stage_accelerators: tuple[Accelerator, ...] | None = None

    @property
    def kernels(self) -> KernelProfile:
        """What the accelerator's kernels reach of its peaks, measured alone."""
        return self.own_kernels or catalog.kernel_profile(self.accelerator.name)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The pipeline stages."""
        return stages(self.model, self.layers_per_stage or (self.model.layers,))

    @property
    def pp(self) -> int:
        """Number of pipeline stages."""
        return len(self.stages)

    @cached_property
    def stage_engines(self) -> tuple[Engine, ...]:
        """For each pipeline stage the engine as if all its accelerators were that stage's."""
        if self.stage_accelerators is None:
            return (self,) * self.pp
        alone = {
            accelerator: replace(
                self,
                accelerator=accelerator,
                topology=topology_of(accelerator),
                own_kernels=catalog.kernel_profile(accelerator.name),
                stage_accelerators=None,
            )
            for accelerator in self.stage_accelerators
        }
        return tuple(alone[accelerator] for accelerator in self.stage_accelerators)

    @property
    def accelerators(self) -> int:
        """Accelerators of the client."""
        return self.tp * self.pp * self.dp

    @property
    def hardware(self) -> tuple[tuple[Accelerator, int], ...]:
        """Kinds of accelerators of the client, and how many it has of each."""
        if self.stage_accelerators is None:
            return ((self.accelerator, self.accelerators),)
        return tuple((kind, count * self.tp * self.dp) for kind, count in Counter(self.stage_accelerators).items())

    @property
    def attention_share(self) -> float:
        """Time of one accelerator for attention spread evenly, over that for all layers and the whole batch.

        The stage with most layers works on each of the m = pp micro-batches of a step, that is once on the whole batch,
        and each data-parallel rank on its share of it.
        """
        return max(stage.layers for stage in self.stages) / self.model.layers / self.dp

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
    def compute_precision(self) -> str:
        """What products with weights are computed in; 16 bits where the chip has no units for the weights."""
        precisions = self.accelerator.peak_tflops
        return self.weights if self.weights in precisions else "bf16" if "bf16" in precisions else "fp16"

    @property
    def flops_per_s(self) -> float:
        """Peak of the matrix units at the weights' precision.

        A chip without units for it expands the weights to bf16 on the fly (weight-only quantisation).
        """
        return self.accelerator.peak_flops(self.compute_precision)

    @property
    def flops_16bit_per_s(self) -> float:
        """Peak of the matrix units at 16 bits, for attention and what is not quantised."""
        return self.accelerator.peak_flops("bf16" if "bf16" in self.accelerator.peak_tflops else "fp16")

    @property
    def chip(self) -> Chip:
        """Peaks for products with weights."""
        return self._chip(self.flops_per_s)

    @property
    def chip_16bit(self) -> Chip:
        """Peaks for attention and what is not quantised."""
        return self._chip(self.flops_16bit_per_s)

    def _chip(self, flops_per_s: float) -> Chip:
        accelerator = self.accelerator
        return Chip(flops_per_s, accelerator.memory_bandwidth_bytes_per_s, accelerator.streaming_multiprocessors)

    @property
    def kv_bytes_per_token_per_layer(self) -> float:
        """KV of one token in one layer with attention; a latent (MLA) is held by every accelerator in full."""
        model = self.model
        per_head = 2 * self.kv_heads * model.head_dim
        elements = model.kv_elements_per_token_per_layer if model.mla else per_head
        return elements * BYTES_PER_ELEMENT[self.kv]

    @property
    def kv_bytes_per_token(self) -> float:
        """KV cache of one token of context in the layers where it grows, on the stage with most layers."""
        most = max(self.stages, key=lambda stage: stage.layers)
        return (most.attention - most.windowed) * self.kv_bytes_per_token_per_layer

    def stage_weight_bytes(self, stage: Stage) -> float:
        """Return the weights of one accelerator of a stage; embeddings and the output head stay at 16 bits.

        Experts are split over ``tp · dp``, all else over ``tp``. A head that is tied to the embedding is a copy where
        they are on different stages.
        """
        model = self.model
        routed = model.moe.experts * model.expert_parameters if model.moe else 0
        mixture = model.shared_expert_parameters_per_layer + model.router_parameters_per_layer + routed / self.dp
        rest = (
            stage.attention * model.attention_parameters_per_layer
            + stage.state_space * model.state_space_parameters_per_layer
            + stage.dense * model.dense_blocks * model.mlp_parameters(model.intermediate)
            + stage.mixture * mixture
            + (2 * stage.layers + stage.last) * model.hidden
        )
        tables = 0
        if stage.first:
            rest += model.learned_positions * model.hidden
            tables += model.embedding_parameters
        if stage.last and not (model.tied_embeddings and stage.first):
            tables += model.head_parameters
        return (rest * self.weight_bytes_per_element + tables * 2) / self.tp

    @property
    def weight_bytes(self) -> float:
        """Weights of the stage with most of them."""
        return max(self.stage_weight_bytes(stage) for stage in self.stages)

    def group(self, devices: int, stride: int) -> Group:
        """Return the links of so many of the client's accelerators at a distance from each other."""
        topology = self.topology or topology_of(self.accelerator)
        return group_of(topology, devices, stride=stride, client_devices=self.accelerators)

    @cached_property
    def tensor_group(self) -> Group:
        """Accelerators that share every layer."""
        return self.group(self.tp, 1)

    @cached_property
    def data_group(self) -> Group:
        """Accelerators with the same part of a layer, one in each data-parallel rank."""
        return self.group(self.dp, self.tp)

    @cached_property
    def expert_group(self) -> Group:
        """Accelerators with the same part of different experts."""
        return self.group(self.ep, self.tp * self.dp // self.ep)

    @cached_property
    def expert_split_group(self) -> Group:
        """Accelerators that share the same experts."""
        return self.group(self.tp * self.dp // self.ep, 1)

    @cached_property
    def stage_group(self) -> Group:
        """Accelerators with the same rank in different pipeline stages."""
        return self.group(self.pp, self.tp * self.dp)


def check_pool(pool: Pool) -> None:
    """Check what a pool's fields ask of its model together, and what no engine's cost depends on.

    Raises
    ------
    SpecError
        If the model is unknown, or tokens are drafted for one with sliding windows: the blocks of a window do not
        follow from a context that grows by several tokens at once (docs/semantics.md, *Speculation*).
    """
    model = catalog.model(pool.model)
    if pool.speculation and model.window:
        raise SpecError(
            f"speculation: not together with the {model.window.layers} layers of {model.name} that see only a window; "
            "allowed: absent, or a model whose layers all see the whole context"
        )


def engine_of(pool: Pool) -> Engine:
    """Return the engine of a pool's clients.

    Raises
    ------
    SpecError
        If the model or accelerator is unknown or cannot be combined in this way.
    """
    check_pool(pool)
    names = [pool.model, pool.speculation.draft_model or "" if pool.speculation else ""]
    # A model in a file may have changed since it was last read.
    build = _engine.__wrapped__ if any(name.endswith(".json") for name in names) else _engine
    profile = profile_of(pool)
    decodes = 0
    if catalog.model(pool.model).modality_experts or profile.prompt_step_us:
        drafted = pool.speculation.draft_tokens if pool.speculation else 0
        decodes = pool.batching.max_batch_requests * (1 + drafted)
    return build(
        pool.model,
        pool.accelerator,
        (pool.tp, pool.pp, pool.dp, pool.ep),
        (pool.weights, pool.kv),
        pool.layers_per_stage,
        pool.topology,
        decodes,
        pool.adapters,
        pool.speculation,
        pool.lookup,
        _Itself(profile),
        pool.expert_skew,
        _Itself(kernels_of(pool)),
        pool.stage_accelerators if pool.mixed else None,
    )


def kernels_of(pool: Pool) -> KernelProfile:
    """Return what the kernels of a pool's accelerators reach: from its file, or as catalogued.

    Raises
    ------
    SpecError
        If the file cannot be used.
    """
    if pool.kernels is not None:
        return catalog.own_kernel_profile(pool.kernels)
    return catalog.kernel_profile(pool.accelerator)


def profile_of(pool: Pool) -> EngineProfile:
    """Return the profile of a pool's engine.

    Raises
    ------
    SpecError
        If there is no such engine, or its file cannot be used.
    """
    return catalog.engine_profile(pool.engine) if isinstance(pool.engine, str) else pool.engine


@dataclass(frozen=True, eq=False)
class _Itself(Generic[Profile]):
    """A profile that is told from others by being the same object: the catalogue gives one for each state of a file."""

    profile: Profile

    def __hash__(self) -> int:
        return id(self.profile)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.profile is other.profile


@lru_cache(maxsize=1024)
def _engine(
    model_name: str,
    accelerator_name: str,
    degrees: tuple[int, int, int, int | None],
    precisions: tuple[str, str],
    layers_per_stage: tuple[int, ...] | None,
    topology: Topology | None,
    most_decodes: int,
    adapters: Adapters | None,
    speculation: Speculation | None,
    lookup: Lookup | None,
    engine_profile: _Itself[EngineProfile],
    expert_skew: float,
    kernels: _Itself[KernelProfile],
    stage_accelerators: tuple[str, ...] | None,
) -> Engine:
    model, accelerator = catalog.model(model_name), catalog.accelerator(accelerator_name)
    tp, pp, dp, ep = degrees
    weights, kv = precisions
    if model.kind != "decoder":
        raise SpecError(f"model: {model.name} is an {model.kind}, it generates no tokens; choose a decoder")
    _check_tensor_parallel(model, tp, expert_parallel=ep is not None)
    _check_pipeline(model, pp, layers_per_stage)
    if ep is not None:
        _check_expert_parallel(model, tp, dp, ep)
    elif model.moe and model.moe.expert_intermediate % (tp * dp):
        raise SpecError(
            f"dp: {dp} x tp {tp} do not divide the {model.moe.expert_intermediate} of {model.name}'s experts; "
            "allowed: divisors, or experts dealt out with ep"
        )
    levels = topology or topology_of(accelerator)
    if tp * pp * dp > levels.levels[-1].devices:
        raise SpecError(
            f"tp: {tp} x pp {pp} x dp {dp} exceed the {levels.levels[-1].devices} linked {accelerator.name}; "
            f"allowed: at most that many"
        )
    engine = Engine(
        model,
        accelerator,
        tp,
        weights,
        kv,
        dp=dp,
        ep=ep or 1,
        layers_per_stage=layers_per_stage or even_layers(model.layers, pp),
        topology=levels,
        most_decodes=most_decodes,
        adapters=adapters,
        speculation=speculation,
        lookup=lookup,
        profile=engine_profile.profile,
        expert_skew=expert_skew,
        own_kernels=kernels.profile,
        stage_accelerators=one_vendor(stage_accelerators) if stage_accelerators else None,
    )
    if speculation and speculation.draft_model:
        # Beside the output head, whose tokens it continues.
        return replace(engine, draft=_draft(engine.stage_engines[-1], speculation.draft_model))
    return engine


def one_vendor(names: Sequence[str]) -> tuple[Accelerator, ...]:
    """Return the accelerators of a pipeline, which the communication library of one vendor joins.

    Raises
    ------
    SpecError
        If a name is unknown, or they are of several vendors.
    """
    found = tuple(map(catalog.accelerator, names))
    vendors = {accelerator.vendor: accelerator.name for accelerator in found}
    if len(vendors) > 1:
        given = ", ".join(f"{name} of {vendor}" for vendor, name in vendors.items())
        raise SpecError(f"stage_accelerators: {given}; allowed: of one vendor, whose library joins them")
    return found


def _draft(engine: Engine, name: str) -> Engine:
    """Return the draft model on the accelerators of an engine: one stage, the same tensor and data parallelism."""
    model = catalog.model(name)
    if model.kind != "decoder":
        raise SpecError(f"speculation.draft_model: {name} is an {model.kind}; choose a decoder")
    allowed = tensor_parallel_sizes(model)
    if engine.tp not in allowed:
        raise SpecError(
            f"speculation.draft_model: tp {engine.tp} does not divide {name}; allowed: {', '.join(map(str, allowed))}"
        )
    draft = Engine(
        model, engine.accelerator, engine.tp, engine.weights, engine.kv, dp=engine.dp, profile=engine.profile
    )
    return replace(draft, topology=engine.topology, own_kernels=engine.own_kernels)


def _check_tensor_parallel(model: Model, tp: int, *, expert_parallel: bool) -> None:
    allowed = tensor_parallel_sizes(model, expert_parallel=expert_parallel)
    if tp not in allowed:
        raise SpecError(
            f"tp: {tp} does not divide {model.name} ({model.attention_heads} heads, {model.kv_heads} KV heads); "
            f"allowed: {', '.join(map(str, allowed))}"
        )


def _check_pipeline(model: Model, pp: int, layers_per_stage: tuple[int, ...] | None) -> None:
    if pp > model.layers:
        raise SpecError(f"pp: {pp} exceeds the {model.layers} layers of {model.name}; allowed: 1 to {model.layers}")
    if layers_per_stage is None:
        return
    given = ", ".join(map(str, layers_per_stage))
    if len(layers_per_stage) != pp:
        raise SpecError(
            f"layers_per_stage: {len(layers_per_stage)} stages given ({given}) for pp {pp}; allowed: {pp} numbers"
        )
    if sum(layers_per_stage) != model.layers:
        raise SpecError(
            f"layers_per_stage: {given} sum to {sum(layers_per_stage)}, {model.name} has {model.layers} layers; "
            f"allowed: a sum of {model.layers}"
        )


def _check_expert_parallel(model: Model, tp: int, dp: int, ep: int) -> None:
    if model.moe is None:
        raise SpecError(f"ep: {ep} given for {model.name}, which has no experts; allowed: absent")
    experts, width = model.moe.experts, model.moe.expert_intermediate
    devices = tp * dp
    allowed = [
        size
        for size in range(1, devices + 1)
        if devices % size == 0 and experts % size == 0 and width % (devices // size) == 0
    ]
    if ep not in allowed:
        raise SpecError(
            f"ep: {ep} does not deal the {experts} experts of {model.name} (width {width}) evenly to tp x dp = "
            f"{devices} accelerators; allowed: {', '.join(map(str, allowed)) or 'none'}"
        )


def tensor_parallel_sizes(model: Model, *, expert_parallel: bool = False) -> list[int]:
    """Return the degrees of tensor parallelism that divide a model's heads and feed-forward width.

    Parameters
    ----------
    model
        The model.
    expert_parallel
        Whether experts are dealt out whole, so that their width need not be divided.
    """
    widths = [model.intermediate] if model.feed_forward_layers else []
    if model.moe:
        widths = [model.moe.shared_intermediate if expert_parallel else model.moe.expert_intermediate]
    return [
        tp
        for tp in range(1, model.attention_heads + 1)
        if all(heads % tp == 0 for heads in (model.attention_heads, *_state_space_heads(model)))
        and all(width % tp == 0 for width in widths)
        and (model.mla is not None or model.kv_heads % tp == 0 or tp % model.kv_heads == 0)
    ]


def _state_space_heads(model: Model) -> list[int]:
    return [model.ssm.heads] if model.ssm else []
