"""What is measured: sweeps of operators with the shapes of real models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from simulator import catalog
from simulator.catalog import Model
from simulator.performance.element_wise import activation_elements, norm_elements, rotary_elements
from simulator.performance.engine import tensor_parallel_sizes

MODELS: Final = ("llama-3.1-8b", "qwen3-32b", "llama-3.1-70b")
QUICK_MODELS: Final = ("llama-3.1-8b",)
DEGREES: Final = (1, 2, 4, 8)
QUICK_DEGREES: Final = (1,)

ROWS: Final = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192, 16384)
QUICK_ROWS: Final = (1, 16, 64, 256, 1024, 4096)

CHUNKS: Final = (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
QUICK_CHUNKS: Final = (128, 1024, 4096)
BEFORE: Final = (0, 1024, 4096, 16384, 65536)
QUICK_BEFORE: Final = (0, 4096)

SEQUENCES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
QUICK_SEQUENCES: Final = (1, 16, 64)
CONTEXTS: Final = (128, 512, 1024, 2048, 4096, 8192, 16384, 32768)
QUICK_CONTEXTS: Final = (512, 4096)

MESSAGES: Final = tuple(1 << power for power in range(10, 31))
QUICK_MESSAGES: Final = tuple(1 << power for power in range(12, 29, 4))
COLLECTIVES: Final = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")


@dataclass(frozen=True)
class Product:
    """A matrix product (m × k) · (k × n) in a precision: ``bf16`` or ``fp8``."""

    group: str
    precision: str
    m: int
    k: int
    n: int


@dataclass(frozen=True)
class Prefill:
    """Causal attention of a chunk of a prompt after ``before`` tokens of it."""

    group: str
    heads: int
    kv_heads: int
    head_dim: int
    chunk: int
    before: int


@dataclass(frozen=True)
class Decode:
    """Attention of one token of each of some sequences, all with the same context."""

    group: str
    heads: int
    kv_heads: int
    head_dim: int
    sequences: int
    context_each: int

    @property
    def context(self) -> int:
        """Tokens of context of all sequences."""
        return self.sequences * self.context_each


@dataclass(frozen=True)
class Pass:
    """A kernel over the activations of some tokens: ``norm`` with residual, ``rotary`` or ``activation`` (SwiGLU).

    ``width`` is the hidden size, the heads times their width, or the inner width; ``elements`` are read and written.
    """

    group: str
    kind: str
    tokens: int
    width: int
    head_dim: int
    elements: int


@dataclass(frozen=True)
class Collective:
    """A collective among accelerators of one server; ``message_bytes`` as NCCL-tests count."""

    collective: str
    workers: int
    message_bytes: int


Point = Product | Prefill | Decode | Pass


@dataclass(frozen=True)
class Shape:
    """A model's widths on one accelerator."""

    group: str
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocab: int

    @property
    def products(self) -> tuple[tuple[int, int], ...]:
        """(k, n) of QKV, O, gate with up, down and the output head."""
        queries = self.heads * self.head_dim
        return (
            (self.hidden, queries + 2 * self.kv_heads * self.head_dim),
            (queries, self.hidden),
            (self.hidden, 2 * self.inner),
            (self.inner, self.hidden),
            (self.hidden, self.vocab),
        )


TINY: Final = Shape("tiny", hidden=128, heads=4, kv_heads=2, head_dim=32, inner=256, vocab=512)
"""For a try on a processor."""


def shape_of(model: Model, tp: int) -> Shape:
    """Return the widths of a dense model on one of so many tensor-parallel accelerators."""
    return Shape(
        group=f"{model.name} tp{tp}",
        hidden=model.hidden,
        heads=model.attention_heads // tp,
        kv_heads=max(1, model.kv_heads // tp),
        head_dim=model.head_dim,
        inner=model.intermediate // tp,
        vocab=model.vocab // tp,
    )


def shapes(*, quick: bool) -> list[Shape]:
    """Return the widths that are measured: three models on 1 to 8 accelerators, or one on one."""
    found = []
    for name in QUICK_MODELS if quick else MODELS:
        model = catalog.model(name)
        allowed = tensor_parallel_sizes(model)
        found += [shape_of(model, tp) for tp in (QUICK_DEGREES if quick else DEGREES) if tp in allowed]
    return found


def sweep(*, quick: bool, precisions: Sequence[str] = ("bf16",), tiny: bool = False) -> list[Point]:
    """Return everything that is measured on one accelerator, each shape once.

    Parameters
    ----------
    quick
        About a hundred points of one model instead of thousands of three.
    precisions
        Of matrix products.
    tiny
        A few points of a model that a processor can compute.
    """
    if tiny:
        points = _of_shape(TINY, (1, 64), ((16, 0), (16, 16)), ((2, 32), (4, 64)), ("bf16",))
        return list(dict.fromkeys(points))
    rows = QUICK_ROWS if quick else ROWS
    chunks = [
        (chunk, before)
        for chunk in (QUICK_CHUNKS if quick else CHUNKS)
        for before in (QUICK_BEFORE if quick else BEFORE)
    ]
    contexts = [
        (sequences, each)
        for sequences in (QUICK_SEQUENCES if quick else SEQUENCES)
        for each in (QUICK_CONTEXTS if quick else CONTEXTS)
    ]
    found: dict[Point, None] = {}
    measured: set[tuple[object, ...]] = set()
    for shape in shapes(quick=quick):
        for point in _of_shape(shape, rows, chunks, contexts, precisions):
            # What differs in the model's name only is measured once.
            what = (type(point), *(value for name, value in vars(point).items() if name != "group"))
            if what not in measured:
                measured.add(what)
                found[point] = None
    return list(found)


def _of_shape(
    shape: Shape,
    rows: Sequence[int],
    chunks: Sequence[tuple[int, int]],
    contexts: Sequence[tuple[int, int]],
    precisions: Sequence[str],
) -> Iterator[Point]:
    heads = (shape.group, shape.heads, shape.kv_heads, shape.head_dim)
    for precision in precisions:
        # The output head stays at 16 bits, and sees sequences, not tokens.
        matrices = shape.products if precision == "bf16" else shape.products[:-1]
        for k, n in matrices:
            for m in rows:
                if n != shape.vocab or m <= 1024:
                    yield Product(shape.group, precision, m, k, n)
    for chunk, before in chunks:
        yield Prefill(*heads, chunk, before)
    for sequences, each in contexts:
        yield Decode(*heads, sequences, each)
    for tokens in rows:
        width = (shape.heads + shape.kv_heads) * shape.head_dim
        elements = {
            "norm": (shape.hidden, norm_elements(shape.hidden)),
            "rotary": (width, rotary_elements(shape.heads, shape.kv_heads, shape.head_dim)),
            "activation": (shape.inner, activation_elements(shape.inner)),
        }
        for kind, (wide, each_token) in elements.items():
            yield Pass(shape.group, kind, tokens, wide, shape.head_dim, int(tokens * float(each_token)))


def collective_sweep(devices: int, *, quick: bool) -> list[Collective]:
    """Return the collectives among 2, 4, 8 … of the accelerators of a server, and among all of them."""
    workers = sorted({size for size in (2, 4, 8, 16) if size <= devices} | ({devices} if devices > 1 else set()))
    return [
        Collective(name, size, message)
        for size in workers
        for name in COLLECTIVES
        for message in (QUICK_MESSAGES if quick else MESSAGES)
        if name != "send_recv" or size == 2
    ]
