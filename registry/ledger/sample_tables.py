"""The tables that samples/ writes: where the pull stands, what it has seen, windows and quarantine."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Index, String, Table

from registry.ledger.columns import count, digest, identity, metadata, moment, monitor_name, text, version

# -- samples and windows (written by samples/) -------------------------------------------------------------------

source = Table(
    "source",
    metadata,
    monitor_name(key=True),
    moment("cursor_time", nullable=True),
    text("cursor_id"),
    moment("watermark", nullable=True),
    moment("updated_at"),
)

batch = Table(
    "batch",
    metadata,
    monitor_name(key=True),
    Column("batch_id", String(64), primary_key=True),
    digest(nullable=True),
    moment("low_time", nullable=True),
    moment("high_time", nullable=True),
    count("rows"),
    count("quarantined"),
    count("duplicates"),
    text("contract_version"),
    Column("lease_token", BigInteger, nullable=False, server_default="0"),
    moment("created_at"),
)

seen = Table(
    "seen",
    metadata,
    monitor_name(key=True),
    text("sample_id", key=True),
    Column("batch_id", String(64), nullable=False),
    moment("window_start", nullable=True),
)

window = Table(
    "window",
    metadata,
    monitor_name(key=True),
    moment("start", key=True),
    version("revision", key=True),
    moment("end"),
    Column("state", String(20), nullable=False),
    count("rows"),
    count("quarantined"),
    moment("created_at"),
)

window_batch = Table(
    "window_batch",
    metadata,
    monitor_name(key=True),
    moment("window_start", key=True),
    digest(key=True),
    version("revision"),
    Column("batch_id", String(64), nullable=False),
    count("rows"),
)

quarantine = Table(
    "quarantine",
    metadata,
    identity(),
    monitor_name(),
    text("sample_id"),
    Column("batch_id", String(64), nullable=False),
    moment("window_start", nullable=True),
    text("contract_version"),
    text("reason"),
    Column("payload", JSON, nullable=False),
    Column("state", String(20), nullable=False),
    moment("at"),
    Index(None, "monitor", "window_start"),
    Index(None, "monitor", "batch_id"),
)
