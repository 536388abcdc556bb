"""Where production samples come from: a SQL sample store, or a folder of Parquet files.

Both yield frames of the same columns, features as JSON text. A file that cannot be read, or that lacks a column, is
no reason to stop: it is reported as a fault, which the pull puts into quarantine, and every other file is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from numbers import Real
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from domain.digests import digest_bytes
from domain.errors import ConfigError
from domain.monitor import SourceSettings
from domain.settings import expand
from samples.schema import EPOCH, SAMPLE_COLUMNS, TIME_COLUMNS, from_micros, times_to_micros, to_micros
from samples.store import SampleStore


@dataclass(frozen=True, order=True)
class Cursor:
    """A place in the order in which rows arrived: `(ingest_time, sample_id)`."""

    ingest_time: datetime = EPOCH
    sample_id: str = ""


@dataclass(frozen=True)
class Fault:
    """A file that could not be read as samples.

    Attributes:
        name: of the file, inside its folder.
        digest: of its bytes; the same file with other bytes is another fault.
        reason: what is wrong, and what would be right.
    """

    name: str
    digest: str
    reason: str


class Source(Protocol):
    """Gives stored samples in pieces of bounded size; `ordered` ones in order of `(ingest_time, sample_id)`."""

    ordered: bool
    faults: list[Fault]

    def read(self, after: Cursor, until: datetime, chunk: int) -> Iterator[pd.DataFrame]:
        """Yield frames of at most `chunk` samples that arrived after `after` and not later than `until`."""
        ...


class StoreSource:
    """Samples of a `SampleStore`, in the order in which they arrived."""

    ordered = True

    def __init__(self, store: SampleStore) -> None:
        self.store = store
        self.faults: list[Fault] = []

    def read(self, after: Cursor, until: datetime, chunk: int) -> Iterator[pd.DataFrame]:
        """Yield frames of at most `chunk` samples, in order of `(ingest_time, sample_id)`."""
        yield from self.store.pages((to_micros(after.ingest_time), after.sample_id), to_micros(until), chunk)


class ParquetSource:
    """Samples in the `*.parquet` files of a folder, by name; sub-folders too.

    A file needs `sample_id`, `event_time` and either `features` (JSON text) or the features as columns of their own.
    Without `ingest_time` the time at which the file was written counts. Memory is bounded by the chunk.
    """

    ordered = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: list[Fault] = []

    def read(self, after: Cursor, until: datetime, chunk: int) -> Iterator[pd.DataFrame]:
        """Yield frames of at most `chunk` samples, file by file.

        A file that was written after `after` is read whole, whatever the ingest times in it say: a file that arrives
        late, or was repaired, is not lost. What was pulled before is recognised by its id.

        Raises:
            ConfigError: the folder does not exist.
        """
        if not self.folder.is_dir():
            raise ConfigError(f"source.path {self.folder} is no folder; give one that holds Parquet files")
        self.faults = []
        for path in sorted(self.folder.rglob("*.parquet")):
            try:
                yield from self._read_file(path, after, until, chunk)
            except (OSError, pa.ArrowException, _NotSamples) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                name = str(path.relative_to(self.folder))
                self.faults.append(Fault(name, _digest(path), f"file {name} cannot be read as samples: {reason}"))

    def _read_file(self, path: Path, after: Cursor, until: datetime, chunk: int) -> Iterator[pd.DataFrame]:
        status = path.stat()
        # A copy may keep the old time of writing; the time of its last change of name or content it cannot keep.
        written = datetime.fromtimestamp(max(status.st_mtime, status.st_ctime), tz=UTC)
        with pq.ParquetFile(path) as file:
            names = set(file.schema_arrow.names)
            if missing := sorted({"sample_id", "event_time"} - names):
                raise _NotSamples(f"the columns {missing} are missing; it has {sorted(names)}")
            if written <= after.ingest_time and _newest(file, names) <= after.ingest_time:
                return
            for piece in file.iter_batches(batch_size=chunk):
                frame = _as_samples(piece.to_pandas(), written)
                yield frame[~(frame["ingest_time"] > pd.Timestamp(until))].reset_index(drop=True)


class _NotSamples(Exception):
    """The file is Parquet, but not of samples."""


def open_source(settings: SourceSettings, default_url: str) -> StoreSource | ParquetSource:
    """Return the source that the monitor's file describes; an empty URL means the workspace's own store."""
    if settings.kind == "parquet":
        return ParquetSource(Path(settings.path).expanduser())
    return StoreSource(SampleStore(store_url(settings, default_url)).create())


def store_url(settings: SourceSettings, default_url: str) -> str:
    """Return the address of the store that holds the monitor's labels, and its samples if it is no Parquet source.

    Raises:
        ConfigError: `source.url` refers to an environment variable that is not set.
    """
    own = settings.url if settings.kind == "store" else ""
    return str(expand(own, "source.url")) or default_url


def _digest(path: Path) -> str:
    try:
        return digest_bytes(path.read_bytes())
    except OSError as error:
        return digest_bytes(str(error).encode())


def _newest(file: pq.ParquetFile, names: set[str]) -> datetime:
    """Return the newest ingest time by the footer's statistics; far in the future where they do not tell."""
    unknown = datetime.max.replace(tzinfo=UTC)
    if "ingest_time" not in names:
        return EPOCH  # then the time of writing is the ingest time
    column = file.schema_arrow.get_field_index("ingest_time")
    newest = EPOCH
    for group in range(file.metadata.num_row_groups):
        statistics = file.metadata.row_group(group).column(column).statistics
        if statistics is None or not statistics.has_min_max or not isinstance(statistics.max, datetime):
            return unknown
        newest = max(newest, statistics.max if statistics.max.tzinfo else statistics.max.replace(tzinfo=UTC))
    return newest


def _as_samples(frame: pd.DataFrame, written: datetime) -> pd.DataFrame:
    """Return the columns of a sample store; times that are none become missing, features become JSON text."""
    samples = pd.DataFrame(index=frame.index)
    for name in SAMPLE_COLUMNS:
        samples[name] = frame.get(name, None)
    if "features" not in frame:
        columns = [name for name in frame if name not in SAMPLE_COLUMNS]
        samples["features"] = [_as_json(record) for record in frame[columns].to_dict(orient="records")]
    for name in TIME_COLUMNS:
        micros = pd.Series(times_to_micros(samples[name]), index=frame.index, dtype="Int64")
        samples[name] = pd.to_datetime(micros, unit="us", utc=True)
    arrived = pd.Timestamp(from_micros(to_micros(written)))
    samples["ingest_time"] = samples["ingest_time"].fillna(arrived)
    return samples


def _as_json(record: Mapping[Any, Any]) -> str:
    """Return features as JSON text; 3.0 is written as 3, since one missing value in a file makes a column real."""
    whole = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in record.items()
    }
    return json.dumps(whole, default=str)


def row_digest(row: Mapping[Any, Any]) -> str:
    """Return what tells two rows of one sample_id apart: features, event time, model and score.

    It depends on the row alone: a verdict of 1 is read as 1 or 1.0, and a missing one as None or NaN, depending on the
    other rows of its chunk.
    """
    told = [_plain(row.get("features")), str(row.get("event_time")), _plain(row.get("model_version"))]
    told += [_plain(row.get("score"), whole=False), _plain(row.get("verdict"))]
    return digest_bytes("\x1f".join(told).encode())[:32]


def _plain(value: Any, *, whole: bool = True) -> str:
    """Return one text for one value, whatever its type: numbers without `.0` if `whole`, all that is missing `None`."""
    if value is None or value is pd.NA or value != value:  # noqa: PLR0124 - only NaN differs from itself
        return "None"
    if not isinstance(value, Real):
        return str(value)
    number = float(value)
    return str(int(number)) if whole and number.is_integer() else str(number)
