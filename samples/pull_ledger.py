"""The pull's side of the ledger: one transaction per batch, and the questions it asks before."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from domain.errors import LeaseLost
from registry import leases
from registry.content import ContentStore
from registry.ledger.engine import Ledger
from registry.ledger.tables import batch as batch_table
from registry.ledger.tables import quarantine, seen, window, window_batch
from registry.ledger.tables import source as source_table
from samples.schema import MAX_AGE_SECONDS, MAX_LEAD_SECONDS, from_micros
from samples.sources import Cursor
from samples.windows import CLOSED, FILLING, OPEN, window_starts

IDS_PER_QUERY = 5_000
HELD = "held"


@dataclass(frozen=True)
class Pieces:
    """One file of good rows of one window."""

    digest: str
    start: datetime
    sample_ids: list[str]


@dataclass(frozen=True)
class Refused:
    """One row for quarantine: where its payload lies, and the window it would belong to (None for a file)."""

    sample_id: str
    seen_id: str
    reason: str
    payload: dict[str, Any]
    start: datetime | None


@dataclass(frozen=True)
class BatchRecord:
    """Everything that becomes visible with one batch."""

    batch_id: str
    contract_version: str
    window: timedelta
    mark: Cursor
    pieces: list[Pieces]
    refused: list[Refused]


def refused_rows(content: ContentStore, bad: pd.DataFrame, seen_ids: Sequence[str], hours: float) -> list[Refused]:
    """Write the payload of refused rows as one file and return a record of each.

    A row whose event time is missing, or too far from its arrival to be believed, belongs to the window in which it
    arrived: times that a sender makes up can fill no calendar with windows.
    """
    if bad.empty:
        return []
    payload = bad.drop(columns=["seen_id"], errors="ignore").reset_index(drop=True)
    for name in ("model_version", "verdict"):
        if name in payload:
            payload[name] = pd.to_numeric(payload[name], errors="coerce").astype("Int64")
    buffer = io.BytesIO()
    payload.to_parquet(buffer, index=False)
    digest = content.put(buffer.getvalue())
    event, arrival = (pd.to_datetime(payload[name], utc=True) for name in ("event_time", "ingest_time"))
    believed = (event - arrival).dt.total_seconds().between(-MAX_AGE_SECONDS, MAX_LEAD_SECONDS)
    starts = window_starts(event.where(believed, arrival), hours)
    names, reasons = payload["sample_id"].tolist(), payload["reason"].tolist()
    return [
        Refused(
            sample_id=names[position], seen_id=seen_ids[position], reason=reasons[position],
            payload={"digest": digest, "row": position},
            start=None if names[position].startswith("file:") else from_micros(int(starts[position])),
        )
        for position in range(len(payload))
    ]  # fmt: skip


def watermark_of(ledger: Ledger, monitor: str) -> Cursor | None:
    """Return how far the pulls of `monitor` have come, or None before the first."""
    with ledger.read() as connection:
        row = connection.execute(sa.select(source_table).where(source_table.c.monitor == monitor)).one_or_none()
    return None if row is None or row.watermark is None else Cursor(row.watermark, row.cursor_id)


def find_seen(ledger: Ledger, monitor: str, sample_ids: Sequence[str]) -> dict[str, str]:
    """Return the batch of every id that was pulled before."""
    found: dict[str, str] = {}
    with ledger.read() as connection:
        for part in _parts(sample_ids):
            query = sa.select(seen.c.sample_id, seen.c.batch_id).where(
                seen.c.monitor == monitor, seen.c.sample_id.in_(part)
            )
            found.update((row.sample_id, row.batch_id) for row in connection.execute(query))
    return found


def known_digests(
    ledger: Ledger, content: ContentStore, monitor: str, sample_ids: Iterable[str], batches: dict[str, str]
) -> dict[str, str]:
    """Return the row digests of rows that were pulled before, read from the files of their batches."""
    wanted = set(sample_ids)
    names = sorted({batches[sample_id] for sample_id in wanted})
    files: set[str] = set()
    with ledger.read() as connection:
        for part in _parts(names):
            mine = sa.select(window_batch.c.digest).where(
                window_batch.c.monitor == monitor, window_batch.c.batch_id.in_(part)
            )
            files.update(connection.execute(mine).scalars())
            held = sa.select(quarantine.c.payload).where(
                quarantine.c.monitor == monitor, quarantine.c.batch_id.in_(part)
            )
            files.update(str(payload["digest"]) for payload in connection.execute(held).scalars())
    found: dict[str, str] = {}
    for digest in sorted(files):
        frame = pd.read_parquet(io.BytesIO(content.get(digest)), columns=["sample_id", "row_digest"])
        frame = frame[frame["sample_id"].isin(wanted)]
        for sample_id, told in zip(frame["sample_id"], frame["row_digest"], strict=True):
            found.setdefault(str(sample_id), str(told))
    return found


def commit_batch(ledger: Ledger, lease: leases.Lease, record: BatchRecord) -> None:
    """Make one batch visible: seen ids, batch, watermark, windows and quarantine in one transaction.

    Raises:
        LeaseLost: the lease is gone, or somebody else pulled one of the rows; nothing was written.
    """
    monitor, now = lease.monitor, ledger.clock()
    count = sum(len(piece.sample_ids) for piece in record.pieces)
    with ledger.begin() as connection:
        leases.check(connection, lease)
        if count or record.refused:
            connection.execute(
                sa.insert(batch_table).values(
                    monitor=monitor, batch_id=record.batch_id, rows=count, quarantined=len(record.refused),
                    contract_version=record.contract_version, lease_token=lease.token, created_at=now,
                    high_time=record.mark.ingest_time,
                )
            )  # fmt: skip
            _insert_seen(ledger, connection, monitor, record, count + len(record.refused))
            _extend_windows(connection, monitor, record, now)
        if record.refused:
            rows = [
                {"monitor": monitor, "sample_id": row.sample_id, "batch_id": record.batch_id, "state": HELD, "at": now,
                 "window_start": row.start, "contract_version": record.contract_version, "reason": row.reason,
                 "payload": row.payload}
                for row in record.refused
            ]  # fmt: skip
            connection.execute(sa.insert(quarantine), rows)
        _move_watermark(ledger, connection, monitor, record.mark, now)


def settle_windows(ledger: Ledger, lease: leases.Lease) -> None:
    """Open every window that was being filled, so that its revision is shown and never changes again."""
    with ledger.begin() as connection:
        leases.check(connection, lease)
        _set_state(connection, lease.monitor, FILLING, OPEN)


def finish_pull(ledger: Ledger, lease: leases.Lease, mark: Cursor, *, closed_before: datetime) -> None:
    """Move the watermark, open the windows that were filled and close those that ended by `closed_before`."""
    with ledger.begin() as connection:
        leases.check(connection, lease)
        _move_watermark(ledger, connection, lease.monitor, mark, ledger.clock())
        _set_state(connection, lease.monitor, FILLING, OPEN)
        _set_state(connection, lease.monitor, OPEN, CLOSED, window.c.end <= closed_before)


def _set_state(connection: sa.Connection, monitor: str, old: str, new: str, *when: sa.ColumnElement[bool]) -> None:
    chosen = sa.update(window).where(window.c.monitor == monitor, window.c.state == old, *when)
    connection.execute(chosen.values(state=new))


def _insert_seen(ledger: Ledger, connection: sa.Connection, monitor: str, record: BatchRecord, expected: int) -> None:
    rows = [
        {"monitor": monitor, "sample_id": sample_id, "batch_id": record.batch_id, "window_start": piece.start}
        for piece in record.pieces for sample_id in piece.sample_ids
    ]  # fmt: skip
    rows += [
        {"monitor": monitor, "sample_id": row.seen_id, "batch_id": record.batch_id, "window_start": row.start}
        for row in record.refused
    ]
    insert = sqlite_insert(seen) if ledger.is_sqlite else postgres_insert(seen)
    inserted = connection.execute(insert.on_conflict_do_nothing(), rows).rowcount
    if inserted != expected:
        raise LeaseLost(
            f"monitor {monitor!r}: {expected - inserted} of {expected} rows were pulled by somebody else meanwhile; "
            "nothing was written, pull again"
        )


def _extend_windows(connection: sa.Connection, monitor: str, record: BatchRecord, now: datetime) -> None:
    good = {piece.start: piece for piece in record.pieces}
    bad: dict[datetime, int] = {}
    for row in record.refused:
        if row.start is not None:
            bad[row.start] = bad.get(row.start, 0) + 1
    for start in sorted(good.keys() | bad.keys()):
        newest = connection.execute(
            sa.select(window).where(window.c.monitor == monitor, window.c.start == start)
            .order_by(window.c.revision.desc()).limit(1)
        ).one_or_none()  # fmt: skip
        added = len(good[start].sample_ids) if start in good else 0
        rows = added + (newest.rows if newest else 0)
        quarantined = bad.get(start, 0) + (newest.quarantined if newest else 0)
        revision = newest.revision if newest else 0
        if newest is not None and newest.state == FILLING:
            same = sa.and_(window.c.monitor == monitor, window.c.start == start, window.c.revision == revision)
            connection.execute(sa.update(window).where(same).values(rows=rows, quarantined=quarantined))
        else:
            revision += 1
            connection.execute(
                sa.insert(window).values(
                    monitor=monitor, start=start, revision=revision, end=start + record.window, state=FILLING,
                    rows=rows, quarantined=quarantined, created_at=now,
                )
            )  # fmt: skip
        if start in good:
            connection.execute(
                sa.insert(window_batch).values(
                    monitor=monitor, window_start=start, digest=good[start].digest, revision=revision,
                    batch_id=record.batch_id, rows=added,
                )
            )  # fmt: skip


def _move_watermark(ledger: Ledger, connection: sa.Connection, monitor: str, mark: Cursor, now: datetime) -> None:
    insert = sqlite_insert(source_table) if ledger.is_sqlite else postgres_insert(source_table)
    values = {"watermark": mark.ingest_time, "cursor_time": mark.ingest_time, "cursor_id": mark.sample_id}
    fresh = insert.values(monitor=monitor, updated_at=now, **values)
    connection.execute(
        fresh.on_conflict_do_update(index_elements=[source_table.c.monitor], set_={"updated_at": now, **values})
    )


def _parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for offset in range(0, len(values), IDS_PER_QUERY):
        yield values[offset : offset + IDS_PER_QUERY]
