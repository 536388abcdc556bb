"""Rows that broke the contract: never lost, readable with reason, contract version and the payload as it came."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any

import pandas as pd
import sqlalchemy as sa

from registry.content import ContentStore
from registry.ledger.engine import Ledger
from registry.ledger.tables import quarantine

QUARANTINE_COLUMNS = ("id", "sample_id", "window_start", "reason", "contract_version", "state", "at", "payload")


def read_quarantine(
    ledger: Ledger, content: ContentStore, monitor: str, *, window: datetime | None = None, limit: int = 10_000
) -> pd.DataFrame:
    """Return the newest refused rows of `monitor` (of one window, if given), `payload` being the row as it came.

    Raises:
        CorruptFile: a payload file is missing or changed.
    """
    query = sa.select(quarantine).where(quarantine.c.monitor == monitor)
    if window is not None:
        query = query.where(quarantine.c.window_start == window)
    with ledger.read() as connection:
        rows = connection.execute(query.order_by(quarantine.c.id.desc()).limit(limit)).all()
    files: dict[str, list[dict[Any, Any]]] = {}
    found = []
    for row in rows:
        digest = str(row.payload["digest"])
        if digest not in files:
            files[digest] = pd.read_parquet(io.BytesIO(content.get(digest))).to_dict(orient="records")
        payload = files[digest][int(row.payload["row"])]
        found.append(
            (row.id, row.sample_id, row.window_start, row.reason, row.contract_version, row.state, row.at, payload)
        )
    return pd.DataFrame(found, columns=list(QUARANTINE_COLUMNS))


def count_quarantined(ledger: Ledger, monitor: str) -> dict[str, int]:
    """Return how many rows of `monitor` are in quarantine, by contract version."""
    query = (
        sa.select(quarantine.c.contract_version, sa.func.count())
        .where(quarantine.c.monitor == monitor).group_by(quarantine.c.contract_version)
    )  # fmt: skip
    with ledger.read() as connection:
        return {str(version): int(count) for version, count in connection.execute(query)}
