"""Leases with fencing tokens, on the database's time: who may pull or harden, and whether he still may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, Update, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from domain.errors import LeaseHeld, LeaseLost
from registry.ledger.engine import Ledger, database_time
from registry.ledger.tables import lease as lease_table


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that was granted; `token` grows with every grant, so that a late writer is recognised."""

    monitor: str
    kind: str
    holder: str
    token: int
    expires_at: datetime


def acquire(ledger: Ledger, monitor: str, kind: str, holder: str, seconds: float) -> Lease:
    """Return a new lease for `seconds`; a lease that expired is taken over with a higher token.

    Raises:
        LeaseHeld: another holder has it.
    """
    with ledger.begin() as connection:
        now = database_time(connection)
        expires = now + timedelta(seconds=seconds)
        insert = sqlite_insert if ledger.is_sqlite else postgres_insert
        fresh = insert(lease_table).values(monitor=monitor, kind=kind, holder=holder, token=1, expires_at=expires)
        taken = fresh.on_conflict_do_update(
            index_elements=[lease_table.c.monitor, lease_table.c.kind],
            set_={"holder": holder, "token": lease_table.c.token + 1, "expires_at": expires},
            where=lease_table.c.expires_at <= now,
        ).returning(lease_table.c.token)
        token = connection.execute(taken).scalar_one_or_none()
        if token is None:
            row = connection.execute(_select(monitor, kind)).one()
            raise LeaseHeld(
                f"{kind} of {monitor!r} is in the hands of {row.holder!r} until {row.expires_at.isoformat()}; "
                "wait, or end that run: its lease then ends by itself"
            )
    return Lease(monitor, kind, holder, int(token), expires)


def renew(ledger: Ledger, lease: Lease, seconds: float) -> Lease:
    """Return the lease, prolonged to `seconds` from now.

    Raises:
        LeaseLost: it expired or was taken over.
    """
    with ledger.begin() as connection:
        check(connection, lease)
        expires = database_time(connection) + timedelta(seconds=seconds)
        connection.execute(_update(lease).values(expires_at=expires))
    return Lease(lease.monitor, lease.kind, lease.holder, lease.token, expires)


def release(ledger: Ledger, lease: Lease) -> None:
    """Free the lease; does nothing if it is no longer ours."""
    with ledger.begin() as connection:
        connection.execute(_update(lease).values(expires_at=database_time(connection)))


def release_holder(ledger: Ledger, holder: str) -> int:
    """Free every lease of `holder`, whose process is gone, and return how many there were."""
    with ledger.begin() as connection:
        now = database_time(connection)
        left = (lease_table.c.holder == holder) & (lease_table.c.expires_at > now)
        return connection.execute(update(lease_table).where(left).values(expires_at=now)).rowcount


def check(connection: Connection, lease: Lease) -> None:
    """Return if the lease is ours until this transaction ends; call it in the transaction that writes.

    Raises:
        LeaseLost: it expired or was taken over; nothing may be written.
    """
    row = connection.execute(_select(lease.monitor, lease.kind).with_for_update()).one_or_none()
    if row is None or row.token != lease.token:
        owner = "nobody" if row is None else repr(row.holder)
        raise LeaseLost(
            f"the {lease.kind} lease of {lease.monitor!r} (token {lease.token}) was taken over by {owner}; start again"
        )
    if row.expires_at <= database_time(connection):
        raise LeaseLost(
            f"the {lease.kind} lease of {lease.monitor!r} expired at {row.expires_at.isoformat()}; start again"
        )


@contextmanager
def held(ledger: Ledger, monitor: str, kind: str, holder: str, seconds: float) -> Iterator[Lease]:
    """Give a lease for the body and free it at the end, also when the body fails or is cancelled.

    Raises:
        LeaseHeld: another holder has it.
    """
    lease = acquire(ledger, monitor, kind, holder, seconds)
    try:
        yield lease
    finally:
        release(ledger, lease)


def _select(monitor: str, kind: str) -> Select[Any]:
    return select(lease_table).where(lease_table.c.monitor == monitor, lease_table.c.kind == kind)


def _update(lease: Lease) -> Update:
    return update(lease_table).where(
        lease_table.c.monitor == lease.monitor,
        lease_table.c.kind == lease.kind,
        lease_table.c.token == lease.token,
    )
