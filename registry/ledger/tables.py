"""The tables of the ledger. Every key is namespaced by its monitor; every time is UTC."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, String, Table, UniqueConstraint

from registry.ledger.columns import count, digest, flag, identity, metadata, moment, monitor_name, text, version
from registry.ledger.sample_tables import batch, quarantine, seen, source, window, window_batch
from registry.ledger.types import BigId

__all__ = [
    "anchor",
    "approval",
    "audit",
    "batch",
    "benchmark",
    "decision",
    "freeze",
    "gate_attempt",
    "head",
    "lease",
    "metadata",
    "model_version",
    "monitor",
    "outbox",
    "promotion",
    "quarantine",
    "report",
    "seen",
    "source",
    "step",
    "trigger",
    "window",
    "window_batch",
]

# -- monitors, models and promotion ------------------------------------------------------------------------------

monitor = Table(
    "monitor",
    metadata,
    Column("name", String(41), primary_key=True),
    digest("file_digest"),
    Column("content", JSON, nullable=False),
    moment("created_at"),
    moment("updated_at"),
)

model_version = Table(
    "model_version",
    metadata,
    monitor_name(key=True),
    version(key=True),
    digest(),
    text("key"),
    text("mlflow_model_id"),
    text("run_id"),
    moment("created_at"),
    flag("quarantined"),
    UniqueConstraint("monitor", "key"),
)

head = Table("head", metadata, monitor_name(key=True), version(), count("epoch"), digest(), moment("updated_at"))

promotion = Table(
    "promotion",
    metadata,
    monitor_name(key=True),
    text("key", key=True),
    Column("kind", String(20), nullable=False),
    version("from_version", nullable=True),
    version("to_version"),
    digest("to_digest"),
    Column("epoch", BigInteger, nullable=False),
    text("evidence_digest"),
    text("approver"),
    text("policy_digest"),
    Column("state", String(20), nullable=False),
    moment("at"),
    UniqueConstraint("monitor", "epoch"),
)

approval = Table(
    "approval",
    metadata,
    identity(),
    monitor_name(),
    version(),
    digest("evidence_digest"),
    text("approver"),
    Column("verdict", String(20), nullable=False),
    moment("at"),
    UniqueConstraint("monitor", "evidence_digest", "approver"),
)

anchor = Table(
    "anchor", metadata, monitor_name(key=True), version(), digest(), text("reference_digest"), moment("created_at")
)

gate_attempt = Table(
    "gate_attempt",
    metadata,
    identity(),
    monitor_name(),
    version("champion_version"),
    version("challenger_version"),
    Column("passed", Boolean, nullable=False),
    digest("evidence_digest"),
    Column("decision", JSON, nullable=False),
    Column("alpha_spent", Float, nullable=False),
    moment("at"),
    Index(None, "monitor", "at"),
)

# -- coordination ------------------------------------------------------------------------------------------------

lease = Table(
    "lease",
    metadata,
    monitor_name(key=True),
    Column("kind", String(40), primary_key=True),
    text("holder"),
    Column("token", BigInteger, nullable=False),
    moment("expires_at"),
)

trigger = Table(
    "trigger",
    metadata,
    identity(),
    monitor_name(),
    Column("kind", String(40), nullable=False),
    text("idempotency_key"),
    Column("payload", JSON, nullable=False),
    Column("state", String(20), nullable=False),
    moment("created_at"),
    text("flow_run_id"),
    UniqueConstraint("monitor", "idempotency_key"),
    Index(None, "state", "created_at"),
)

outbox = Table(
    "outbox",
    metadata,
    identity(),
    monitor_name(),
    Column("topic", String(60), nullable=False),
    text("key"),
    Column("payload", JSON, nullable=False),
    moment("created_at"),
    moment("sent_at", nullable=True),
    count("attempts"),
    UniqueConstraint("monitor", "key"),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigId, primary_key=True, autoincrement=False),
    monitor_name(),
    moment("at"),
    text("actor"),
    Column("action", String(60), nullable=False),
    Column("payload", JSON, nullable=False),
    digest("previous_hash"),
    digest("hash"),
    UniqueConstraint("previous_hash"),
)

freeze = Table(
    "freeze",
    metadata,
    Column("scope", String(41), primary_key=True),
    text("reason"),
    text("by"),
    moment("at"),
)

step = Table(
    "step",
    metadata,
    monitor_name(key=True),
    text("run_key", key=True),
    Column("step", String(60), primary_key=True),
    Column("state", String(20), nullable=False),
    text("input_digest"),
    text("output_digest"),
    Column("detail", JSON, nullable=False),
    text("flow_run_id"),
    text("mlflow_run_id"),
    moment("updated_at"),
)

# -- evidence ----------------------------------------------------------------------------------------------------

report = Table(
    "report",
    metadata,
    identity(),
    monitor_name(),
    digest(),
    Column("kind", String(40), nullable=False),
    moment("window_start", nullable=True),
    version(nullable=True),
    Column("content", JSON, nullable=False),
    moment("created_at"),
    Index(None, "monitor", "digest"),
    Index(None, "monitor", "kind", "window_start"),
)

decision = Table(
    "decision",
    metadata,
    identity(),
    monitor_name(),
    moment("window_start"),
    version("revision"),
    version(),
    Column("verdict", String(20), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("action", Boolean, nullable=False),
    Column("bad", Boolean, nullable=False),
    digest(),
    Column("content", JSON, nullable=False),
    moment("at"),
    text("flow_run_id"),
    flag("dry_run"),
    UniqueConstraint("monitor", "window_start", "revision", "version", "dry_run"),
)

benchmark = Table(
    "benchmark",
    metadata,
    monitor_name(key=True),
    digest(key=True),
    Column("kind", String(40), nullable=False),
    text("uri"),
    count("rows"),
    moment("created_at"),
)
