"""Studies, traces, tokens and workers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "service_studies",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("asked", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
        sa.Column("started_s", sa.Float),
        sa.Column("ended_s", sa.Float),
        sa.Column("idempotency_key", sa.String(200), unique=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("worker", sa.String(64)),
        sa.Column("lease", sa.Integer, nullable=False),
        sa.Column("lease_until_s", sa.Float),
        sa.Column("losses", sa.Integer, nullable=False),
        sa.Column("designs", sa.BigInteger, nullable=False),
        sa.Column("trials", sa.Integer, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("evaluated", sa.Integer, nullable=False),
        sa.Column("simulated", sa.Integer, nullable=False),
        sa.Column("feasible", sa.Integer, nullable=False),
        sa.Column("front", sa.Integer, nullable=False),
        sa.Column("running_s", sa.Float, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text),
    )
    op.create_index("service_studies_by_state", "service_studies", ["state", "created_s"])
    op.create_index("service_studies_by_creation", "service_studies", ["created_s", "id"])
    op.create_table(
        "service_traces",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("span_s", sa.Float, nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
    )
    op.create_table(
        "service_trace_chunks",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "service_study_traces",
        sa.Column("study", sa.String(32), sa.ForeignKey("service_studies.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("trace", sa.String(100), sa.ForeignKey("service_traces.name"), primary_key=True),
    )
    op.create_table(
        "service_tokens",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("scope", sa.String(8), nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
        sa.Column("expires_s", sa.Float),
    )
    op.create_table(
        "service_workers",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("host", sa.String(200), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("jobs", sa.Integer, nullable=False),
        sa.Column("started_s", sa.Float, nullable=False),
        sa.Column("seen_s", sa.Float, nullable=False),
    )
