"""Facts about hardware and models: data files whose every figure names its source, and one loader."""

from simulator.catalog.accelerator import Accelerator, Precision, ScaleUp
from simulator.catalog.cpu import Cpu
from simulator.catalog.huggingface import model_from_config
from simulator.catalog.loader import (
    accelerator,
    accelerator_names,
    cpu,
    cpu_names,
    device,
    model,
    model_names,
    tier,
    tier_names,
)
from simulator.catalog.model import LatentAttention, MixtureOfExperts, Model, SlidingWindow, StateSpace
from simulator.catalog.tier import TierMemory

__all__ = [
    "Accelerator",
    "Cpu",
    "LatentAttention",
    "MixtureOfExperts",
    "Model",
    "Precision",
    "ScaleUp",
    "SlidingWindow",
    "StateSpace",
    "TierMemory",
    "accelerator",
    "accelerator_names",
    "cpu",
    "cpu_names",
    "device",
    "model",
    "model_from_config",
    "model_names",
    "tier",
    "tier_names",
]
