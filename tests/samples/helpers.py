"""A tiny feature space, rows for it, and a workspace of ledger, content store and sample store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from domain.features import Feature, FeatureSpace
from domain.monitor import Monitor
from registry.content import ContentStore
from registry.ledger.engine import Ledger
from samples.contract.parsing import PARSE_ERROR
from samples.contract.rules import Contract, Outcome
from samples.pull import PullResult, pull
from samples.sources import Source, StoreSource
from samples.store import SampleStore

T0 = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPACE = FeatureSpace(
    version=1,
    name="tiny",
    features=(
        Feature(name="size", kind="integer", low=0, high=1000, mutability="free"),
        Feature(name="rate", kind="real", low=0, high=1, mutability="free"),
        Feature(name="proto", kind="categorical", categories=("tcp", "udp"), mutability="fixed", reason="given"),
    ),
)


def monitor(**changes: Any) -> Monitor:
    values: dict[str, Any] = {
        "version": 1, "name": "tiny-monitor", "feature_space": "tiny", "benchmark": {"dataset": "tiny.parquet"},
    }  # fmt: skip
    return Monitor.model_validate(values | changes)


def rows(count: int, start: int = 0, at: datetime = T0, every: timedelta = timedelta(minutes=1)) -> pd.DataFrame:
    numbers = range(start, start + count)
    times = [at + every * number for number in range(count)]
    return pd.DataFrame(
        {
            "sample_id": [f"s{number:05d}" for number in numbers],
            "event_time": pd.DatetimeIndex(times).as_unit("us"),
            "ingest_time": pd.DatetimeIndex(times).as_unit("us") + pd.Timedelta("5s"),
            "caller": "sensor", "subject": [f"host{number % 7}" for number in numbers],
            "model_version": 1, "model_digest": "d",
            "features": [json.dumps({"size": n % 1000, "rate": (n % 10) / 10, "proto": "tcp"}) for n in numbers],
            "score": 0.25, "verdict": 0,
        }
    )  # fmt: skip


def plain_judge(frame: pd.DataFrame, contract: Contract) -> list[Outcome]:
    """Stands in for Great Expectations where only the pull is tested: parse errors, nulls and bounds."""
    outcomes = []
    for expectation in contract.expectations:
        column = str(expectation.kwargs.get("column", ""))
        kind = expectation.type.removeprefix("expect_column_values_to_")
        broken = np.zeros(len(frame), dtype=bool)
        if kind == "be_null" and column == PARSE_ERROR:
            broken = frame[column].notna().to_numpy()
        elif kind == "not_be_null":
            broken = frame[column].isna().to_numpy()
        elif kind == "be_between":
            low = expectation.kwargs.get("min_value", -np.inf)
            high = expectation.kwargs.get("max_value", np.inf)
            broken = ((frame[column] < low) | (frame[column] > high)).to_numpy()
        outcomes.append(Outcome(expectation, not broken.any(), tuple(np.flatnonzero(broken).tolist())))
    return outcomes


@dataclass
class Place:
    """Everything that a pull needs, in a temporary folder."""

    ledger: Ledger
    content: ContentStore
    store: SampleStore
    monitor: Monitor

    def pull(self, as_of: datetime, source: Source | None = None, judge: Any = plain_judge, **more: Any) -> PullResult:
        return pull(
            self.ledger, self.content, source or StoreSource(self.store), monitor=self.monitor, space=SPACE,
            as_of=as_of, holder="test", judge=judge, **more,
        )  # fmt: skip

    def close(self) -> None:
        self.ledger.close()
        self.store.close()


def make_place(folder: Path, **changes: Any) -> Place:
    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
    ledger.upgrade()
    store = SampleStore(f"sqlite:///{folder / 'store.db'}", clock=lambda: T0 + 100 * HOUR).create()
    return Place(ledger, ContentStore(folder / "content"), store, monitor(**changes))
