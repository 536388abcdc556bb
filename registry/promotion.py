"""Promotion: the ledger decides by compare-and-set, MLflow's alias shows it, reconcile repairs the picture."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sqlalchemy import select, update

from domain.decisions import PromotionKind
from domain.errors import ArtifactError, Frozen, LedgerError, PromotionConflict, ServiceUnavailable
from registry import audit
from registry.failpoints import failpoint
from registry.heads import (
    Head,
    Promotion,
    decide,
    head,
    head_in,
    history,
    promotion_by_key,
    rollback_target,
)
from registry.ledger.engine import Ledger
from registry.ledger.tables import gate_attempt, model_version
from registry.ledger.tables import promotion as promotion_table

__all__ = [
    "CHAMPION",
    "PREVIOUS",
    "Head",
    "Promotion",
    "Reconciliation",
    "head",
    "history",
    "project",
    "promote",
    "reconcile",
    "rollback",
]

CHAMPION = "champion"
PREVIOUS = "previous"
ReconcilePolicy = Literal["revert", "adopt"]
_LOG = logging.getLogger(__name__)


class AliasRegistry(Protocol):
    """What promotion needs of a model registry."""

    def champion_alias(self, monitor: str) -> int | None:
        """Return the version that the champion alias shows."""

    def set_alias(self, monitor: str, alias: str, version: int) -> None:
        """Let `alias` show `version`."""

    def set_tags(self, monitor: str, version: int, tags: dict[str, str]) -> None:
        """Add tags to a version."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What reconcile found and did for one monitor."""

    monitor: str
    action: Literal["none", "no-head", "projected", "reverted", "adopted"]
    head: Head | None
    alias_before: int | None
    reason: str


def promote(
    ledger: Ledger,
    models: AliasRegistry,
    *,
    monitor: str,
    version: int,
    digest: str,
    expected_epoch: int,
    kind: PromotionKind,
    key: str,
    evidence_digest: str,
    approver: str = "",
    policy_digest: str = "",
) -> Promotion:
    """Make `version` the champion if the head is still at `expected_epoch` (0 before the first); idempotent by `key`.

    If MLflow does not answer, the promotion stands and stays DECIDED until `reconcile` lets the alias show it.

    Raises:
        PromotionConflict: the head moved, also since `key` moved it, or `key` was used for another version.
        ArtifactMissing: the ledger knows no such version.
        ArtifactTampered: the ledger has another digest for it, or the version is quarantined.
        Frozen: a freeze is on and no person approved.
    """
    wanted: dict[str, Any] = {
        "monitor": monitor,
        "key": key,
        "kind": kind,
        "to_version": version,
        "to_digest": digest,
        "evidence_digest": evidence_digest,
        "approver": approver,
        "policy_digest": policy_digest,
    }
    decide(ledger, wanted, expected_epoch)
    failpoint("promotion.after_decide")
    try:
        project(ledger, models, monitor)
    except ServiceUnavailable as error:
        _LOG.warning("%s: promotion %s is decided; the alias follows at the next reconcile: %s", monitor, key, error)
    with ledger.read() as connection:
        done = promotion_by_key(connection, monitor, key)
    if done is None:  # only a deleted row could do that
        raise LedgerError(f"promotion {key!r} of {monitor!r} vanished from the ledger")
    return done


def project(ledger: Ledger, models: AliasRegistry, monitor: str) -> Head:
    """Let the alias show the head, under the head's row lock, and mark what it shows as DONE; return the head.

    The lock is held over the calls to MLflow, so that a slow projector never overwrites a newer alias; their
    time-out bounds it.

    Raises:
        LedgerError: there is no head, or the alias does not show it after it was set.
        ServiceUnavailable: MLflow does not answer.
    """
    with ledger.begin() as connection:
        now = head_in(connection, monitor, lock=True)
        if now is None:
            raise LedgerError(f"{monitor!r} has no champion yet; run bootstrap first")
        last = connection.execute(
            select(promotion_table.c.from_version, promotion_table.c.kind).where(
                promotion_table.c.monitor == monitor, promotion_table.c.epoch == now.epoch
            )
        ).one()
        failpoint("promotion.before_alias")
        models.set_tags(monitor, now.version, {"revet.epoch": str(now.epoch), "revet.promoted_by": last.kind})
        models.set_alias(monitor, CHAMPION, now.version)
        failpoint("promotion.after_alias")
        if (shown := models.champion_alias(monitor)) != now.version:
            raise LedgerError(f"{monitor!r}: the alias shows version {shown} after it was set to {now.version}")
        if last.from_version is not None and last.from_version != now.version:
            models.set_alias(monitor, PREVIOUS, last.from_version)
        connection.execute(
            update(promotion_table)
            .where(
                promotion_table.c.monitor == monitor,
                promotion_table.c.epoch <= now.epoch,
                promotion_table.c.state == "DECIDED",
            )
            .values(state="DONE")
        )
    return now


def rollback(
    ledger: Ledger,
    models: AliasRegistry,
    *,
    monitor: str,
    expected_epoch: int,
    key: str,
    approver: str = "",
    evidence_digest: str = "",
    policy_digest: str = "",
    to_version: int | None = None,
) -> Promotion:
    """Return to `to_version`, or to the last champion that is not quarantined; the present one is quarantined.

    Raises:
        LedgerError: there is nothing to return to.
        PromotionConflict, ArtifactMissing, ArtifactTampered, Frozen: as `promote`.
    """
    with ledger.read() as connection:
        found = promotion_by_key(connection, monitor, key)
        version, digest = (
            (found.to_version, found.to_digest) if found else rollback_target(connection, monitor, to_version)
        )
    return promote(
        ledger,
        models,
        monitor=monitor,
        version=version,
        digest=digest,
        expected_epoch=expected_epoch,
        kind="rollback",
        key=key,
        evidence_digest=evidence_digest,
        approver=approver,
        policy_digest=policy_digest,
    )


def reconcile(
    ledger: Ledger, models: AliasRegistry, monitor: str, policy: ReconcilePolicy = "revert"
) -> Reconciliation:
    """Return what was done so that the alias shows the head.

    A decided promotion that the alias does not show yet is projected. An alias that somebody moved by hand is set
    back (`revert`), or becomes the head as an `external` promotion (`adopt`) if the ledger knows that version, it
    passed the gate or was champion before, it is not quarantined, and no freeze is on; else it is set back too.

    Raises:
        LedgerError, ServiceUnavailable: as `project`.
    """
    with ledger.read() as connection:
        now = head_in(connection, monitor)
        waiting = connection.execute(
            select(promotion_table.c.key).where(
                promotion_table.c.monitor == monitor, promotion_table.c.state == "DECIDED"
            )
        ).first()
    shown = models.champion_alias(monitor)
    if now is None:
        return Reconciliation(monitor, "no-head", None, shown, "no champion was promoted yet")
    if waiting is not None:
        projected = project(ledger, models, monitor)
        return Reconciliation(monitor, "projected", projected, shown, "a decided promotion was not shown yet")
    if shown == now.version:
        return Reconciliation(monitor, "none", now, shown, "the alias shows the head")
    why_not = ""
    if policy == "adopt" and shown is not None:
        adopted = _adopt(ledger, models, monitor, now, shown)
        if isinstance(adopted, Head):
            return Reconciliation(monitor, "adopted", adopted, shown, f"version {shown} was set by hand and adopted")
        why_not = f", not adopted: {adopted}"
    reverted = project(ledger, models, monitor)
    reason = f"the alias showed version {shown}, the head is version {reverted.version}; it was set back{why_not}"
    with ledger.begin() as connection:
        audit.append(
            connection,
            monitor=monitor,
            actor="revet",
            action="alias.reverted",
            payload={"shown": shown, "head": reverted.version, "epoch": reverted.epoch, "reason": reason},
            at=ledger.clock(),
        )
    return Reconciliation(monitor, "reverted", reverted, shown, reason)


def _adopt(ledger: Ledger, models: AliasRegistry, monitor: str, now: Head, shown: int) -> Head | str:
    """Return the new head after `shown` was promoted as it stands, or why it may not be."""
    with ledger.read() as connection:
        known = connection.execute(
            select(model_version.c.digest, model_version.c.quarantined).where(
                model_version.c.monitor == monitor, model_version.c.version == shown
            )
        ).one_or_none()
        judged = connection.execute(
            select(gate_attempt.c.passed, gate_attempt.c.evidence_digest)
            .where(gate_attempt.c.monitor == monitor, gate_attempt.c.challenger_version == shown)
            .order_by(gate_attempt.c.id.desc())
        ).first()
        reigned = connection.execute(
            select(promotion_table.c.key).where(
                promotion_table.c.monitor == monitor, promotion_table.c.to_version == shown
            )
        ).first()
    if known is None:
        return f"the ledger knows no version {shown}"
    if known.quarantined:
        return f"version {shown} is quarantined after a rollback"
    passed = judged is not None and judged.passed
    if not passed and reigned is None:
        return f"version {shown} neither passed the gate nor was champion before"
    evidence = str(judged.evidence_digest) if judged is not None and passed else ""
    try:  # without an approver, so that a freeze stops it: nobody knows who moved the alias
        promote(
            ledger, models, monitor=monitor, version=shown, digest=known.digest, expected_epoch=now.epoch,
            kind="external", key=f"external:{now.epoch}:{shown}", evidence_digest=evidence,
        )  # fmt: skip
    except (PromotionConflict, Frozen, ArtifactError) as error:
        return str(error)
    return head(ledger, monitor) or f"{monitor!r} has no head"
