"""The switch that stops all automation, for one monitor or for all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, delete, insert, select

from domain.errors import Frozen
from registry import audit
from registry.ledger.engine import Ledger
from registry.ledger.tables import freeze as freeze_table

EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Freeze:
    """Who stopped what, why and when; scope `*` is everything."""

    scope: str
    reason: str
    by: str
    at: datetime


def freeze(ledger: Ledger, *, scope: str = EVERYTHING, reason: str, by: str) -> Freeze:
    """Stop all automation in `scope` (a monitor, or `*`) and return the freeze; a second one replaces the first."""
    made = Freeze(scope, reason, by, ledger.clock())
    with ledger.begin() as connection:
        connection.execute(delete(freeze_table).where(freeze_table.c.scope == scope))
        connection.execute(insert(freeze_table).values(scope=scope, reason=reason, by=by, at=made.at))
        audit.append(
            connection,
            monitor="" if scope == EVERYTHING else scope,
            actor=by,
            action="freeze",
            payload={"scope": scope, "reason": reason},
            at=made.at,
        )
    return made


def unfreeze(ledger: Ledger, *, scope: str = EVERYTHING, by: str) -> bool:
    """Allow automation in `scope` again; return whether it was frozen."""
    with ledger.begin() as connection:
        removed = connection.execute(delete(freeze_table).where(freeze_table.c.scope == scope)).rowcount > 0
        if removed:
            monitor = "" if scope == EVERYTHING else scope
            at = ledger.clock()
            audit.append(connection, monitor=monitor, actor=by, action="unfreeze", payload={"scope": scope}, at=at)
    return removed


def freezes(ledger: Ledger) -> list[Freeze]:
    """Return all freezes that are on."""
    with ledger.read() as connection:
        return [_freeze(row) for row in connection.execute(select(freeze_table).order_by(freeze_table.c.scope))]


def frozen(connection: Connection, monitor: str) -> Freeze | None:
    """Return the freeze that stops `monitor`, if one is on."""
    row = connection.execute(select(freeze_table).where(freeze_table.c.scope.in_([EVERYTHING, monitor]))).first()
    return _freeze(row) if row else None


def require_unfrozen(ledger: Ledger, monitor: str) -> None:
    """Return if automation may act on `monitor`.

    Raises:
        Frozen: a freeze is on.
    """
    with ledger.read() as connection:
        check_unfrozen(connection, monitor)


def check_unfrozen(connection: Connection, monitor: str) -> None:
    """As `require_unfrozen`, in the caller's transaction."""
    if found := frozen(connection, monitor):
        lift = "revet freeze --off" if found.scope == EVERYTHING else f"revet freeze {found.scope} --off"
        raise Frozen(
            f"automation on {monitor!r} is frozen by {found.by!r} since {found.at.isoformat()}: {found.reason}; "
            f"`{lift}` allows it again"
        )


def _freeze(row: Row[tuple[str, str, str, datetime]]) -> Freeze:
    return Freeze(row.scope, row.reason, row.by, row.at)
