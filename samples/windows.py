"""Windows of production: which stored rows belong to `[start, end)`, in revisions that never change.

A window's rows lie in content-addressed Parquet files. A file belongs to the revision that added it and to every later
one, so an old revision can be read again at any time. While a pull adds to a window its new revision is `filling` and
is not shown; then it is `open`, and `closed` once the allowed lateness has passed. A row that arrives even later still
makes a new revision.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from domain.digests import digest_json
from domain.errors import CorruptFile, DataError
from registry.content import ContentStore
from registry.ledger.engine import Ledger
from registry.ledger.tables import window as window_table
from registry.ledger.tables import window_batch
from samples.schema import EPOCH

ROW_DIGEST = "row_digest"  # tells a repeated row from one that only repeats the id
FILLING, OPEN, CLOSED = "filling", "open", "closed"


@dataclass(frozen=True)
class WindowRef:
    """One revision of one window.

    Attributes:
        start, end: `[start, end)` in UTC.
        digests: of the files with its rows, in the order in which they were added.
        rows: rows that kept the contract.
        quarantined: rows of the same time that broke it.
    """

    monitor: str
    start: datetime
    end: datetime
    revision: int
    digests: tuple[str, ...]
    rows: int
    quarantined: int
    state: str

    @property
    def digest(self) -> str:
        """SHA-256 over what the window holds: the same rows give the same digest."""
        return digest_json([self.monitor, self.start.isoformat(), self.end.isoformat(), list(self.digests)])

    @property
    def quarantined_share(self) -> float:
        """Share of the window's rows that broke the contract; 0 of nothing."""
        return self.quarantined / max(self.rows + self.quarantined, 1)


def window_start(moment: datetime, hours: float) -> datetime:
    """Return the start of the window that holds `moment`; windows count from 1970-01-01 00:00 UTC."""
    length = timedelta(hours=hours)
    return EPOCH + ((moment.astimezone(UTC) - EPOCH) // length) * length


def window_starts(times: pd.Series[Any], hours: float) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the window starts of `times` (no missing ones) in microseconds since the epoch, `(n,)`."""
    length = timedelta(hours=hours) // timedelta(microseconds=1)
    micros = pd.DatetimeIndex(pd.to_datetime(times, utc=True)).as_unit("us").asi8
    return np.asarray(micros // length * length, dtype=np.int64)


def list_windows(
    ledger: Ledger,
    monitor: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    all_revisions: bool = False,
) -> list[WindowRef]:
    """Return the newest revision of every window (or all of them) that ends after `since` and by `until`, by start."""
    table = window_table
    query = sa.select(table).where(table.c.monitor == monitor, table.c.state != FILLING)
    if since is not None:
        query = query.where(table.c.end > since)
    if until is not None:
        query = query.where(table.c.end <= until)
    with ledger.read() as connection:
        rows = connection.execute(query.order_by(table.c.start, table.c.revision)).all()
        if not all_revisions:
            rows = list({row.start: row for row in rows}.values())
        files: dict[datetime, list[Any]] = {}
        if rows:
            members = sa.select(window_batch).where(
                window_batch.c.monitor == monitor,
                window_batch.c.window_start >= rows[0].start,
                window_batch.c.window_start <= rows[-1].start,
            )
            for member in connection.execute(members.order_by(window_batch.c.revision, window_batch.c.digest)):
                files.setdefault(member.window_start, []).append(member)
    return [
        WindowRef(
            monitor=monitor, start=row.start, end=row.end, revision=row.revision,
            digests=tuple(item.digest for item in files.get(row.start, []) if item.revision <= row.revision),
            rows=row.rows, quarantined=row.quarantined, state=row.state,
        )
        for row in rows
    ]  # fmt: skip


def find_window(ledger: Ledger, monitor: str, start: datetime, revision: int | None = None) -> WindowRef:
    """Return one window by its start, in its newest or in the given revision.

    Raises:
        DataError: there is no such window or revision.
    """
    found = [
        ref for ref in list_windows(ledger, monitor, since=start, all_revisions=True)
        if ref.start == start and revision in {None, ref.revision}
    ]  # fmt: skip
    if not found:
        wanted = "" if revision is None else f" in revision {revision}"
        raise DataError(f"monitor {monitor!r} has no window that starts at {start.isoformat()}{wanted}; pull first")
    return found[-1]


def window_frame(ledger: Ledger, content: ContentStore, ref: WindowRef) -> pd.DataFrame:
    """Return the window's rows in order of event time and id: the sample columns, then one column per feature.

    Raises:
        CorruptFile: a file is missing, changed, or its rows are not as many as the ledger says.
    """
    del ledger  # the reference names every file by its digest: nothing else is needed, and nothing can have moved
    parts = []
    for digest in ref.digests:
        try:
            parts.append(pd.read_parquet(io.BytesIO(content.get(digest))))
        except ValueError as error:
            raise CorruptFile(f"content {digest} of window {ref.start.isoformat()} is no Parquet: {error}") from error
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["sample_id", "event_time"])
    if len(frame) != ref.rows:
        raise CorruptFile(
            f"window {ref.start.isoformat()} of {ref.monitor!r} has {len(frame)} rows, the ledger says {ref.rows};"
            " restore the content store from a backup"
        )
    frame = frame.drop(columns=ROW_DIGEST, errors="ignore")
    if "object" in frame and bool(frame["object"].isna().any()):
        frame = frame.drop(columns="object")
    return frame.sort_values(["event_time", "sample_id"], kind="stable", ignore_index=True)
