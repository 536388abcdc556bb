"""The sample store: every sample that a detector scored, and every label that arrived, in two SQL tables.

Features are stored as the JSON text that the sender produced. A malformed row can therefore be stored, and is
quarantined with a reason when it is pulled, instead of being lost where it arrived. Times are stored as
microseconds since the epoch in UTC: unambiguous, sortable and the same on SQLite and PostgreSQL.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from domain.errors import SchemaMismatch
from samples.schema import (
    LABEL,
    LABEL_COLUMNS,
    MAX_LEAD_SECONDS,
    METADATA,
    SAMPLE,
    SAMPLE_COLUMNS,
    TIME_COLUMNS,
    Objects,
    check_labels,
    from_micros,
    times_to_micros,
    to_micros,
)

IDS_PER_QUERY = 5_000
ROWS_PER_INSERT = 20_000


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SampleStore:
    """Samples and labels behind one SQLAlchemy URL.

    Args:
        url: database URL, for example `sqlite:////path/samples.db` or `postgresql+psycopg://...`.
        clock: gives the ingest time of rows that carry none.
        max_backwards: an ingest time further behind the newest stored one is lifted to the newest, so that a sender
            whose clock jumps back cannot hide rows behind the watermark of a pull.
    """

    def __init__(
        self, url: str, *, clock: Callable[[], datetime] = _utc_now, max_backwards: timedelta = timedelta(hours=1)
    ) -> None:
        self.url = url
        self._clock = clock
        self._max_backwards = max_backwards // timedelta(microseconds=1)
        parsed = sa.make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        self._engine = sa.create_engine(url)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _configure_sqlite)

    def create(self) -> SampleStore:
        """Create the tables where they are missing; returns the store itself."""
        METADATA.create_all(self._engine)
        return self

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    def write_samples(self, frame: pd.DataFrame) -> int:
        """Append samples and return their number; `features` may be JSON text or mappings.

        `event_time` may be missing in a row (it is quarantined later); `ingest_time` defaults to the clock, and counts
        as five minutes ahead of the clock at most.

        Raises:
            SchemaMismatch: `sample_id` or `features` is no column, or a sample_id is empty.
        """
        if missing := [column for column in ("sample_id", "features") if column not in frame]:
            raise SchemaMismatch(f"samples need the columns {missing}; got {sorted(map(str, frame.columns))}")
        if frame.empty:
            return 0
        identifiers = frame["sample_id"]
        if bool((identifiers.isna() | (identifiers.astype(str) == "")).any()):
            raise SchemaMismatch("every sample needs a sample_id that is not empty: it is what makes a pull exact")
        columns: dict[str, Any] = {"sample_id": identifiers.astype(str).to_numpy(dtype=object)}
        for name in ("caller", "subject", "model_digest", "object"):
            columns[name] = _optional(frame, name, str)
        columns["model_version"] = _optional(frame, "model_version", _whole)
        columns["score"] = _optional(frame, "score", _number)
        columns["verdict"] = _optional(frame, "verdict", _whole)
        columns["features"] = np.array([_as_text(value) for value in frame["features"]], dtype=object)
        nothing = np.full(len(frame), None, dtype=object)
        columns["event_time"] = times_to_micros(frame["event_time"]) if "event_time" in frame else nothing
        with self._engine.begin() as connection:
            given = times_to_micros(frame["ingest_time"]) if "ingest_time" in frame else nothing
            columns["ingest_time"] = self._ingest_times(connection, given)
            _insert(connection, SAMPLE, columns)
        return len(frame)

    def now(self) -> datetime:
        """Return the time on the store's clock."""
        return self._clock()

    def _ingest_times(self, connection: sa.Connection, given: Objects) -> Objects:
        """Return when rows arrived: no later than a sender's clock may be ahead, or no pull would find them.

        A stored time that lies after the clock lifts nobody: one wrong clock must not hide the rows of all others.
        """
        now = to_micros(self._clock())
        latest = now + int(MAX_LEAD_SECONDS * 1_000_000)
        past = sa.select(sa.func.max(SAMPLE.c.ingest_time)).where(SAMPLE.c.ingest_time <= now)
        newest = connection.execute(past).scalar()
        times = np.array([now if value is None else min(value, latest) for value in given], dtype=object)
        if newest is not None:
            times[times < newest - self._max_backwards] = newest
        return times

    def write_labels(self, frame: pd.DataFrame) -> int:
        """Append labels and return their number; the samples need not have arrived yet.

        Raises:
            DataError: a value, kind, trust, probability or time is outside what it may be; nothing is written.
        """
        checked = check_labels(frame)
        if checked.empty:
            return 0
        columns = {name: checked[name].astype(object).to_numpy() for name in LABEL_COLUMNS}
        for name in ("inclusion_probability", "family"):
            columns[name] = np.array([None if pd.isna(value) else value for value in columns[name]], dtype=object)
        columns["time"] = times_to_micros(checked["time"])
        with self._engine.begin() as connection:
            _insert(connection, LABEL, columns)
        return len(checked)

    def pages(self, after: tuple[int, str], until: int, chunk: int) -> Iterator[pd.DataFrame]:
        """Yield samples with `after < (ingest_time, sample_id)` and `ingest_time <= until`, ordered, `chunk` at a time.

        Each page is a query of its own, so no transaction stays open while the caller works.
        """
        low: tuple[int, str, int] = (*after, 2**62)
        while True:
            key = sa.tuple_(SAMPLE.c.ingest_time, SAMPLE.c.sample_id, SAMPLE.c.position)
            query = (
                sa.select(*SAMPLE.c)
                .where(key > sa.tuple_(*(sa.literal(part) for part in low)), SAMPLE.c.ingest_time <= until)
                .order_by(SAMPLE.c.ingest_time, SAMPLE.c.sample_id, SAMPLE.c.position)
                .limit(chunk)
            )
            with self._engine.connect() as connection:
                rows = connection.execute(query).fetchall()
            if rows:
                last = rows[-1]
                low = (last.ingest_time, last.sample_id, last.position)
                yield _sample_frame(rows)
            if len(rows) < chunk:
                return

    def read_samples(self, start: datetime, end: datetime) -> pd.DataFrame:
        """Return the samples with event time in `[start, end)`, ordered by event time and id."""
        query = (
            sa.select(*SAMPLE.c)
            .where(SAMPLE.c.event_time >= to_micros(start), SAMPLE.c.event_time < to_micros(end))
            .order_by(SAMPLE.c.event_time, SAMPLE.c.sample_id, SAMPLE.c.position)
        )
        with self._engine.connect() as connection:
            return _sample_frame(connection.execute(query).fetchall())

    def read_labels(
        self,
        sample_ids: Sequence[str] | None = None,
        *,
        window: tuple[datetime, datetime] | None = None,
        as_of: datetime | None = None,
    ) -> pd.DataFrame:
        """Return every label known at `as_of` of the given samples, or of the samples with event time in `window`."""
        query = sa.select(*(LABEL.c[name] for name in LABEL_COLUMNS)).order_by(LABEL.c.time, LABEL.c.position)
        if as_of is not None:
            query = query.where(LABEL.c.time <= to_micros(as_of))
        if window is not None:
            low, high = (to_micros(moment) for moment in window)
            inside = sa.select(SAMPLE.c.sample_id).where(SAMPLE.c.event_time >= low, SAMPLE.c.event_time < high)
            query = query.where(LABEL.c.sample_id.in_(inside))
        rows: list[Any] = []
        with self._engine.connect() as connection:
            if sample_ids is None:
                rows = list(connection.execute(query))
            else:
                identifiers = [str(value) for value in sample_ids]
                for offset in range(0, len(identifiers), IDS_PER_QUERY):
                    part = identifiers[offset : offset + IDS_PER_QUERY]
                    rows += list(connection.execute(query.where(LABEL.c.sample_id.in_(part))))
        frame = pd.DataFrame.from_records([tuple(row) for row in rows], columns=list(LABEL_COLUMNS))
        frame["time"] = pd.to_datetime(frame["time"].astype("int64"), unit="us", utc=True)
        frame["inclusion_probability"] = frame["inclusion_probability"].astype(float)
        return frame

    def newest(self) -> datetime | None:
        """Return the newest ingest time, or None while the store is empty."""
        with self._engine.connect() as connection:
            value = connection.execute(sa.select(sa.func.max(SAMPLE.c.ingest_time))).scalar()
        return None if value is None else from_micros(value)

    def count(self) -> tuple[int, int]:
        """Return the numbers of stored samples and labels."""
        with self._engine.connect() as connection:
            samples = connection.execute(sa.select(sa.func.count()).select_from(SAMPLE)).scalar_one()
            labels = connection.execute(sa.select(sa.func.count()).select_from(LABEL)).scalar_one()
        return int(samples), int(labels)


def _configure_sqlite(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.close()


def _insert(connection: sa.Connection, table: sa.Table, columns: dict[str, Any]) -> None:
    names = list(columns)
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for offset in range(0, len(rows), ROWS_PER_INSERT):
        connection.execute(sa.insert(table), rows[offset : offset + ROWS_PER_INSERT])


def _sample_frame(rows: Sequence[Any]) -> pd.DataFrame:
    names = [column.name for column in SAMPLE.c]
    frame = pd.DataFrame.from_records([tuple(row) for row in rows], columns=names)
    for name in TIME_COLUMNS:
        frame[name] = pd.to_datetime(frame[name].astype("Int64"), unit="us", utc=True)
    return frame[list(SAMPLE_COLUMNS)]


def _optional(frame: pd.DataFrame, name: str, convert: Callable[[Any], Any]) -> Objects:
    if name not in frame:
        return np.full(len(frame), None, dtype=object)
    return np.array([None if pd.isna(value) else convert(value) for value in frame[name]], dtype=object)


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None or number != int(number) else int(number)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, default=float) if isinstance(value, dict) else str(value)
