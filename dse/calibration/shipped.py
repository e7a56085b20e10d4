"""Write ``simulator/catalog/kernels.yaml`` again: ``python -m dse.calibration.shipped REFERENCE_DIR``.

``REFERENCE_DIR`` holds ``operators`` (see :func:`dse.measurements.operators.read_reference`); the tables of engines are
those of the optional package ``aiconfigurator-core``. What an engine ran comes before launches measured alone; what was
measured on a relative alone is transferred, as :func:`shipped_profiles` says for each accelerator.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import yaml

from dse.calibration.engine_tables import measured_from_tables
from dse.calibration.operators import fit_kernels
from dse.measurements.operators import OperatorMeasurements, read_reference
from simulator import catalog
from simulator.catalog import (
    AttentionKernels,
    GroupedKernels,
    KernelProfile,
    ProductKernels,
    StreamKernels,
)

KERNELS: Final = Path(catalog.__file__).with_name("kernels.yaml")

TRANSFERS: Final = {
    "a100-40gb": ("a100-80gb", "The same chip with slower memory."),
    "a10g": ("a40", "The same architecture."),
    "h100-pcie": (
        "h100-sxm",
        "The same architecture with fewer multiprocessors, slower memory and half of the power.",
    ),
    "l4": ("l40s", "The same architecture; 72 W lower the clock under load, which is not seen."),
}
"""Accelerators that have the coefficients of another, and why."""

PASSES: Final = {
    "h100-sxm": "h100-sxm",
    "h200-sxm": "h100-sxm",
    "b200": "h100-sxm",
    "a100-80gb": "a100-80gb",
    "l40s": "rtx-4090",
}
"""Accelerators that engines' tables are of, and those whose norms, rotary embedding and activation they have."""

EXPERTS_BACKEND: Final = {"a100-80gb": "sglang"}
"""Backends of experts where not vLLM, whose experts with weights of 4 bits were not measured."""

HEADER: Final = """\
# What kernels reach of an accelerator's peaks, by accelerator. Fields and units: simulator/catalog/kernel_profile.py.
#
# - Written by python -m dse.calibration.shipped. Fitted by dse/calibration/operators.py to published kernels and, where
#   the source is aiconfigurator-core, to tables of operators that engines ran in CUDA graphs.
# - tests/fidelity/test_operators.py and test_engine_operators.py fit them again and check the residuals: median
#   absolute percentage errors, in sample and without the model, shapes, heads or mixture that is predicted.
# - An entry with transferred_from has the coefficients of that accelerator.
# - An accelerator without an entry has those of "datasheet"; processors have those of "cpu".

"""

_NOT_MEASURED = (
    "Experts: not measured; the shares of products here times what experts of rtx-pro-6000 have of its products."
)
NOTES: Final = {
    "a100-80gb": "Norms, rotary embedding and activation: Vidur; experts: SGLang 0.5.10, "
    "weights of 4 bits in Marlin; the rest: vLLM 0.14. "
    "query_tile: by hand, no chunk after earlier context was measured.",
    "a30": "Attention: FlashInfer, whose prefill kernels reach a third of the peak there and switch their tiles "
    "between 128 and 288 tokens. Products, experts and activations: not measured, those of a100-80gb, the same chip "
    "with 56 of its 108 multiprocessors.",
    "a40": "Attention: not measured; of rtx-4090 (FlashAttention 2), its shares times what products reach here over "
    f"there. {_NOT_MEASURED}",
    "b200": "Norms, rotary embedding and activation: shares of h100-sxm. fp4 products and all experts with quantising. "
    "query_tile: by hand, no chunk after earlier context was measured.",
    "h100-sxm": "Norms, rotary embedding and activation: Vidur; the rest: vLLM 0.24. fp8 experts: Triton's, with "
    "quantising, scaled by blocks; fp4: of mxfp4 and int4 weights, computed in bf16 (Triton, Marlin). "
    "query_tile: by hand, no chunk after earlier context was measured.",
    "h200-sxm": "Norms, rotary embedding and activation: shares of h100-sxm; the rest: vLLM 0.24. fp8 experts: "
    "Triton's, with quantising, scaled by blocks; fp4: of mxfp4 and int4 weights, computed in bf16 (Triton, Marlin). "
    "query_tile: by hand, no chunk after earlier context was measured.",
    "l40s": "Norms, rotary embedding and activation: shares of rtx-4090; the rest: vLLM 0.24. A cache of 96 MB holds "
    "what is quantised. fp4 experts: of mxfp4 and int4 weights, computed in bf16 (Marlin). "
    "query_tile: by hand, no chunk after earlier context was measured.",
    "rtx-4090": "One model was measured, so nothing could be held out. Clocked above the datasheet. Shares above 1 of "
    f"the memory bandwidth are those of a cache of 72 MB that holds the activations. {_NOT_MEASURED}",
    "rtx-pro-6000": "Small weights that the benchmark found in the cache (Qwen3 attention, 17 to 21 MB) are left out. "
    "Shares above 1 of the memory bandwidth are those of a cache of 128 MB that holds the activations.",
}


def shipped_profiles(reference: Path) -> dict[str, KernelProfile]:
    """Return the profiles that are fitted or set by hand, by accelerator; the others are ``TRANSFERS``.

    Parameters
    ----------
    reference
        Folder of published measurements, which holds ``operators``.

    Raises
    ------
    SpecError
        If ``aiconfigurator-core`` is not installed.
    """
    measured = read_reference(reference / "operators")
    found = {"datasheet": _by_hand("datasheet"), "cpu": _by_hand("cpu")}

    def fitted(name: str, some: OperatorMeasurements, base: KernelProfile) -> KernelProfile:
        profile = fit_kernels(some, catalog.accelerator(name), base)
        return profile.model_copy(update={"name": name, "note": NOTES[name]})

    pro = fitted("rtx-pro-6000", measured["rtx-pro-6000"], found["datasheet"])
    ada = fitted("rtx-4090", measured["rtx-4090"], found["datasheet"])
    ada = ada.model_copy(update={"grouped": _grouped_like(ada, pro)})
    found |= {"rtx-pro-6000": pro, "rtx-4090": ada}
    bases = {"rtx-4090": ada, "h100-sxm": found["datasheet"], "a100-80gb": found["datasheet"]}
    for name, relative in PASSES.items():
        some = measured_from_tables(name)
        if name in EXPERTS_BACKEND:
            some = replace(some, grouped=measured_from_tables(name, EXPERTS_BACKEND[name]).grouped)
        base = found.get(relative, bases[relative])
        if name == relative:
            passes = measured[name].passes
            own = OperatorMeasurements(passes=passes, source=measured[name].source.partition(";")[0])
            some = some + own
        cleared = base.model_copy(update={"quantised_grouped": {}, "quantise": None, "products": _bf16(base)})
        found[name] = fitted(name, some, cleared)
    a30 = fitted("a30", measured["a30"], found["a100-80gb"])
    a40 = fitted("a40", measured["a40"], found["datasheet"])
    a40 = a40.model_copy(update={"grouped": _grouped_like(a40, pro), "attention": _attention_like(a40, ada)})
    return found | {"a30": a30, "a40": a40}


def _bf16(profile: KernelProfile) -> dict[str, ProductKernels]:
    return {"bf16": profile.products["bf16"]}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _grouped_like(profile: KernelProfile, other: KernelProfile) -> GroupedKernels:
    """Return the experts of another accelerator, their shares times those of products here over there."""
    mine, its, grouped = profile.products["bf16"], other.products["bf16"], other.grouped
    return grouped.model_copy(
        update={
            "compute_share": _rounded(grouped.compute_share * mine.compute_share / its.compute_share),
            "memory_share": _rounded(min(1.0, grouped.memory_share * mine.memory_share / its.memory_share)),
        }
    )


def _attention_like(profile: KernelProfile, other: KernelProfile) -> AttentionKernels:
    """Return the attention of another accelerator, its shares times those of products here over there."""
    mine, its, attention = profile.products["bf16"], other.products["bf16"], other.attention
    memory = mine.memory_share / its.memory_share
    shares = {
        "prefill_compute_share": attention.prefill_compute_share * mine.compute_share / its.compute_share,
        "decode_memory_share": attention.decode_memory_share * memory,
        "token_memory_share": (attention.token_memory_share or 1.0) * memory,
    }
    return attention.model_copy(update={name: _rounded(min(1.0, value)) for name, value in shares.items()})


def _by_hand(name: str) -> KernelProfile:
    """Return the profile for accelerators that nothing is known of: round shares, no tiles and no latencies."""
    compute, attention, memory, note = {
        "datasheet": (
            0.7,
            0.6,
            0.9,
            "Round shares between published measurements: vendor libraries reach 70 to 80 % of dense peak and 80 to "
            "90 % of memory bandwidth on large operands. For every accelerator that has no entry.",
        ),
        "cpu": (
            0.5,
            0.3,
            0.75,
            "Processors: libraries reach about half of the vector or AMX peak and three quarters of the bandwidth.",
        ),
    }[name]
    stream = StreamKernels(latency_us=0, memory_share=memory)
    return KernelProfile(
        name=name,
        calibrated="datasheet",
        source="set by hand",
        date="2026-11-21",
        note=note,
        products={
            "bf16": ProductKernels(latency_us=0, compute_share=compute, tiled=False, memory_share=memory, sharpness=4)
        },
        grouped=GroupedKernels(latency_us=0, compute_share=compute, memory_share=memory, sharpness=4),
        attention=AttentionKernels(latency_us=0, prefill_compute_share=attention, decode_memory_share=memory),
        norm=stream,
        rotary=stream,
        activation=stream,
    )


# ----------------------------------------------------------------------------------------------------------------------
# Writing


class _Dumper(yaml.SafeDumper):
    """Figures of one kind of kernels on a line, none longer than they are exact."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Write everything in full."""
        return True


def _number(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    text = f"{value:.4g}" if abs(value) >= 1e-4 else "0"
    if "e" in text:
        text = repr(float(text))
    return dumper.represent_scalar(f"tag:yaml.org,2002:{'float' if '.' in text else 'int'}", text)


def _mapping(dumper: yaml.SafeDumper, value: Mapping[str, Any]) -> yaml.MappingNode:
    leaf = bool(value) and not any(isinstance(item, dict | list | str) for item in value.values())
    return dumper.represent_mapping("tag:yaml.org,2002:map", value.items(), flow_style=leaf)


_Dumper.add_representer(float, _number)
_Dumper.add_representer(dict, _mapping)


def kernels_text(profiles: Mapping[str, KernelProfile]) -> str:
    """Return the contents of ``kernels.yaml``: profiles set by hand, then the others and ``TRANSFERS`` by name."""
    entries: dict[str, Any] = {
        name: {
            key: value
            for key, value in profile.model_dump(mode="json", exclude_none=True, exclude={"name"}).items()
            if value not in ({}, "")
        }
        for name, profile in profiles.items()
    }
    for name, (relative, note) in TRANSFERS.items():
        entries[name] = {"transferred_from": relative, "note": note}
    names = ["datasheet", "cpu", *sorted(set(entries) - {"datasheet", "cpu"})]
    parts = [
        yaml.dump({name: entries[name]}, Dumper=_Dumper, width=118, sort_keys=False, allow_unicode=True)
        for name in names
    ]
    return HEADER + "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file anew, or to another path: ``REFERENCE_DIR [FILE]``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) not in (1, 2):
        print("usage: python -m dse.calibration.shipped REFERENCE_DIR [FILE]", file=sys.stderr)
        return 2
    target = Path(given[1]) if len(given) == 2 else KERNELS
    text = kernels_text(shipped_profiles(Path(given[0])))
    beside = target.with_name(f"{target.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
