"""Measured collectives: the formats of Vidur (microsoft/vidur) and of APEX (microsoft/apex_plus)."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from simulator.errors import SpecError

Floats = npt.NDArray[np.float64]

_NAMES: Final = {"alltoall": "all_to_all", "sendrecv": "send_recv"}
"""What the formats call a collective, where this project calls it otherwise."""


@dataclass(frozen=True)
class Collectives:
    """Times of one collective each, all arrays of shape (rows,).

    Attributes
    ----------
    platform
        What the source calls the machine.
    collective
        ``all_reduce``, ``all_gather``, ``reduce_scatter``, ``all_to_all`` or ``send_recv``.
    workers, per_node
        Participants, and those of them in one server.
    message_bytes
        Size as NCCL-tests count it: the whole tensor, for an all-to-all what one participant sends.
    seconds
        Duration.
    """

    platform: npt.NDArray[np.str_]
    collective: npt.NDArray[np.str_]
    workers: npt.NDArray[np.int64]
    per_node: npt.NDArray[np.int64]
    message_bytes: Floats
    seconds: Floats

    def where(self, condition: npt.NDArray[np.bool_]) -> Collectives:
        """Return the rows for which a condition holds."""
        return Collectives(**{name: column[condition] for name, column in vars(self).items()})

    def groups(self) -> list[tuple[tuple[str, str, int, int], Collectives]]:
        """Return the rows of each (platform, collective, workers, workers of a server), sorted."""
        keys = list(
            zip(
                self.platform.tolist(),
                self.collective.tolist(),
                self.workers.tolist(),
                self.per_node.tolist(),
                strict=True,
            )
        )
        return [(key, self.where(np.array([other == key for other in keys]))) for key in sorted(set(keys))]


def read_vidur(path: str | Path) -> Collectives:
    """Return the rows of a table ``platform, collective, size_bytes, num_workers, devices_per_node, median_ms``.

    Raises
    ------
    SpecError
        Naming the file, if it cannot be read.
    """

    def row(cells: dict[str, str]) -> tuple[str, str, int, int, float, float]:
        return (
            cells["platform"],
            cells["collective"],
            int(cells["num_workers"]),
            int(cells["devices_per_node"]),
            float(cells["size_bytes"]),
            float(cells["median_ms"]) * 1e-3,
        )

    return _read([Path(path)], row)


def read_apex(folder: str | Path) -> Collectives:
    """Return the rows of a folder of tables, one for each collective of one machine.

    Columns are ``num_nodes, num_gpus_per_node, size(kb), time(us)``; sizes count 1024 bytes. Rows of more than 16
    participants are left out: in them sizes stand in the place of participants.

    Raises
    ------
    SpecError
        Naming the file, if it cannot be read.
    """
    files = sorted(Path(folder).glob("*.csv"))
    if not files:
        raise SpecError(f"{folder}: no .csv file in it")
    parts = []
    for file in files:

        def row(cells: dict[str, str], name: str = file.stem) -> tuple[str, str, int, int, float, float]:
            each = int(cells["num_gpus_per_node"])
            return (
                Path(folder).name,
                name,
                int(cells["num_nodes"]) * each,
                each,
                float(cells["size(kb)"]) * 1024,
                float(cells["time(us)"]) * 1e-6,
            )

        parts.append(_read([file], row))
    joined = Collectives(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})
    return joined.where(joined.workers <= 16)


def _read(
    files: Iterable[Path], row: Callable[[dict[str, str]], tuple[str, str, int, int, float, float]]
) -> Collectives:
    found = []
    for path in files:
        try:
            with path.open(newline="", encoding="utf-8") as lines:
                found += [row(cells) for cells in csv.DictReader(lines)]
        except OSError as error:
            raise SpecError(f"{path}: {error.strerror or error}") from None
        except (KeyError, ValueError) as error:
            raise SpecError(f"{path}: not a table of collectives: {error}") from None
    platform, collective, workers, per_node, sizes, seconds = zip(*found, strict=True)
    return Collectives(
        platform=np.array(platform),
        collective=np.array([_NAMES.get(name, name) for name in collective]),
        workers=np.array(workers),
        per_node=np.array(per_node),
        message_bytes=np.array(sizes),
        seconds=np.array(seconds),
    )
