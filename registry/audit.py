"""The audit log: append-only, every entry bound to the one before it by its hash."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, text

from domain.digests import digest_json
from domain.errors import LedgerError
from registry.ledger.engine import Ledger
from registry.ledger.tables import audit

FIRST = "0" * 64
_LOCK = 7_386_339  # taken on PostgreSQL so that two entries never follow the same one


def append(
    connection: Connection, *, monitor: str, actor: str, action: str, payload: dict[str, Any], at: datetime
) -> str:
    """Add an entry in the caller's transaction and return its hash; call it last, it serialises writers."""
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    last = connection.execute(select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)).one_or_none()
    seq, previous = (last.seq + 1, last.hash) if last else (1, FIRST)
    entry = _entry(seq, monitor, at, actor, action, payload, previous)
    connection.execute(insert(audit).values(**{**entry, "at": at}, hash=digest_json(entry)))
    return digest_json(entry)


def verify(ledger: Ledger) -> int:
    """Return the number of entries after checking the whole chain.

    Raises:
        LedgerError: an entry was changed, removed or inserted.
    """
    previous, count = FIRST, 0
    with ledger.read() as connection:
        for row in connection.execute(select(audit).order_by(audit.c.seq)):
            entry = _entry(row.seq, row.monitor, row.at, row.actor, row.action, row.payload, previous)
            if row.seq != count + 1 or row.previous_hash != previous or digest_json(entry) != row.hash:
                raise LedgerError(f"the audit log is broken at entry {row.seq}: it was changed after it was written")
            previous, count = row.hash, count + 1
    return count


def _entry(
    seq: int, monitor: str, at: datetime, actor: str, action: str, payload: dict[str, Any], previous: str
) -> dict[str, Any]:
    return {
        "seq": seq,
        "monitor": monitor,
        "at": at.isoformat(),
        "actor": actor,
        "action": action,
        "payload": payload,
        "previous_hash": previous,
    }
