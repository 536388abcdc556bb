"""The head of a monitor and the one transaction that moves it: compare-and-set on the epoch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from domain.errors import ArtifactMissing, ArtifactTampered, LedgerError, PromotionConflict
from registry import audit, freezing
from registry.failpoints import failpoint
from registry.ledger.engine import Ledger
from registry.ledger.tables import head as head_table
from registry.ledger.tables import model_version, outbox
from registry.ledger.tables import promotion as promotion_table


@dataclass(frozen=True, slots=True)
class Head:
    """The champion: which version, its digest, and how many promotions there were."""

    version: int
    epoch: int
    digest: str


@dataclass(frozen=True, slots=True)
class Promotion:
    """One move of the head. `state` is DECIDED until the alias shows it, then DONE."""

    monitor: str
    key: str
    kind: str
    from_version: int | None
    to_version: int
    to_digest: str
    epoch: int
    evidence_digest: str
    approver: str
    policy_digest: str
    state: str
    at: datetime


def head(ledger: Ledger, monitor: str) -> Head | None:
    """Return the champion of `monitor`, or None before its first promotion."""
    with ledger.read() as connection:
        return head_in(connection, monitor)


def history(ledger: Ledger, monitor: str) -> list[Promotion]:
    """Return all promotions of `monitor`, the newest first."""
    query = select(promotion_table).where(promotion_table.c.monitor == monitor)
    with ledger.read() as connection:
        rows = connection.execute(query.order_by(promotion_table.c.epoch.desc())).all()
    return [Promotion(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name


def made_by(ledger: Ledger, monitor: str, key: str) -> Promotion | None:
    """Return the promotion that `key` made, if there is one."""
    with ledger.read() as connection:
        return promotion_by_key(connection, monitor, key)


def decide(ledger: Ledger, wanted: dict[str, Any], expected_epoch: int) -> Promotion:
    """Move the head in one transaction and return the promotion; the one that has this key, if it still is the head.

    Raises:
        PromotionConflict, ArtifactMissing, ArtifactTampered, Frozen: as `promote`.
    """
    monitor, key = str(wanted["monitor"]), str(wanted["key"])
    try:
        with ledger.begin() as connection:
            if found := promotion_by_key(connection, monitor, key):
                return _same(connection, found, wanted)
            failpoint("promotion.before_decide")
            made = _decide(connection, wanted, expected_epoch, ledger.clock())
            failpoint("promotion.before_commit")
    except IntegrityError as error:
        with ledger.read() as connection:
            if found := promotion_by_key(connection, monitor, key):
                return _same(connection, found, wanted)
        raise PromotionConflict(_conflict_text(monitor, expected_epoch, None)) from error
    return made


def head_in(connection: Connection, monitor: str, *, lock: bool = False) -> Head | None:
    """Return the head in the caller's transaction; `lock` keeps others from moving it until that ends."""
    query = select(head_table.c.version, head_table.c.epoch, head_table.c.digest).where(head_table.c.monitor == monitor)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return Head(row.version, row.epoch, row.digest) if row else None


def promotion_by_key(connection: Connection, monitor: str, key: str) -> Promotion | None:
    """Return the promotion that `key` made, if there is one."""
    row = connection.execute(
        select(promotion_table).where(promotion_table.c.monitor == monitor, promotion_table.c.key == key)
    ).one_or_none()
    return Promotion(**row._mapping) if row else None  # noqa: SLF001 - SQLAlchemy's public name


def rollback_target(connection: Connection, monitor: str, to_version: int | None) -> tuple[int, str]:
    """Return version and digest to return to: `to_version`, or the last champion that is not quarantined.

    Raises:
        LedgerError: there is none.
    """
    current = head_in(connection, monitor)
    if current is None:
        raise LedgerError(f"{monitor!r} has no champion yet; there is nothing to roll back")
    query = (
        select(promotion_table.c.to_version, promotion_table.c.to_digest)
        .join(
            model_version,
            (model_version.c.monitor == promotion_table.c.monitor)
            & (model_version.c.version == promotion_table.c.to_version),
        )
        .where(
            promotion_table.c.monitor == monitor,
            promotion_table.c.to_version != current.version,
            model_version.c.quarantined.is_(False),
        )
        .order_by(promotion_table.c.epoch.desc())
    )
    if to_version is not None:
        query = query.where(promotion_table.c.to_version == to_version)
    row = connection.execute(query).first()
    if row is None:
        wish = "no other past champion" if to_version is None else f"no past champion of version {to_version}"
        raise LedgerError(f"{monitor!r} has {wish} that is not quarantined; `revet history` lists them")
    return int(row.to_version), str(row.to_digest)


def _decide(connection: Connection, wanted: dict[str, Any], expected_epoch: int, at: datetime) -> Promotion:
    monitor, version = str(wanted["monitor"]), int(wanted["to_version"])
    if not wanted["approver"]:
        freezing.check_unfrozen(connection, monitor)
    _check_version(connection, monitor, version, str(wanted["to_digest"]))
    before = head_in(connection, monitor, lock=True)
    if (before.epoch if before else 0) != expected_epoch:
        raise PromotionConflict(_conflict_text(monitor, expected_epoch, before))
    values = {"version": version, "digest": wanted["to_digest"], "epoch": expected_epoch + 1, "updated_at": at}
    if before is None:
        connection.execute(insert(head_table).values(monitor=monitor, **values))
    else:
        moved = connection.execute(
            update(head_table)
            .where(head_table.c.monitor == monitor, head_table.c.epoch == expected_epoch)
            .values(**values)
        )
        if moved.rowcount != 1:
            raise PromotionConflict(_conflict_text(monitor, expected_epoch, before))
    made = Promotion(
        **wanted,
        from_version=before.version if before else None,
        epoch=expected_epoch + 1,
        state="DECIDED",
        at=at,
    )
    connection.execute(insert(promotion_table).values(**asdict(made)))
    if made.kind == "rollback" and made.from_version not in (None, version):
        connection.execute(
            update(model_version)
            .where(model_version.c.monitor == monitor, model_version.c.version == made.from_version)
            .values(quarantined=True)
        )
    told = {**asdict(made), "at": at.isoformat()}
    connection.execute(
        insert(outbox).values(
            monitor=monitor, topic="promotion", key=f"promotion:{made.epoch}", payload=told, created_at=at
        )
    )
    actor = made.approver or "revet"
    audit.append(connection, monitor=monitor, actor=actor, action=f"head.{made.kind}", payload=told, at=at)
    return made


def _check_version(connection: Connection, monitor: str, version: int, digest: str) -> None:
    row = connection.execute(
        select(model_version.c.digest, model_version.c.quarantined).where(
            model_version.c.monitor == monitor, model_version.c.version == version
        )
    ).one_or_none()
    if row is None:
        raise ArtifactMissing(f"the ledger knows no version {version} of {monitor!r}; register and record it first")
    if row.digest != digest:
        raise ArtifactTampered(f"version {version} of {monitor!r} has digest {row.digest} in the ledger, not {digest}")
    if row.quarantined:
        raise ArtifactTampered(f"version {version} of {monitor!r} is quarantined after a rollback; train a new one")


def _same(connection: Connection, found: Promotion, wanted: dict[str, Any]) -> Promotion:
    if (found.to_version, found.to_digest) != (wanted["to_version"], wanted["to_digest"]):
        raise PromotionConflict(
            f"promotion key {found.key!r} of {found.monitor!r} made version {found.to_version} the champion, "
            f"not {wanted['to_version']}; use a new key"
        )
    now = head_in(connection, found.monitor)
    if now is None or now.epoch != found.epoch:
        raise PromotionConflict(
            f"version {found.to_version} of {found.monitor!r} was promoted on this evidence at epoch {found.epoch} "
            f"already, but the head is version {now.version if now else '(none)'} at epoch {now.epoch if now else 0} "
            "now; a promotion is not repeated after the head moved on: train a new challenger and let the gate judge it"
        )
    return found


def _conflict_text(monitor: str, expected: int, found: Head | None) -> str:
    now = f"it is at epoch {found.epoch} (version {found.version})" if found else "somebody else moved it first"
    return f"the head of {monitor!r} is not at epoch {expected} any more: {now}; judge the challenger against it again"
