"""Evidence in the ledger: reports, decisions, gate attempts and benchmarks, as values of the domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import delete, func, insert, select

from domain.decisions import Decision, GateDecision
from domain.errors import CorruptFile, LedgerError
from domain.reports import Report
from registry import audit
from registry.freezing import Freeze, freeze, freezes, require_unfrozen, unfreeze
from registry.ledger.engine import Ledger
from registry.ledger.tables import benchmark as benchmark_table
from registry.ledger.tables import decision as decision_table
from registry.ledger.tables import gate_attempt
from registry.ledger.tables import report as report_table
from registry.queues import Trigger, mark_trigger, pending_triggers, write_trigger

__all__ = [
    "BenchmarkRecord",
    "DecisionRecord",
    "Freeze",
    "GateAttempt",
    "Trigger",
    "alpha_spent",
    "decisions",
    "freeze",
    "freezes",
    "gate_attempts",
    "get_benchmark",
    "get_report",
    "latest_report",
    "mark_trigger",
    "pending_triggers",
    "put_benchmark",
    "put_decision",
    "put_gate_attempt",
    "put_report",
    "require_unfrozen",
    "unfreeze",
    "write_trigger",
]

ReportType = TypeVar("ReportType", bound=Report)


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """A decision as it was taken, with the revision of the window it is about."""

    decision: Decision
    revision: int
    at: datetime
    flow_run_id: str
    dry_run: bool


@dataclass(frozen=True, slots=True)
class GateAttempt:
    """One judgement of the gate and the error probability that it used up."""

    decision: GateDecision
    alpha_spent: float
    at: datetime


@dataclass(frozen=True, slots=True)
class BenchmarkRecord:
    """Where a benchmark's bytes lie."""

    monitor: str
    digest: str
    kind: str
    uri: str
    rows: int
    created_at: datetime


def put_report(
    ledger: Ledger,
    monitor: str,
    report: Report,
    *,
    kind: str,
    window_start: datetime | None = None,
    version: int | None = None,
) -> str:
    """Keep a report and return its digest; the same report on the same window is kept once."""
    digest = report.digest
    same = (
        (report_table.c.monitor == monitor)
        & (report_table.c.digest == digest)
        & (report_table.c.kind == kind)
        & report_table.c.window_start.is_not_distinct_from(window_start)
        & report_table.c.version.is_not_distinct_from(version)
    )
    with ledger.begin() as connection:
        if connection.execute(select(report_table.c.id).where(same)).first() is None:
            connection.execute(
                insert(report_table).values(
                    monitor=monitor,
                    digest=digest,
                    kind=kind,
                    window_start=window_start,
                    version=version,
                    content=report.model_dump(mode="json"),
                    created_at=ledger.clock(),
                )
            )
    return digest


def get_report(ledger: Ledger, monitor: str, digest: str, shape: type[ReportType]) -> ReportType:
    """Return the report of that digest.

    Raises:
        LedgerError: there is none.
        CorruptFile: its content has another digest.
    """
    query = select(report_table.c.content).where(report_table.c.monitor == monitor, report_table.c.digest == digest)
    with ledger.read() as connection:
        content = connection.execute(query.limit(1)).scalar_one_or_none()
    if content is None:
        raise LedgerError(f"the ledger has no report {digest} of {monitor!r}")
    report = shape.model_validate(content)
    if report.digest != digest:
        raise CorruptFile(f"report {digest} of {monitor!r} has digest {report.digest}: its row was changed")
    return report


def latest_report(
    ledger: Ledger,
    monitor: str,
    shape: type[ReportType],
    *,
    kind: str,
    window_start: datetime | None = None,
    version: int | None = None,
) -> ReportType | None:
    """Return the newest report of that kind, of that window and version where they are given; None if there is none."""
    query = select(report_table.c.content).where(report_table.c.monitor == monitor, report_table.c.kind == kind)
    if window_start is not None:
        query = query.where(report_table.c.window_start == window_start)
    if version is not None:
        query = query.where(report_table.c.version == version)
    with ledger.read() as connection:
        content = connection.execute(query.order_by(report_table.c.id.desc()).limit(1)).scalar_one_or_none()
    return None if content is None else shape.model_validate(content)


def put_decision(
    ledger: Ledger, decision: Decision, *, revision: int = 0, flow_run_id: str = "", dry_run: bool = False
) -> str:
    """Keep the decision on a window and return its digest; one on the same revision and version replaces it."""
    at, digest = ledger.clock(), decision.digest
    key = {
        "monitor": decision.monitor,
        "window_start": decision.window_start,
        "revision": revision,
        "version": decision.version,
        "dry_run": dry_run,
    }
    values = {
        "verdict": decision.verdict,
        "kind": decision.kind,
        "action": decision.action,
        "bad": decision.bad_window,
        "digest": digest,
        "content": decision.model_dump(mode="json"),
        "at": at,
        "flow_run_id": flow_run_id,
    }
    with ledger.begin() as connection:
        same = [decision_table.c[name] == value for name, value in key.items()]
        connection.execute(delete(decision_table).where(*same))
        connection.execute(insert(decision_table).values(**key, **values))
        payload = {"window_start": decision.window_start.isoformat(), "verdict": decision.verdict, "digest": digest}
        audit.append(connection, monitor=decision.monitor, actor="revet", action="decision", payload=payload, at=at)
    return digest


def decisions(
    ledger: Ledger,
    monitor: str,
    *,
    version: int | None = None,
    before: datetime | None = None,
    limit: int = 100,
    dry_run: bool = False,
) -> list[DecisionRecord]:
    """Return the decision on each window in its latest revision, the newest window first."""
    query = select(decision_table).where(decision_table.c.monitor == monitor, decision_table.c.dry_run == dry_run)
    if version is not None:
        query = query.where(decision_table.c.version == version)
    if before is not None:
        query = query.where(decision_table.c.window_start < before)
    query = query.order_by(
        decision_table.c.window_start.desc(), decision_table.c.revision.desc(), decision_table.c.id.desc()
    )
    found: dict[tuple[datetime, int], DecisionRecord] = {}
    with ledger.read() as connection:
        for row in connection.execute(query):
            record = DecisionRecord(
                Decision.model_validate(row.content), row.revision, row.at, row.flow_run_id, row.dry_run
            )
            found.setdefault((row.window_start, row.version), record)
            if len(found) > limit:
                break
    return list(found.values())[:limit]


def put_gate_attempt(ledger: Ledger, decision: GateDecision, *, alpha_spent: float) -> str:
    """Keep a judgement of the gate, passed or not, and return its digest; the same judgement is kept once."""
    at = ledger.clock()
    with ledger.begin() as connection:
        same = select(gate_attempt.c.id).where(
            gate_attempt.c.monitor == decision.monitor,
            gate_attempt.c.challenger_version == decision.challenger_version,
            gate_attempt.c.evidence_digest == decision.evidence_digest,
        )
        if connection.execute(same).first() is None:
            connection.execute(
                insert(gate_attempt).values(
                    monitor=decision.monitor,
                    champion_version=decision.champion_version,
                    challenger_version=decision.challenger_version,
                    passed=decision.passed,
                    evidence_digest=decision.evidence_digest,
                    decision=decision.model_dump(mode="json"),
                    alpha_spent=alpha_spent,
                    at=at,
                )
            )
            payload = {
                "challenger": decision.challenger_version,
                "passed": decision.passed,
                "evidence": decision.evidence_digest,
            }
            audit.append(connection, monitor=decision.monitor, actor="revet", action="gate", payload=payload, at=at)
    return decision.digest


def gate_attempts(ledger: Ledger, monitor: str, *, challenger_version: int | None = None) -> list[GateAttempt]:
    """Return all judgements of the gate, the newest first."""
    query = select(gate_attempt).where(gate_attempt.c.monitor == monitor)
    if challenger_version is not None:
        query = query.where(gate_attempt.c.challenger_version == challenger_version)
    with ledger.read() as connection:
        rows = connection.execute(query.order_by(gate_attempt.c.id.desc())).all()
    return [GateAttempt(GateDecision.model_validate(row.decision), row.alpha_spent, row.at) for row in rows]


def alpha_spent(ledger: Ledger, monitor: str, since: datetime) -> float:
    """Return the error probability that the attempts since then used up together."""
    query = select(func.coalesce(func.sum(gate_attempt.c.alpha_spent), 0.0)).where(
        gate_attempt.c.monitor == monitor, gate_attempt.c.at >= since
    )
    with ledger.read() as connection:
        return float(connection.execute(query).scalar_one())


def put_benchmark(ledger: Ledger, monitor: str, *, digest: str, kind: str, uri: str, rows: int) -> None:
    """Record a benchmark; the same digest is recorded once."""
    with ledger.begin() as connection:
        same = (benchmark_table.c.monitor == monitor) & (benchmark_table.c.digest == digest)
        if connection.execute(select(benchmark_table.c.digest).where(same)).first() is None:
            values = {"digest": digest, "kind": kind, "uri": uri, "rows": rows}
            connection.execute(insert(benchmark_table).values(monitor=monitor, created_at=ledger.clock(), **values))


def get_benchmark(ledger: Ledger, monitor: str, *, kind: str) -> BenchmarkRecord | None:
    """Return the newest benchmark of that kind."""
    rows: Sequence[BenchmarkRecord]
    with ledger.read() as connection:
        query = select(benchmark_table).where(benchmark_table.c.monitor == monitor, benchmark_table.c.kind == kind)
        rows = [
            BenchmarkRecord(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name
            for row in connection.execute(query.order_by(benchmark_table.c.created_at.desc()).limit(1))
        ]
    return rows[0] if rows else None
