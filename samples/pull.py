"""Pulls production samples into the window store, each exactly once.

Rows are read from behind the watermark minus the allowed lateness, so that a row which commits late at the source is
found; rows that were pulled before are recognised by their ids. A chunk is one batch: its files are written to the
content store first, where a second write is harmless; then ONE ledger transaction checks the lease and writes the seen
ids, the batch, the watermark, the membership of windows and the quarantine. A crash before that transaction leaves
nothing visible, a crash after it leaves nothing to do. Memory is bounded by the chunk.

Rows that break the contract, repeat an id with other content, or cannot be read at all go to quarantine with their
payload, a reason and the contract's version. They never stop the clean rows beside them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd

from domain.digests import digest_json
from domain.features import FeatureSpace
from domain.monitor import Monitor
from registry import leases
from registry.content import ContentStore
from registry.failpoints import failpoint
from registry.ledger.engine import Ledger
from samples.contract.contract import build_contract, validate
from samples.contract.rules import Contract, Judge
from samples.pull_ledger import (
    BatchRecord,
    Pieces,
    commit_batch,
    find_seen,
    finish_pull,
    known_digests,
    refused_rows,
    settle_windows,
    watermark_of,
)
from samples.schema import EPOCH, from_micros
from samples.sources import Cursor, Fault, Source, row_digest
from samples.windows import WindowRef, list_windows, window_starts

CHUNK = 50_000
LEASE_SECONDS = 900.0
LEASE_KIND = "pull"


@dataclass
class PullResult:
    """What one pull did.

    Attributes:
        batches: ids of the batches that it committed, in order.
        rows: rows that went into windows.
        quarantined: rows (and files) that went into quarantine.
        duplicates: rows beyond the watermark that had been pulled before with the same content.
        windows: the newest revision of every window that it changed.
        faults: files that could not be read.
        reasons: how many rows broke which rule of the contract.
    """

    batches: list[str] = field(default_factory=list)
    rows: int = 0
    quarantined: int = 0
    duplicates: int = 0
    windows: list[WindowRef] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)


def pull(
    ledger: Ledger,
    content: ContentStore,
    source: Source,
    *,
    monitor: Monitor,
    space: FeatureSpace,
    as_of: datetime,
    holder: str,
    chunk: int = CHUNK,
    base: Path | None = None,
    judge: Judge | None = None,
) -> PullResult:
    """Move every new sample that had arrived by `as_of` into windows or quarantine, and return what was done.

    Args:
        holder: who holds the lease, for example the id of the flow run.
        chunk: rows that are in memory at a time.
        base: folder from which the monitor's `contract` file counts.
        judge: judges frames in place of Great Expectations.

    Raises:
        LeaseHeld: another pull of this monitor runs.
        LeaseLost: this pull was taken over; what it had committed stays, nothing more was written.
        ConfigError: the hand-written contract is wrong.
    """
    extra = (base or Path.cwd()) / monitor.contract if monitor.contract else None
    contract = build_contract(space, extra)
    lateness = timedelta(hours=monitor.source.allowed_lateness_hours)
    result = PullResult()
    lease = leases.acquire(ledger, monitor.name, LEASE_KIND, holder, LEASE_SECONDS)
    try:
        settle_windows(ledger, lease)  # of a pull that was killed
        mark = watermark_of(ledger, monitor.name)
        # A clock that went back writes behind the watermark: what it writes meanwhile is read from there.
        after = Cursor() if mark is None else Cursor(max(EPOCH, min(mark.ingest_time, as_of) - lateness))
        job = _Job(ledger, content, monitor, contract, source.ordered, mark or Cursor(), judge, result)
        touched: set[datetime] = set()
        for frame in source.read(after, as_of, chunk):
            lease = leases.renew(ledger, lease, LEASE_SECONDS)
            touched |= job.take(frame, lease)
        job.refuse_files(source.faults, as_of, lease)
        finish_pull(ledger, lease, job.mark, closed_before=as_of - lateness)
    finally:
        leases.release(ledger, lease)
    if touched:
        found = list_windows(ledger, monitor.name, since=min(touched))
        result.windows = [ref for ref in found if ref.start in touched]
    return result


@dataclass
class _Job:
    """One pull: where it stands and what it has done."""

    ledger: Ledger
    content: ContentStore
    monitor: Monitor
    contract: Contract
    ordered: bool
    begun: Cursor
    judge: Judge | None
    result: PullResult

    def __post_init__(self) -> None:
        self.mark = self.begun

    def take(self, frame: pd.DataFrame, lease: leases.Lease) -> set[datetime]:
        """Commit the new rows of `frame` as one batch; returns the starts of the windows that changed."""
        if frame.empty:
            return set()
        highest = frame[["ingest_time", "sample_id"]].max()
        self.mark = max(self.mark, Cursor(highest["ingest_time"].to_pydatetime(), str(highest["sample_id"])))
        named, nameless = _split_nameless(frame)
        fresh, conflicts = self._fresh(named)
        checked = validate(fresh.drop(columns="row_digest"), self.contract, self.judge)
        for entry in checked.summary:
            rule = str(entry["rule"])
            self.result.reasons[rule] = self.result.reasons.get(rule, 0) + int(entry["rows"])
        digests = dict(zip(fresh["sample_id"], fresh["row_digest"], strict=True))
        refused = [part for part in (checked.bad, self._unseen(conflicts), self._unseen(nameless)) if len(part)]
        bad = pd.concat(refused or [checked.bad], ignore_index=True)
        bad["row_digest"] = (
            bad["row_digest"].fillna(bad["sample_id"].map(digests))
            if "row_digest" in bad
            else (bad["sample_id"].map(digests))
        )
        good = checked.good.assign(row_digest=checked.good["sample_id"].map(digests))
        return self._commit(good, bad, lease)

    def _fresh(self, frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return rows whose id is new, and rows that repeat an id with other content; same content is dropped."""
        frame["row_digest"] = [row_digest(row) for row in frame.to_dict(orient="records")]
        repeated = frame["sample_id"].duplicated(keep="first")
        first = frame.drop_duplicates("sample_id").set_index("sample_id")["row_digest"]
        differs = repeated & (frame["row_digest"] != frame["sample_id"].map(first))
        beyond = frame["ingest_time"] > pd.Timestamp(self.begun.ingest_time)
        self.result.duplicates += int((repeated & ~differs & beyond).sum())
        seen = find_seen(self.ledger, self.monitor.name, frame["sample_id"].tolist())
        old = frame["sample_id"].isin(seen.keys())
        # Behind the watermark an id that was seen is a row read again; beyond it somebody has sent it again.
        again = old & beyond & ~repeated
        if bool(again.any()):
            before = known_digests(self.ledger, self.content, self.monitor.name, frame.loc[again, "sample_id"], seen)
            other = again & (frame["row_digest"] != frame["sample_id"].map(before))
            self.result.duplicates += int((again & ~other).sum())
            differs |= other
        conflicts = frame[differs].copy()
        conflicts["reason"] = "sample_id was used before for a row with other content; the first row stands"
        return frame[~old & ~repeated].reset_index(drop=True), conflicts

    def _unseen(self, refused: pd.DataFrame) -> pd.DataFrame:
        """Give each refused row an id of its own, and leave out those that are in quarantine already."""
        if refused.empty:
            return refused
        refused = refused.assign(seen_id=refused["sample_id"] + "\x1f" + refused["row_digest"])
        refused = refused.drop_duplicates("seen_id")
        known = find_seen(self.ledger, self.monitor.name, refused["seen_id"].tolist())
        return refused[~refused["seen_id"].isin(known.keys())]

    def _commit(self, good: pd.DataFrame, bad: pd.DataFrame, lease: leases.Lease) -> set[datetime]:
        hours = self.monitor.policy.window_hours
        pieces = list(self._write(good, hours))
        seen_ids = _seen_ids(bad)
        batch = BatchRecord(
            batch_id=digest_json([self.contract.version, sorted(good["sample_id"]), sorted(seen_ids)]),
            contract_version=self.contract.version,
            window=timedelta(hours=hours),
            mark=self.mark if self.ordered else self.begun,
            pieces=pieces,
            refused=refused_rows(self.content, bad, seen_ids, hours),
        )
        failpoint("pull.before-commit")
        commit_batch(self.ledger, lease, batch)
        failpoint("pull.after-commit")
        self.result.rows += len(good)
        self.result.quarantined += len(bad)
        self.result.batches += [batch.batch_id] if len(good) or len(bad) else []
        return {piece.start for piece in pieces} | {row.start for row in batch.refused if row.start is not None}

    def _write(self, good: pd.DataFrame, hours: float) -> Iterator[Pieces]:
        """Write one Parquet file per window; yields its digest, window and ids."""
        if good.empty:
            return
        for start, rows in good.groupby(window_starts(good["event_time"], hours), sort=True):
            buffer = io.BytesIO()
            rows.reset_index(drop=True).to_parquet(buffer, index=False)
            digest = self.content.put(buffer.getvalue())
            yield Pieces(digest, from_micros(int(str(start))), rows["sample_id"].tolist())

    def refuse_files(self, faults: list[Fault], as_of: datetime, lease: leases.Lease) -> None:
        """Put unreadable files into quarantine, each content once; they belong to no window."""
        self.result.faults = list(faults)
        if not faults:
            return
        rows = pd.DataFrame(
            {
                "sample_id": [f"file:{fault.name}" for fault in faults],
                "row_digest": [fault.digest for fault in faults],
                "reason": [fault.reason for fault in faults],
                "ingest_time": pd.Timestamp(as_of),
                "event_time": pd.NaT,
            }
        )
        bad = self._unseen(rows)
        if len(bad):
            self._commit(pd.DataFrame({"sample_id": []}), bad.reset_index(drop=True), lease)


def _split_nameless(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows with an id, and those without: no label could ever find these, so they are refused."""
    rows = frame.reset_index(drop=True)
    nameless = rows["sample_id"].isna() | (rows["sample_id"].astype(str) == "")
    rows["sample_id"] = rows["sample_id"].astype(object)
    refused = rows[nameless].copy()
    refused["row_digest"] = [row_digest(row) for row in refused.to_dict(orient="records")]
    refused["sample_id"] = "nameless"
    refused["reason"] = "sample_id is missing: without it no label can find the row"
    named = rows[~nameless].reset_index(drop=True)
    named["sample_id"] = named["sample_id"].astype(str)
    return named, refused


def _seen_ids(bad: pd.DataFrame) -> list[str]:
    if bad.empty:
        return []
    return bad["seen_id"].fillna(bad["sample_id"]).tolist() if "seen_id" in bad else bad["sample_id"].tolist()
