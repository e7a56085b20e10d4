"""Timing with PyTorch: CUDA events with the L2 cache flushed between repeats, or a clock on a processor.

What engines run is what is timed where PyTorch has it: cuBLAS for products, FlashAttention or FlashInfer if they are
installed and else PyTorch's own fused attention, norms, rotary embedding and activation fused by ``torch.compile``.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from dse.profiling.points import Collective, Decode, Pass, Point, Prefill, Product
from dse.profiling.runner import Unmeasured
from dse.profiling.table import Measured
from dse.report.document import version_of
from simulator.errors import SpecError

WARM_UP: Final = 5
REPEATS: Final = (10, 100)
"""At least, at most."""

LONG_ENOUGH_S: Final = 0.05
"""Time of repeats from which more than the least are not needed."""

FLUSH_BYTES: Final = 256 << 20
"""Written between repeats, several times the L2 of any GPU: nothing of the operands is left in a cache, and the kernel
is launched while this goes on, so that its launch is not timed."""

PAGE_TOKENS: Final = 16
WORKSPACE_BYTES: Final = 256 << 20
NVIDIA_SMI: Final = (
    "name,driver_version,pstate,clocks.sm,clocks.max.sm,clocks.mem,clocks.max.mem,power.limit,temperature.gpu"
)
ATTENTION: Final = {"flash-attn": "flash_attn", "flashinfer": "flashinfer"}
"""Kernels of attention besides PyTorch's, with their modules, the preferred first."""

Run = Callable[[], object]


def import_torch() -> Any:
    """Return PyTorch.

    Raises
    ------
    SpecError
        If it is not installed.
    """
    try:
        return import_module("torch")
    except ImportError as error:
        raise SpecError(
            f"dse profile: PyTorch cannot be imported ({error}); pip install torch, or pip install 'dse-llm[profile]'"
        ) from None


class TorchBench:
    """Times operators on one device.

    Parameters
    ----------
    device
        ``cuda`` or ``cpu``.
    attention
        ``auto``, ``sdpa``, ``flash-attn`` or ``flashinfer``.

    Raises
    ------
    SpecError
        If PyTorch, the device or the kernels of attention are not there.
    """

    def __init__(self, device: str = "cuda", attention: str = "auto") -> None:
        self.torch = torch = import_torch()
        self.cuda = device == "cuda"
        if self.cuda and not torch.cuda.is_available():
            raise SpecError(
                f"--device cuda: PyTorch {torch.__version__} sees no CUDA device; pip install torch with CUDA on a "
                "machine with a GPU, or try --device cpu --quick"
            )
        self.attention = _attention(attention, cuda=self.cuda)
        self.device = torch.device(device)
        self.fused = self.cuda
        self._passes: dict[str, Callable[..., object]] = {}
        self._flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=self.device) if self.cuda else None
        self._workspace: Any = None

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions of matrix products that the device has units for."""
        fp8 = self.cuda and self.torch.cuda.get_device_capability(self.device) >= (8, 9)
        return ("bf16", "fp8") if fp8 and hasattr(self.torch, "_scaled_mm") else ("bf16",)

    def seconds(self, point: Point) -> list[float]:
        """Return the times of some repeats, after a warm-up.

        Raises
        ------
        Unmeasured
            If it does not fit into memory, or there is no kernel for it.
        """
        try:
            with self.torch.inference_mode():
                return self._times(self._prepare(point))
        except RuntimeError as error:
            lines = str(error).strip().splitlines() or ["failed"]
            raise Unmeasured("out of memory" if "out of memory" in lines[0] else lines[0][:120]) from None
        finally:
            if self.cuda:
                self.torch.cuda.empty_cache()

    def collectives(self, points: Sequence[Collective]) -> list[Measured]:
        """Return the times of collectives among the GPUs of this server."""
        if not self.cuda or not points:
            return []
        from dse.profiling.torch_collectives import measure_collectives

        return measure_collectives(points)

    def machine(self) -> dict[str, Any]:
        """Return what is known of the accelerator and the software."""
        torch = self.torch
        found: dict[str, Any] = {
            "platform": "cpu",
            "devices": 1,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "attention": self.attention,
            "passes": "torch.compile" if self.fused else "eager",
            "dse_llm": version_of("dse-llm"),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if not self.cuda:
            return found
        about = torch.cuda.get_device_properties(self.device)
        found |= {
            "platform": about.name,
            "devices": torch.cuda.device_count(),
            "capability": f"{about.major}.{about.minor}",
            "multiprocessors": about.multi_processor_count,
            "memory_bytes": about.total_memory,
            "nvidia_smi": nvidia_smi(),
        }
        return found

    def _times(self, run: Run) -> list[float]:
        for _ in range(WARM_UP):
            run()
        least, most = REPEATS
        times: list[float] = []
        while len(times) < least or (len(times) < most and sum(times) < LONG_ENOUGH_S):
            times += self._batch(run, least)
        return times

    def _batch(self, run: Run, repeats: int) -> list[float]:
        """Return the times of some repeats."""
        if self._flush is None:
            return [_clock(run) for _ in range(repeats)]
        torch = self.torch
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
        torch.cuda.synchronize()
        for begin, end in pairs:
            self._flush.zero_()
            begin.record()
            run()
            end.record()
        torch.cuda.synchronize()
        return [begin.elapsed_time(end) * 1e-3 for begin, end in pairs]

    def _random(self, *shape: int) -> Any:
        return self.torch.randn(*shape, dtype=self.torch.bfloat16, device=self.device)

    def _prepare(self, point: Point) -> Run:
        match point:
            case Product():
                return self._product(point)
            case Prefill():
                return self._prefill(point)
            case Decode():
                return self._decode(point)
            case Pass():
                return self._pass(point)

    def _product(self, point: Product) -> Run:
        torch = self.torch
        tokens, weights = self._random(point.m, point.k), self._random(point.n, point.k)
        if point.precision == "bf16":
            return lambda: torch.nn.functional.linear(tokens, weights)
        if point.precision != "fp8":
            raise Unmeasured(f"no kernel for {point.precision}")
        eight, columns = tokens.to(torch.float8_e4m3fn), weights.to(torch.float8_e4m3fn).t()
        one = torch.ones((), dtype=torch.float32, device=self.device)
        return lambda: torch._scaled_mm(
            eight, columns, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
        )

    def _prefill(self, point: Prefill) -> Run:
        total = point.before + point.chunk
        if self.attention == "flash-attn":
            kernel = import_module("flash_attn").flash_attn_func
            q = self._random(1, point.chunk, point.heads, point.head_dim)
            k, v = (self._random(1, total, point.kv_heads, point.head_dim) for _ in range(2))
            # A mask of fewer queries than keys is aligned to the last ones.
            return lambda: kernel(q, k, v, causal=True)
        if self.attention == "flashinfer":
            kernel = import_module("flashinfer").single_prefill_with_kv_cache
            q = self._random(point.chunk, point.heads, point.head_dim)
            k, v = (self._random(total, point.kv_heads, point.head_dim) for _ in range(2))
            return lambda: kernel(q, k, v, causal=True)
        attend = self.torch.nn.functional.scaled_dot_product_attention
        q = self._random(1, point.heads, point.chunk, point.head_dim)
        k, v = (self._random(1, point.kv_heads, total, point.head_dim) for _ in range(2))
        grouped = point.heads != point.kv_heads
        if point.before == 0:
            return lambda: attend(q, k, v, is_causal=True, enable_gqa=grouped)
        mask = import_module("torch.nn.attention.bias").causal_lower_right(point.chunk, total)
        return lambda: attend(q, k, v, attn_mask=mask, enable_gqa=grouped)

    def _decode(self, point: Decode) -> Run:
        sequences, each = point.sequences, point.context_each
        if self.attention == "flash-attn":
            kernel = import_module("flash_attn").flash_attn_with_kvcache
            q = self._random(sequences, 1, point.heads, point.head_dim)
            k, v = (self._random(sequences, each, point.kv_heads, point.head_dim) for _ in range(2))
            lengths = self.torch.full((sequences,), each, dtype=self.torch.int32, device=self.device)
            return lambda: kernel(q, k, v, cache_seqlens=lengths, causal=True)
        if self.attention == "flashinfer":
            return self._paged_decode(point)
        attend = self.torch.nn.functional.scaled_dot_product_attention
        q = self._random(sequences, point.heads, 1, point.head_dim)
        k, v = (self._random(sequences, point.kv_heads, each, point.head_dim) for _ in range(2))
        return lambda: attend(q, k, v, enable_gqa=point.heads != point.kv_heads)

    def _paged_decode(self, point: Decode) -> Run:
        """Return FlashInfer's decode over pages of KV; planning is not timed, as engines plan once for all layers."""
        torch = self.torch
        if self._workspace is None:
            self._workspace = torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device=self.device)
        wrapper = import_module("flashinfer").BatchDecodeWithPagedKVCacheWrapper(
            self._workspace, "NHD", use_tensor_cores=point.heads > 4 * point.kv_heads
        )
        pages = -(-point.context_each // PAGE_TOKENS)
        integers = {"dtype": torch.int32, "device": self.device}
        starts = torch.arange(0, (point.sequences + 1) * pages, pages, **integers)
        indices = torch.arange(point.sequences * pages, **integers)
        last = torch.full((point.sequences,), point.context_each - (pages - 1) * PAGE_TOKENS, **integers)
        wrapper.plan(
            starts,
            indices,
            last,
            point.heads,
            point.kv_heads,
            point.head_dim,
            PAGE_TOKENS,
            q_data_type=torch.bfloat16,
            kv_data_type=torch.bfloat16,
        )
        q = self._random(point.sequences, point.heads, point.head_dim)
        kv = self._random(point.sequences * pages, 2, PAGE_TOKENS, point.kv_heads, point.head_dim)
        return lambda: wrapper.run(q, kv)

    def _pass(self, point: Pass) -> Run:
        ready = self._kernel_of_pass(point.kind)
        if point.kind == "norm":
            x, residual = self._random(point.tokens, point.width), self._random(point.tokens, point.width)
            weight = self._random(point.width)
            return lambda: ready(x, residual, weight)
        if point.kind == "rotary":
            x = self._random(point.tokens, point.width // point.head_dim, point.head_dim)
            cos, sin = (self._random(point.tokens, 1, point.head_dim // 2) for _ in range(2))
            return lambda: ready(x, cos, sin)
        gate_up = self._random(point.tokens, 2 * point.width)
        return lambda: ready(gate_up)

    def _kernel_of_pass(self, kind: str) -> Callable[..., object]:
        """Return the function of a kind of pass, compiled once for all sizes."""
        if kind not in self._passes:
            plain: dict[str, Callable[..., object]] = {
                "norm": self._norm,
                "rotary": self._rotary,
                "activation": self._activation,
            }
            self._passes[kind] = self.torch.compile(plain[kind], dynamic=True) if self.fused else plain[kind]
        return self._passes[kind]

    def _norm(self, x: Any, residual: Any, weight: Any) -> tuple[Any, Any]:
        """Return the RMS norm of x and a residual, and their sum."""
        total = x + residual
        wide = total.float()
        scale = (wide.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()
        return (wide * scale).to(x.dtype) * weight, total

    def _rotary(self, x: Any, cos: Any, sin: Any) -> Any:
        """Return queries and keys turned by their positions."""
        first, second = x.chunk(2, dim=-1)
        return self.torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)

    def _activation(self, gate_up: Any) -> Any:
        """Return SwiGLU of gate and up side by side."""
        gate, up = gate_up.chunk(2, dim=-1)
        return self.torch.nn.functional.silu(gate) * up


def _attention(wanted: str, *, cuda: bool) -> str:
    """Return the kernels of attention: the wanted ones, or the first that are installed.

    Raises
    ------
    SpecError
        If there are no such kernels, or they are not installed.
    """
    if wanted == "sdpa" or (wanted == "auto" and not cuda):
        return "sdpa"
    if wanted == "auto":
        return next((name for name, module in ATTENTION.items() if find_spec(module)), "sdpa")
    if wanted not in ATTENTION:
        raise SpecError(f"--attention: no kernels {wanted!r}; allowed: auto, sdpa, {', '.join(ATTENTION)}")
    if not cuda:
        raise SpecError(f"--attention: {wanted} needs --device cuda; on a processor there is sdpa")
    if find_spec(ATTENTION[wanted]) is None:
        raise SpecError(f"--attention: {wanted} is not installed; pip install {wanted}")
    return wanted


def _clock(run: Run) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def nvidia_smi() -> list[dict[str, str]]:
    """Return driver, clocks, power limit and temperature of each GPU; nothing where the tool is absent."""
    command = ["nvidia-smi", f"--query-gpu={NVIDIA_SMI}", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    names = NVIDIA_SMI.split(",")
    return [dict(zip(names, map(str.strip, line.split(",")), strict=False)) for line in said.splitlines() if line]
