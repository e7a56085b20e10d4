"""Retrieval inside decoding: a datastore that is searched for the tokens being generated."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from simulator.spec.base import Spec


class Datastore(Spec):
    """An inverted file of compressed vectors, searched on the processors of one server."""

    cpu: str = Field(description="name of a catalogued server processor")
    devices: int = Field(default=1, ge=1, le=1024, description="processors that hold the index and search it")
    vectors: float = Field(gt=0, description="vectors in the index")
    dimension: int = Field(ge=1, description="elements of a vector")
    bytes_per_vector: float = Field(gt=0, description="bytes of a vector's code")
    centroids: int = Field(ge=1, description="lists of the inverted file")
    probes: int = Field(ge=1, description="lists scanned for a query")
    scan_gb_per_s: float = Field(default=7.05, gt=0, description="codes that one core scans, 1e9 bytes/s")


class Lookup(Spec):
    """A search for every so many generated tokens of each sequence.

    For every token: kNN-LM (arXiv:1911.00172); for every chunk of 64 tokens: RETRO (arXiv:2112.04426).
    """

    us_per_step: float | None = Field(
        default=None, ge=0, description="time of a search whatever its size, microseconds"
    )
    us_per_sequence: float | None = Field(default=None, ge=0, description="time that each sequence adds, microseconds")
    datastore: Datastore | None = Field(default=None, description="index whose search time is used instead")
    every_tokens: int = Field(default=1, ge=1, description="generated tokens from one search to the next")

    @model_validator(mode="after")
    def _times_or_index(self) -> Self:
        times = self.us_per_step is not None or self.us_per_sequence is not None
        if times == (self.datastore is not None):
            raise ValueError(
                f"lookup: {'both' if times else 'neither'} times and a datastore given; allowed: "
                "either us_per_step and us_per_sequence, or datastore"
            )
        return self
