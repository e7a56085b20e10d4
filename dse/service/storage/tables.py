"""The service's own tables. Trials are in Optuna's, in the same database.

Migrations (``migrations/``) make them; these definitions are what queries are written with.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

STUDIES = Table(
    "service_studies",
    metadata,
    Column("id", String(32), primary_key=True, doc="also the name of the study in Optuna's tables"),
    Column("name", String(200), nullable=False),
    Column("question", Text, nullable=False),
    Column("state", String(16), nullable=False, doc="queued, running, paused, finished, failed, cancelled"),
    Column("asked", String(16), nullable=False, doc="what a person asked of a running study: '', pause, cancel"),
    Column("reason", Text, nullable=False, doc="why it failed"),
    Column("created_s", Float, nullable=False, doc="seconds since 1970 by the database's clock, as all times here"),
    Column("started_s", Float, doc="first start"),
    Column("ended_s", Float),
    Column("idempotency_key", String(200), unique=True),
    Column("revision", Integer, nullable=False, doc="grows with every change of this row"),
    Column("worker", String(64), doc="who has the lease"),
    Column("lease", Integer, nullable=False, doc="number of leases so far: whoever holds an older one may not write"),
    Column("lease_until_s", Float),
    Column("losses", Integer, nullable=False, doc="workers that died over it since it last got on"),
    Column("designs", BigInteger, nullable=False, doc="in the space"),
    Column("trials", Integer, nullable=False, doc="budget"),
    Column("requests", BigInteger, nullable=False, doc="of all workloads together"),
    Column("evaluated", Integer, nullable=False, doc="distinct designs, excluded ones too"),
    Column("simulated", Integer, nullable=False),
    Column("feasible", Integer, nullable=False),
    Column("front", Integer, nullable=False, doc="designs on the front"),
    Column("running_s", Float, nullable=False, doc="wall time over all sessions"),
    # Last, as what stands behind long texts is slow to read from SQLite.
    Column("spec", Text, nullable=False, doc="StudySpec as JSON"),
    Column("outcome", Text, doc="JSON of what only the end knows: certificate, sureness, clock"),
    Index("service_studies_by_state", "state", "created_s"),
    Index("service_studies_by_creation", "created_s", "id"),
)

TRACES = Table(
    "service_traces",
    metadata,
    Column("name", String(100), primary_key=True, doc="what specs call it; never a path"),
    Column("sha256", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("format", String(16), nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("span_s", Float, nullable=False),
    Column("created_s", Float, nullable=False),
)

CHUNKS = Table(
    "service_trace_chunks",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

STUDY_TRACES = Table(
    "service_study_traces",
    metadata,
    Column("study", String(32), ForeignKey("service_studies.id", ondelete="CASCADE"), primary_key=True),
    Column("trace", String(100), ForeignKey("service_traces.name"), primary_key=True),
)

TOKENS = Table(
    "service_tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True, doc="of the token, which is 256 random bits"),
    Column("scope", String(8), nullable=False, doc="read, run (and read), admin (and run)"),
    Column("created_s", Float, nullable=False),
    Column("expires_s", Float),
)

WORKERS = Table(
    "service_workers",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("host", String(200), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("jobs", Integer, nullable=False),
    Column("started_s", Float, nullable=False),
    Column("seen_s", Float, nullable=False),
)
