"""Facts about hardware and models: data files whose every figure names its source, and one loader."""

from simulator.catalog.accelerator import Accelerator, Precision, ScaleUp
from simulator.catalog.cpu import Cpu
from simulator.catalog.huggingface import model_from_config
from simulator.catalog.hypothetical import (
    base_name,
    canonical_name,
    hypothetical_name,
    is_hypothetical,
    split_names,
)
from simulator.catalog.kernel_profile import (
    AttentionKernels,
    GroupedKernels,
    KernelProfile,
    ProductKernels,
    Residual,
    StreamKernels,
)
from simulator.catalog.link_profile import LinkProfile
from simulator.catalog.loader import (
    accelerator,
    accelerator_names,
    cpu,
    cpu_names,
    device,
    engine_names,
    engine_profile,
    kernel_profile,
    link_profile,
    link_profile_names,
    model,
    model_names,
    own_kernel_profile,
    tier,
    tier_names,
)
from simulator.catalog.model import LatentAttention, MixtureOfExperts, Model, SlidingWindow, StateSpace
from simulator.catalog.tier import TierMemory

__all__ = [
    "Accelerator",
    "AttentionKernels",
    "Cpu",
    "GroupedKernels",
    "KernelProfile",
    "LatentAttention",
    "LinkProfile",
    "MixtureOfExperts",
    "Model",
    "Precision",
    "ProductKernels",
    "Residual",
    "ScaleUp",
    "SlidingWindow",
    "StateSpace",
    "StreamKernels",
    "TierMemory",
    "accelerator",
    "accelerator_names",
    "base_name",
    "canonical_name",
    "cpu",
    "cpu_names",
    "device",
    "engine_names",
    "engine_profile",
    "hypothetical_name",
    "is_hypothetical",
    "kernel_profile",
    "link_profile",
    "link_profile_names",
    "model",
    "model_from_config",
    "model_names",
    "own_kernel_profile",
    "split_names",
    "tier",
    "tier_names",
]
