"""The two tables of the sample store, the times in them, and what a label may be."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from domain.errors import DataError, SchemaMismatch

SAMPLE_COLUMNS = (
    "sample_id", "event_time", "ingest_time", "caller", "subject", "model_version", "model_digest", "features",
    "score", "verdict", "object",
)  # fmt: skip
LABEL_COLUMNS = ("sample_id", "value", "kind", "labeller", "trust", "inclusion_probability", "time", "family")
LABEL_KINDS = ("alert", "audit", "feed")
TIME_COLUMNS = ("event_time", "ingest_time")
Objects = np.ndarray[Any, np.dtype[np.object_]]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_LEAD_SECONDS = 300.0  # a sender's clock may run this far ahead of the store's
MAX_AGE_SECONDS = 30 * 86_400.0  # an event may have happened this long before it arrived
_BARE_NUMBER = re.compile(r"\s*[+-]?\d+([.,]\d*)?\s*")

METADATA = sa.MetaData()
_POSITION = sa.BigInteger().with_variant(sa.Integer, "sqlite")
SAMPLE = sa.Table(
    "sample", METADATA,
    sa.Column("position", _POSITION, primary_key=True, autoincrement=True),
    sa.Column("sample_id", sa.Text, nullable=False),
    sa.Column("event_time", sa.BigInteger),
    sa.Column("ingest_time", sa.BigInteger, nullable=False),
    sa.Column("caller", sa.Text),
    sa.Column("subject", sa.Text),
    sa.Column("model_version", sa.Integer),
    sa.Column("model_digest", sa.Text),
    sa.Column("features", sa.Text),
    sa.Column("score", sa.Double),
    sa.Column("verdict", sa.Integer),
    sa.Column("object", sa.Text),  # the raw object behind the features, such as a URL, where there is one
    sa.Index("sample_by_ingest", "ingest_time", "sample_id", "position"),
    sa.Index("sample_by_id", "sample_id"),
)  # fmt: skip
LABEL = sa.Table(
    "label", METADATA,
    sa.Column("position", _POSITION, primary_key=True, autoincrement=True),
    sa.Column("sample_id", sa.Text, nullable=False),  # no foreign key: a label may arrive before its sample
    sa.Column("value", sa.Integer, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("labeller", sa.Text, nullable=False),
    sa.Column("trust", sa.Double, nullable=False),
    sa.Column("inclusion_probability", sa.Double),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("family", sa.Text),
    sa.Index("label_by_sample", "sample_id", "time"),
    sa.Index("label_by_time", "time"),
)  # fmt: skip


def to_micros(moment: datetime) -> int:
    """Return microseconds since the epoch.

    Raises:
        DataError: the moment has no time zone.
    """
    if moment.tzinfo is None:
        raise DataError(f"time {moment.isoformat()} has no time zone: give one, for example {moment.isoformat()}+00:00")
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """Return the UTC moment of `micros` microseconds since the epoch."""
    return EPOCH + timedelta(microseconds=int(micros))


def times_to_micros(values: pd.Series[Any]) -> Objects:
    """Return microseconds as an object array `(n,)`; what is no time becomes None, a time without zone counts as UTC.

    A bare number is no time, also as text: nothing says whether it counts seconds or nanoseconds.
    """
    values = _without_numbers(values)
    times = pd.to_datetime(values, utc=True, errors="coerce", format=None if len(values) == 0 else "mixed")
    missing = times.isna().to_numpy()
    micros = times.dt.as_unit("us").astype("int64").to_numpy().astype(object)
    micros[missing] = None
    return micros


def _without_numbers(values: pd.Series[Any]) -> pd.Series[Any]:
    """Return `values` with None in place of every bare number."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return values
    plain = [None if _is_bare_number(value) else value for value in values]
    return pd.Series(plain, index=values.index, dtype=object)


def _is_bare_number(value: Any) -> bool:
    if isinstance(value, str):
        return _BARE_NUMBER.fullmatch(value) is not None
    return isinstance(value, (Number, np.generic)) and not isinstance(value, np.datetime64)


def _zoned(values: pd.Series[Any]) -> pd.Series[pd.Timestamp]:
    """Return the UTC times of `values`, and none for what is no time or has no zone."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return pd.Series(pd.DatetimeIndex(values).tz_convert("UTC"), index=values.index)
    times = [_zoned_time(value) for value in values]
    return pd.Series(pd.DatetimeIndex(times, dtype="datetime64[us, UTC]"), index=values.index)


def _zoned_time(value: Any) -> pd.Timestamp | None:
    if value is None or _is_bare_number(value):
        return None
    try:
        moment: Any = pd.Timestamp(value)
    except (TypeError, ValueError):
        return None
    return None if pd.isna(moment) or moment.tzinfo is None else moment.tz_convert("UTC")


def check_labels(frame: pd.DataFrame) -> pd.DataFrame:
    """Return labels with every column present and in range.

    Raises:
        DataError: naming the first wrong value, the rule and how many rows break it.
    """
    checked = frame.copy()
    defaults: dict[str, Any] = {"labeller": "", "trust": 1.0, "inclusion_probability": np.nan, "family": None}
    for name, value in defaults.items():
        if name not in checked:
            checked[name] = value
    if missing := [name for name in LABEL_COLUMNS if name not in checked]:
        raise SchemaMismatch(f"labels need the columns {missing}; got {sorted(map(str, frame.columns))}")
    probability = pd.to_numeric(checked["inclusion_probability"], errors="coerce")
    trust = pd.to_numeric(checked["trust"], errors="coerce")
    times = _zoned(checked["time"])
    rules: list[tuple[str, str, pd.Series[bool]]] = [
        ("sample_id", "must not be empty", checked["sample_id"].notna() & (checked["sample_id"].astype(str) != "")),
        ("value", "must be 0 (benign) or 1 (malicious)", checked["value"].isin([0, 1])),
        ("kind", f"must be one of {LABEL_KINDS}", checked["kind"].isin(LABEL_KINDS)),
        ("trust", "must be a number from 0 to 1", (trust >= 0) & (trust <= 1)),
        ("inclusion_probability", "must lie in (0, 1], and an audit label needs one",
         ((probability > 0) & (probability <= 1)) | (probability.isna() & (checked["kind"] != "audit"))),
        ("time", "must be a time with its zone, such as 2026-03-02T09:30:00+00:00", times.notna()),
    ]  # fmt: skip
    for name, rule, holds in rules:
        if not bool(holds.all()):
            example = checked.loc[~holds, name].iloc[0]
            raise DataError(f"labels: {name} {rule}; {int((~holds).sum())} rows break this, the first has {example!r}")
    return checked.assign(
        value=checked["value"].astype(int), trust=trust, inclusion_probability=probability, time=times,
        sample_id=checked["sample_id"].astype(str),
    )  # fmt: skip
