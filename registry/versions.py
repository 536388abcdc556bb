"""What the ledger knows of monitors, model versions, the anchor and approvals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select, update

from domain.errors import ArtifactTampered, UnknownMonitor
from domain.monitor import Monitor
from registry import audit
from registry.ledger.engine import Ledger
from registry.ledger.tables import anchor as anchor_table
from registry.ledger.tables import approval, model_version
from registry.ledger.tables import monitor as monitor_table


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered detector as the ledger recorded it."""

    monitor: str
    version: int
    digest: str
    key: str
    mlflow_model_id: str
    run_id: str
    created_at: datetime
    quarantined: bool


@dataclass(frozen=True, slots=True)
class Anchor:
    """The frozen past champion and reference that are never re-based."""

    monitor: str
    version: int
    digest: str
    reference_digest: str
    created_at: datetime


def put_monitor(ledger: Ledger, monitor: Monitor) -> None:
    """Record the monitor's file; a changed file replaces the content and is audited."""
    at, content = ledger.clock(), monitor.model_dump(mode="json")
    with ledger.begin() as connection:
        known = connection.execute(
            select(monitor_table.c.file_digest).where(monitor_table.c.name == monitor.name)
        ).scalar_one_or_none()
        if known == monitor.digest:
            return
        values = {"file_digest": monitor.digest, "content": content, "updated_at": at}
        if known is None:
            connection.execute(insert(monitor_table).values(name=monitor.name, created_at=at, **values))
        else:
            connection.execute(update(monitor_table).where(monitor_table.c.name == monitor.name).values(**values))
        payload = {"file_digest": monitor.digest, "before": known}
        audit.append(connection, monitor=monitor.name, actor="revet", action="monitor.put", payload=payload, at=at)


def get_monitor(ledger: Ledger, name: str) -> Monitor:
    """Return the monitor as it was last recorded.

    Raises:
        UnknownMonitor: there is none of that name.
    """
    with ledger.read() as connection:
        content = connection.execute(
            select(monitor_table.c.content).where(monitor_table.c.name == name)
        ).scalar_one_or_none()
    if content is None:
        raise UnknownMonitor(f"no monitor {name!r} in the ledger; it has {list_monitors(ledger)}")
    return Monitor.model_validate(content)


def list_monitors(ledger: Ledger) -> list[str]:
    """Return the names of all monitors."""
    with ledger.read() as connection:
        return list(connection.execute(select(monitor_table.c.name).order_by(monitor_table.c.name)).scalars())


def record_version(
    ledger: Ledger, monitor: str, *, version: int, digest: str, key: str, model_id: str, run_id: str
) -> ModelVersion:
    """Record a registered version, so that it may be promoted, and return it; idempotent.

    Raises:
        ArtifactTampered: the version or the key is recorded with another digest.
    """
    with ledger.begin() as connection:
        rows = connection.execute(
            select(model_version).where(
                model_version.c.monitor == monitor,
                (model_version.c.version == version) | (model_version.c.key == key),
            )
        ).all()
        for row in rows:
            if (row.version, row.digest, row.key) != (version, digest, key):
                raise ArtifactTampered(
                    f"{monitor!r}: the ledger has version {row.version}, key {row.key!r}, digest {row.digest}; "
                    f"refused version {version}, key {key!r}, digest {digest}"
                )
        if not rows:
            connection.execute(
                insert(model_version).values(
                    monitor=monitor,
                    version=version,
                    digest=digest,
                    key=key,
                    mlflow_model_id=model_id,
                    run_id=run_id,
                    created_at=ledger.clock(),
                )
            )
    return versions(ledger, monitor, version)[0]


def versions(ledger: Ledger, monitor: str, version: int | None = None) -> list[ModelVersion]:
    """Return the recorded versions of `monitor`, the newest first; only `version` if it is given."""
    query = select(model_version).where(model_version.c.monitor == monitor)
    if version is not None:
        query = query.where(model_version.c.version == version)
    with ledger.read() as connection:
        rows = connection.execute(query.order_by(model_version.c.version.desc())).all()
    return [ModelVersion(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name


def set_anchor(ledger: Ledger, monitor: str, *, version: int, digest: str, reference_digest: str) -> Anchor:
    """Freeze the anchor if there is none, and return the anchor; a second call changes nothing."""
    at = ledger.clock()
    with ledger.begin() as connection:
        known = connection.execute(select(anchor_table.c.version).where(anchor_table.c.monitor == monitor)).first()
        if known is None:
            values = {"version": version, "digest": digest, "reference_digest": reference_digest}
            connection.execute(insert(anchor_table).values(monitor=monitor, created_at=at, **values))
            audit.append(connection, monitor=monitor, actor="revet", action="anchor.set", payload=values, at=at)
    found = get_anchor(ledger, monitor)
    if found is None:  # only a deleted row could do that
        raise UnknownMonitor(f"the anchor of {monitor!r} vanished from the ledger")
    return found


def get_anchor(ledger: Ledger, monitor: str) -> Anchor | None:
    """Return the anchor of `monitor`, or None before bootstrap."""
    with ledger.read() as connection:
        row = connection.execute(select(anchor_table).where(anchor_table.c.monitor == monitor)).one_or_none()
    return Anchor(**row._mapping) if row else None  # noqa: SLF001 - SQLAlchemy's public name


def approve(ledger: Ledger, monitor: str, *, version: int, evidence_digest: str, approver: str, granted: bool) -> None:
    """Record a person's approval or refusal, bound to the evidence; a second word of the same person replaces it."""
    at, verdict = ledger.clock(), "granted" if granted else "refused"
    same = (
        (approval.c.monitor == monitor)
        & (approval.c.evidence_digest == evidence_digest)
        & (approval.c.approver == approver)
    )
    with ledger.begin() as connection:
        values = {"version": version, "verdict": verdict, "at": at}
        if connection.execute(update(approval).where(same).values(**values)).rowcount == 0:
            key = {"monitor": monitor, "evidence_digest": evidence_digest, "approver": approver}
            connection.execute(insert(approval).values(**key, **values))
        payload = {"version": version, "evidence_digest": evidence_digest, "verdict": verdict}
        audit.append(connection, monitor=monitor, actor=approver, action="approval", payload=payload, at=at)


def approver_of(ledger: Ledger, monitor: str, *, version: int, evidence_digest: str) -> str:
    """Return who approved this version on this evidence, or an empty text; one refusal outweighs all approvals."""
    with ledger.read() as connection:
        rows = connection.execute(
            select(approval.c.approver, approval.c.verdict)
            .where(
                approval.c.monitor == monitor,
                approval.c.version == version,
                approval.c.evidence_digest == evidence_digest,
            )
            .order_by(approval.c.at)
        ).all()
    if any(row.verdict == "refused" for row in rows):
        return ""
    return next((str(row.approver) for row in rows), "")
