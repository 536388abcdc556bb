"""Work that waits in the ledger: triggers, the outbox of alerts, and the steps of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from registry.ledger.engine import Ledger
from registry.ledger.tables import outbox, step
from registry.ledger.tables import trigger as trigger_table

TriggerState = Literal["PENDING", "DISPATCHED", "DONE", "FAILED"]
StepState = Literal["RUNNING", "DONE", "FAILED", "ABORTED"]


@dataclass(frozen=True, slots=True)
class Trigger:
    """A wish that a flow runs once; who dispatches it is the flows' business."""

    id: int
    monitor: str
    kind: str
    idempotency_key: str
    payload: dict[str, Any]
    state: str
    created_at: datetime
    flow_run_id: str


@dataclass(frozen=True, slots=True)
class Message:
    """Something to tell the world; delivered at least once, so receivers drop repeats by `id`."""

    id: int
    monitor: str
    topic: str
    key: str
    payload: dict[str, Any]
    created_at: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class Step:
    """How far one step of a run came, and what it made."""

    state: str
    input_digest: str
    output_digest: str
    detail: dict[str, Any]
    flow_run_id: str
    mlflow_run_id: str
    updated_at: datetime


def write_trigger(
    ledger: Ledger, monitor: str, *, kind: str, idempotency_key: str, payload: Mapping[str, Any] | None = None
) -> Trigger:
    """Write a trigger and return it; the one that has this key already is returned instead."""
    same = (trigger_table.c.monitor == monitor) & (trigger_table.c.idempotency_key == idempotency_key)
    try:
        with ledger.begin() as connection:
            if connection.execute(select(trigger_table.c.id).where(same)).first() is None:
                connection.execute(
                    insert(trigger_table).values(
                        monitor=monitor,
                        kind=kind,
                        idempotency_key=idempotency_key,
                        payload=dict(payload or {}),
                        state="PENDING",
                        created_at=ledger.clock(),
                    )
                )
    except IntegrityError:  # another process wrote the same trigger first; its row is read below
        pass
    with ledger.read() as connection:
        return _trigger(connection.execute(select(trigger_table).where(same)).one())


def pending_triggers(ledger: Ledger, monitor: str | None = None) -> list[Trigger]:
    """Return triggers that nobody dispatched yet, the oldest first."""
    query = select(trigger_table).where(trigger_table.c.state == "PENDING").order_by(trigger_table.c.id)
    if monitor is not None:
        query = query.where(trigger_table.c.monitor == monitor)
    with ledger.read() as connection:
        return [_trigger(row) for row in connection.execute(query)]


def mark_trigger(ledger: Ledger, trigger_id: int, *, state: TriggerState, flow_run_id: str = "") -> None:
    """Set the state of a trigger; a flow-run id that is known already stays when none is given."""
    values: dict[str, Any] = {"state": state} | ({"flow_run_id": flow_run_id} if flow_run_id else {})
    with ledger.begin() as connection:
        connection.execute(update(trigger_table).where(trigger_table.c.id == trigger_id).values(**values))


def post(
    connection: Connection, monitor: str, *, topic: str, key: str, payload: Mapping[str, Any], at: datetime
) -> None:
    """Put a message into the outbox in the caller's transaction; one with this key already stands alone."""
    same = (outbox.c.monitor == monitor) & (outbox.c.key == key)
    if connection.execute(select(outbox.c.id).where(same)).first() is None:
        values = {"topic": topic, "key": key, "payload": dict(payload), "created_at": at}
        connection.execute(insert(outbox).values(monitor=monitor, **values))


def unsent(ledger: Ledger, monitor: str | None = None, limit: int = 100) -> list[Message]:
    """Return messages that were not delivered yet, the oldest first."""
    query = select(outbox).where(outbox.c.sent_at.is_(None)).order_by(outbox.c.id).limit(limit)
    if monitor is not None:
        query = query.where(outbox.c.monitor == monitor)
    with ledger.read() as connection:
        return [
            Message(row.id, row.monitor, row.topic, row.key, row.payload, row.created_at, row.attempts)
            for row in connection.execute(query)
        ]


def mark_sent(ledger: Ledger, message_id: int, *, delivered: bool) -> None:
    """Count an attempt to deliver, and note the time if it succeeded."""
    values: dict[str, Any] = {"attempts": outbox.c.attempts + 1} | ({"sent_at": ledger.clock()} if delivered else {})
    with ledger.begin() as connection:
        connection.execute(update(outbox).where(outbox.c.id == message_id).values(**values))


def put_step(
    ledger: Ledger,
    monitor: str,
    run_key: str,
    name: str,
    *,
    state: StepState,
    input_digest: str = "",
    output_digest: str = "",
    detail: Mapping[str, Any] | None = None,
    flow_run_id: str = "",
    mlflow_run_id: str = "",
) -> None:
    """Set the state of a step of a run; the row is made where there is none."""
    same = (step.c.monitor == monitor) & (step.c.run_key == run_key) & (step.c.step == name)
    values = {
        "state": state,
        "input_digest": input_digest,
        "output_digest": output_digest,
        "detail": dict(detail or {}),
        "flow_run_id": flow_run_id,
        "mlflow_run_id": mlflow_run_id,
        "updated_at": ledger.clock(),
    }
    with ledger.begin() as connection:
        if connection.execute(update(step).where(same).values(**values)).rowcount == 0:
            connection.execute(insert(step).values(monitor=monitor, run_key=run_key, step=name, **values))


def get_step(ledger: Ledger, monitor: str, run_key: str, name: str) -> Step | None:
    """Return a step of a run, or None if it never began."""
    same = (step.c.monitor == monitor) & (step.c.run_key == run_key) & (step.c.step == name)
    with ledger.read() as connection:
        row = connection.execute(select(step).where(same)).one_or_none()
    if row is None:
        return None
    return Step(
        row.state, row.input_digest, row.output_digest, row.detail, row.flow_run_id, row.mlflow_run_id, row.updated_at
    )


def abort_steps(ledger: Ledger, *, flow_run_id: str) -> int:
    """Mark what a cancelled flow run left RUNNING as ABORTED; return how many steps that were."""
    with ledger.begin() as connection:
        left = (step.c.flow_run_id == flow_run_id) & (step.c.state == "RUNNING")
        at = ledger.clock()
        return connection.execute(update(step).where(left).values(state="ABORTED", updated_at=at)).rowcount


def _trigger(row: Any) -> Trigger:
    return Trigger(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name
