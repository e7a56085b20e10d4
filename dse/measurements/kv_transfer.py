"""Measured hand-overs of KV from prefill to decode, as the Mooncake project prints them (kvcache-ai/Mooncake, docs)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simulator.errors import SpecError


@dataclass(frozen=True)
class Transfers:
    """Hand-overs of one model on one pair of servers, arrays of shape (rows,).

    Attributes
    ----------
    model, engine, hardware
        What ran, in the words of the source; tensor parallelism over the 8 GPUs of a server.
    network_gb_per_s
        Raw bandwidth of a server's network, 1e9 bytes per second.
    prompt_tokens
        Length of the prompt.
    size_mb
        Size of the KV as printed.
    seconds
        Duration.
    """

    model: str
    engine: str
    hardware: str
    network_gb_per_s: float
    prompt_tokens: npt.NDArray[np.int64]
    size_mb: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]


def read_transfers(path: str | Path) -> list[Transfers]:
    """Return the runs of a table of hand-overs, one for each model, engine and hardware.

    Raises
    ------
    SpecError
        Naming the file, if it cannot be read.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        runs = sorted({(row["model"], row["engine"], row["hardware"], float(row["net_peak_GBps"])) for row in rows})
        found = []
        for model, engine, hardware, network in runs:
            own = [row for row in rows if (row["model"], row["engine"], row["hardware"]) == (model, engine, hardware)]
            found.append(
                Transfers(
                    model=model,
                    engine=engine,
                    hardware=hardware,
                    network_gb_per_s=network,
                    prompt_tokens=np.array([int(row["prompt_tokens"]) for row in own]),
                    size_mb=np.array([float(row["kv_size_MB"]) for row in own]),
                    seconds=np.array([float(row["transfer_ms"]) for row in own]) * 1e-3,
                )
            )
        return found
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror or error}") from None
    except (KeyError, ValueError) as error:
        raise SpecError(f"{path}: not a table of hand-overs: {error}") from None
