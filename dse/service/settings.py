"""What whoever runs the service decides: where things are kept, who may do what, and how much."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, field_validator

from simulator.spec.base import Spec

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")
DATABASE: Final = "service.db"
"""SQLite file in the data folder, where no database is named."""


class Limits(Spec):
    """Upper limits, so that one person's request leaves room for the others'."""

    body_bytes: int = Field(default=1_000_000, ge=1_000, description="of a request that is not an upload")
    upload_bytes: int = Field(default=500_000_000, ge=1_000, description="of one uploaded trace")
    uploads_bytes: int = Field(default=5_000_000_000, ge=1_000, description="of all uploaded traces together")
    trials: int = Field(default=20_000, ge=1, description="designs that a study may simulate")
    requests: int = Field(default=2_000_000, ge=1, description="requests of a study's workloads together")
    once_requests: int = Field(default=200_000, ge=1, description="requests of a simulation that is answered at once")
    once_s: float = Field(default=60.0, gt=0, description="seconds that an answer at once may take")
    active_studies: int = Field(default=100, ge=1, description="studies that wait or run at the same time")
    studies: int = Field(default=10_000, ge=1, description="studies that are kept, those that have ended too")
    study_s: float = Field(default=86_400.0, gt=0, description="seconds that a study may run")
    memory_gb: float = Field(default=8.0, gt=0, description="memory of each process that simulates")
    watchers: int = Field(default=1_000, ge=1, description="open event streams")
    reads_per_s: int = Field(default=2_000, ge=1, description="requests that read, for each token or address")
    writes_per_minute: int = Field(default=600, ge=1, description="requests that change or compute something")


class Settings(Spec):
    """Settings of a server and its workers."""

    data: Annotated[Path, Field(strict=False)] = Field(description="folder for the database and copies of traces")
    storage: str | None = Field(default=None, description="URL of a database; SQLite in the data folder if absent")
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65_535, description="port to listen on; 0: any that is free")
    lease_s: float = Field(default=15.0, ge=1.0, description="after so long without a sign of life, a worker is gone")
    hosts: tuple[str, ...] = Field(default=(), description="further names under which the server is reached")
    dashboard: str | None = Field(default=None, description="address of an optuna-dashboard on the same database")
    limits: Limits = Field(default_factory=Limits, description="upper limits")

    @field_validator("hosts")
    @classmethod
    def _names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for name in hosts:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name; allowed: such as studies.example.com, without a port")
        return hosts

    @property
    def url(self) -> str:
        """URL of the database."""
        return self.storage or f"sqlite:///{self.data / DATABASE}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server, so that no token is required."""
        return self.host in {"127.0.0.1", "::1", "localhost"}

    def prepared(self) -> Self:
        """Make the data folder; one that was not there is readable by its owner alone."""
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self
