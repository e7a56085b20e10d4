"""Time of one forward pass of a small model: embedding, reranking and guarding, on accelerators or processors.

The operators are those of :mod:`simulator.performance.layers`; what differs is who launches them.

- Encoders run op by op from Python. The host needs ``HOST_S_PER_LAYER`` to launch a layer, ahead of the device: a pass
  lasts as long as the slower of the two. The figure is the mean of ``bge_large_latency_rtx6000ada.csv`` (Hermes:
  7.4 to 8.1 ms for 24 layers, the same for 4 to 2048 tokens; within 6 %). Its benchmark reads the clock without waiting
  for the GPU, so it tells the launch time and nothing of the arithmetic, whose efficiency is that of the LLM engine.
- Decoders (guards) run in an LLM engine and cost what a prefill of it costs.
- On processors, every operator starts and joins the cores, which adds ``CPU.engine.layer_s`` to a layer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from simulator.catalog import Accelerator, Cpu, Model, ScaleUp, kernel_profile
from simulator.errors import SpecError
from simulator.performance.attention import prefill_s_per_pair
from simulator.performance.coefficients import Coefficients, coefficients_of
from simulator.performance.engine import Engine
from simulator.performance.engine_overheads import EngineOverheads
from simulator.performance.layers import layers, output_head
from simulator.performance.memory import RUNTIME_BYTES
from simulator.performance.roofline import Floats, Work, wait

HOST_S_PER_LAYER: Final = 3.2e-4
"""Time in which Python launches the operators of one layer, seconds."""

CPU: Final = Coefficients(kernel_profile("cpu"), EngineOverheads(layer_s=150e-6))
"""Processors: kernels by hand, and the time to start and join the cores for a layer."""


@dataclass(frozen=True)
class Network:
    """A model on the devices of one client; each device holds all of it and takes an equal part of every batch.

    Attributes
    ----------
    engine
        The model on one device.
    coefficients
        Efficiencies of that device.
    devices
        Devices of the client.
    """

    engine: Engine
    coefficients: Coefficients
    devices: int

    def tokens(self, tokens: Floats, attention_tokens: float) -> Work:
        """Return the work of a pass over so many tokens.

        Parameters
        ----------
        tokens
            Tokens of a batch, any shape; below 1 they cost as much as 1, the read of the weights.
        attention_tokens
            Length of the sequences they belong to (for a mixture the sum of squares over the sum): every token meets
            so many keys, or half of them in a decoder.
        """
        model = self.engine.model
        work = self.device_tokens(tokens, attention_tokens)
        if model.kind == "decoder":
            return work + wait(self.coefficients.engine.step_s, tokens)
        seconds = np.maximum(work.seconds, HOST_S_PER_LAYER * model.layers)
        return replace(work, seconds=seconds)

    def device_tokens(self, tokens: Floats, attention_tokens: float) -> Work:
        """Return the part of :meth:`tokens` that the devices do; the host is not counted."""
        engine, c, model = self.engine, self.coefficients, self.engine.model
        share = np.maximum(tokens, 1.0) / self.devices
        keys = min(attention_tokens, model.max_context_tokens) * (1.0 if model.kind == "encoder" else 0.5)
        attention_s = share * keys * prefill_s_per_pair(engine, c)
        work = layers(engine, c, np.maximum(share, 1.0))
        return replace(work, seconds=work.seconds + attention_s, compute_s=work.compute_s + attention_s)

    def sequences(self, sequences: Floats) -> Work:
        """Return the work besides for so many sequences: the output head and bookkeeping; an encoder has no head."""
        c = self.coefficients
        if self.engine.model.kind == "decoder":
            work = output_head(self.engine, c, sequences / self.devices)
            idle = sequences <= 0  # no batch, no read of the head
            return Work(*(np.where(idle, 0.0, part) for part in work.parts))
        return wait(sequences * c.engine.sequence_s, sequences)


def network(model: Model, device: Accelerator | Cpu, devices: int) -> Network:
    """Return a model on some devices.

    Raises
    ------
    SpecError
        If a device cannot hold the model.
    """
    accelerator = device if isinstance(device, Accelerator) else _as_accelerator(device)
    engine = Engine(model, accelerator, 1, "bf16", "bf16")
    runtime = RUNTIME_BYTES if isinstance(device, Accelerator) else 0.0
    needed = engine.weight_bytes + runtime
    if needed > device.usable_memory_bytes:
        raise SpecError(
            f"device: {model.name} needs {needed / 1e9:.1f} GB and one {device.name} has "
            f"{device.usable_memory_bytes / 1e9:.1f} GB; choose a smaller model or a larger device"
        )
    return Network(engine, coefficients_of(device) if isinstance(device, Accelerator) else CPU, devices)


def _as_accelerator(cpu: Cpu) -> Accelerator:
    """Return a processor as an accelerator that computes in bf16, or in fp32 from bf16 weights if it has no bf16."""
    return Accelerator(
        name=cpu.name,
        vendor=cpu.vendor,
        memory_gb=cpu.memory_gb,
        memory_bandwidth_gb_per_s=cpu.memory_bandwidth_gb_per_s,
        peak_tflops={"bf16": cpu.peak_tflops.get("bf16") or cpu.peak_flops("fp32") / 1e12},
        streaming_multiprocessors=None,
        scale_up=ScaleUp(gb_per_s=1.0, latency_us=0.0, devices=1),  # never used: one device, one engine
        scale_out_gb_per_s=1.0,
        tdp_w=cpu.tdp_w,
        idle_w=cpu.idle_w,
        price_usd_per_hour=cpu.price_usd_per_hour,
    )
