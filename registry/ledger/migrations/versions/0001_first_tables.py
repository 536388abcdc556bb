"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _anchor() -> None:
    op.create_table(
        "anchor",
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("reference_digest", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("monitor", name=op.f("pk_anchor")),
    )


def _approval() -> None:
    op.create_table(
        "approval",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("evidence_digest", sa.String(length=64), nullable=False),
        sa.Column("approver", sa.Text(), server_default="", nullable=False),
        sa.Column("verdict", sa.String(length=20), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approval")),
        sa.UniqueConstraint(
            "monitor", "evidence_digest", "approver", name=op.f("uq_approval_monitor_evidence_digest_approver")
        ),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), server_default="", nullable=False),
        sa.Column("action", sa.String(length=60), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("previous_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
        sa.UniqueConstraint("previous_hash", name=op.f("uq_audit_previous_hash")),
    )


def _batch() -> None:
    op.create_table(
        "batch",
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("low_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("high_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rows", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("quarantined", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("duplicates", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("contract_version", sa.Text(), server_default="", nullable=False),
        sa.Column("lease_token", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("monitor", "batch_id", name=op.f("pk_batch")),
    )


def _benchmark() -> None:
    op.create_table(
        "benchmark",
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("uri", sa.Text(), server_default="", nullable=False),
        sa.Column("rows", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("monitor", "digest", name=op.f("pk_benchmark")),
    )


def _decision() -> None:
    op.create_table(
        "decision",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("verdict", sa.String(length=20), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("action", sa.Boolean(), nullable=False),
        sa.Column("bad", sa.Boolean(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("flow_run_id", sa.Text(), server_default="", nullable=False),
        sa.Column("dry_run", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decision")),
        sa.UniqueConstraint(
            "monitor",
            "window_start",
            "revision",
            "version",
            "dry_run",
            name=op.f("uq_decision_monitor_window_start_revision_version_dry_run"),
        ),
    )


def _freeze() -> None:
    op.create_table(
        "freeze",
        sa.Column("scope", sa.String(length=41), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("by", sa.Text(), server_default="", nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_freeze")),
    )


def _gate_attempt() -> None:
    op.create_table(
        "gate_attempt",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("champion_version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("challenger_version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("evidence_digest", sa.String(length=64), nullable=False),
        sa.Column("decision", sa.JSON(), nullable=False),
        sa.Column("alpha_spent", sa.Float(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gate_attempt")),
    )
    op.create_index(op.f("ix_gate_attempt_monitor_at"), "gate_attempt", ["monitor", "at"], unique=False)


def _head() -> None:
    op.create_table(
        "head",
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("monitor", name=op.f("pk_head")),
    )


def _lease() -> None:
    op.create_table(
        "lease",
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("holder", sa.Text(), server_default="", nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("monitor", "kind", name=op.f("pk_lease")),
    )


def _model_version() -> None:
    op.create_table(
        "model_version",
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("key", sa.Text(), server_default="", nullable=False),
        sa.Column("mlflow_model_id", sa.Text(), server_default="", nullable=False),
        sa.Column("run_id", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("quarantined", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("monitor", "version", name=op.f("pk_model_version")),
        sa.UniqueConstraint("monitor", "key", name=op.f("uq_model_version_monitor_key")),
    )


def _monitor() -> None:
    op.create_table(
        "monitor",
        sa.Column("name", sa.String(length=41), nullable=False),
        sa.Column("file_digest", sa.String(length=64), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_monitor")),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("topic", sa.String(length=60), nullable=False),
        sa.Column("key", sa.Text(), server_default="", nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("monitor", "key", name=op.f("uq_outbox_monitor_key")),
    )


def _promotion() -> None:
    op.create_table(
        "promotion",
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("from_version", sa.Integer(), autoincrement=False, nullable=True),
        sa.Column("to_version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("to_digest", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("evidence_digest", sa.Text(), server_default="", nullable=False),
        sa.Column("approver", sa.Text(), server_default="", nullable=False),
        sa.Column("policy_digest", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("monitor", "key", name=op.f("pk_promotion")),
        sa.UniqueConstraint("monitor", "epoch", name=op.f("uq_promotion_monitor_epoch")),
    )


def _quarantine() -> None:
    op.create_table(
        "quarantine",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("sample_id", sa.Text(), server_default="", nullable=False),
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("contract_version", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
    )
    op.create_index(op.f("ix_quarantine_monitor_batch_id"), "quarantine", ["monitor", "batch_id"], unique=False)
    op.create_index(op.f("ix_quarantine_monitor_window_start"), "quarantine", ["monitor", "window_start"], unique=False)


def _report() -> None:
    op.create_table(
        "report",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=True),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_report")),
    )
    op.create_index(op.f("ix_report_monitor_digest"), "report", ["monitor", "digest"], unique=False)
    op.create_index(
        op.f("ix_report_monitor_kind_window_start"), "report", ["monitor", "kind", "window_start"], unique=False
    )


def _seen() -> None:
    op.create_table(
        "seen",
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("sample_id", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("monitor", "sample_id", name=op.f("pk_seen")),
    )


def _source() -> None:
    op.create_table(
        "source",
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("cursor_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cursor_id", sa.Text(), server_default="", nullable=False),
        sa.Column("watermark", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("monitor", name=op.f("pk_source")),
    )


def _step() -> None:
    op.create_table(
        "step",
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("run_key", sa.Text(), nullable=False),
        sa.Column("step", sa.String(length=60), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("input_digest", sa.Text(), server_default="", nullable=False),
        sa.Column("output_digest", sa.Text(), server_default="", nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("flow_run_id", sa.Text(), server_default="", nullable=False),
        sa.Column("mlflow_run_id", sa.Text(), server_default="", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("monitor", "run_key", "step", name=op.f("pk_step")),
    )


def _trigger() -> None:
    op.create_table(
        "trigger",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("idempotency_key", sa.Text(), server_default="", nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("flow_run_id", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trigger")),
        sa.UniqueConstraint("monitor", "idempotency_key", name=op.f("uq_trigger_monitor_idempotency_key")),
    )
    op.create_index(op.f("ix_trigger_state_created_at"), "trigger", ["state", "created_at"], unique=False)


def _window() -> None:
    op.create_table(
        "window",
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("rows", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("quarantined", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("monitor", "start", "revision", name=op.f("pk_window")),
    )


def _window_batch() -> None:
    op.create_table(
        "window_batch",
        sa.Column("monitor", sa.String(length=41), nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("rows", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("monitor", "window_start", "digest", name=op.f("pk_window_batch")),
    )


_TABLES = {
    "monitor": _monitor,
    "model_version": _model_version,
    "head": _head,
    "promotion": _promotion,
    "approval": _approval,
    "anchor": _anchor,
    "gate_attempt": _gate_attempt,
    "lease": _lease,
    "trigger": _trigger,
    "outbox": _outbox,
    "audit": _audit,
    "freeze": _freeze,
    "step": _step,
    "source": _source,
    "batch": _batch,
    "seen": _seen,
    "window": _window,
    "window_batch": _window_batch,
    "quarantine": _quarantine,
    "report": _report,
    "decision": _decision,
    "benchmark": _benchmark,
}


def upgrade() -> None:
    for create in _TABLES.values():
        create()


def downgrade() -> None:
    for name in _TABLES:
        op.drop_table(name)
