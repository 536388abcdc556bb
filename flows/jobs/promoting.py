"""Jobs of promotion, rollback and reconciliation."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import Any

from domain.digests import digest_json
from domain.errors import LedgerError, RevetError
from domain.names import deployment_name
from flows.context import opened
from flows.publishing import markdown
from flows.wiring import Loop
from registry import promotion
from registry.heads import Promotion, head
from registry.reports import gate_attempts, mark_trigger, pending_triggers
from registry.versions import approver_of, list_monitors, versions


def promote(monitor: str, version: int, expected_epoch: int, approver: str) -> dict[str, Any]:
    """Promote a version whose last judgement by the gate was a pass.

    Raises:
        LedgerError: no challenger passed, this one did not, or the approval that policy asks for is missing.
        PromotionConflict: the head moved since the evidence was made.
    """
    loop = opened()
    passed = [one for one in gate_attempts(loop.ledger, monitor) if one.decision.passed]
    chosen = version or (passed[0].decision.challenger_version if passed else 0)
    attempts = gate_attempts(loop.ledger, monitor, challenger_version=chosen) if chosen else []
    if not attempts or not attempts[0].decision.passed:
        raise LedgerError(
            f"version {chosen or '(none)'} of {monitor!r} has not passed the gate; run `revet harden {monitor}` first"
        )
    evidence = attempts[0].decision.evidence_digest
    known = [one for one in versions(loop.ledger, monitor) if one.version == chosen]
    policy = loop.monitor(monitor)
    approved = approver or approver_of(loop.ledger, monitor, version=chosen, evidence_digest=evidence)
    if policy.gate.approval == "required" and not approved:
        raise LedgerError(f"version {chosen} of {monitor!r} needs an approval: `revet promote {monitor} {chosen}`")
    epoch = (
        expected_epoch if expected_epoch >= 0 else evidence_epoch(loop, monitor, attempts[0].decision.champion_version)
    )
    done = promotion.promote(
        loop.ledger, loop.models, monitor=monitor, version=chosen, digest=known[0].digest, expected_epoch=epoch,
        kind="promotion", key=digest_json(["promotion", monitor, chosen, evidence]), evidence_digest=evidence,
        approver=approved, policy_digest=policy.digest,
    )  # fmt: skip
    with suppress(RevetError):  # only a name that is shown; the promotion itself is decided
        if loop.models.alias(monitor, "challenger") == chosen:
            loop.models.drop_alias(monitor, "challenger")
    return _published(done, "Promotion")


def evidence_epoch(loop: Loop, monitor: str, champion_version: int) -> int:
    """Return the present epoch if the champion is still the one that the evidence was made against.

    Raises:
        LedgerError: another champion reigns; the evidence is stale.
    """
    now = loop.head(monitor)
    if now.version != champion_version:
        raise LedgerError(
            f"the evidence compares with version {champion_version}, but {now.version} is champion of {monitor!r} now; "
            "run the hardening again"
        )
    return now.epoch


def rollback(monitor: str, to_version: int, reason: str, requested_by: str) -> dict[str, Any]:
    """Return to an earlier champion; `reason` stands with the promotion record."""
    loop = opened()
    now = loop.head(monitor)
    done = promotion.rollback(
        loop.ledger, loop.models, monitor=monitor, expected_epoch=now.epoch,
        key=digest_json(["rollback", monitor, now.epoch, to_version]), approver=requested_by,
        evidence_digest=digest_json({"reason": reason}), to_version=to_version or None,
    )  # fmt: skip
    return _published(done, f"Rollback ({reason})")


def _published(done: Promotion, title: str) -> dict[str, Any]:
    facts = {
        "from": done.from_version or "none", "epoch": done.epoch, "state": done.state,
        "evidence": f"`{done.evidence_digest[:16]}`", "approver": done.approver or "-",
    }  # fmt: skip
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    text = f"# {title}: version {done.to_version} is champion\n\n| | |\n| --- | --- |\n{rows}"
    markdown(done.monitor, "promotion", text, title)
    return {
        "monitor": done.monitor, "version": done.to_version, "from_version": done.from_version, "epoch": done.epoch,
        "kind": done.kind, "state": done.state, "promoted": True,
    }  # fmt: skip


def reconcile_all(policy: str) -> list[dict[str, Any]]:
    """Reconcile every monitor; one that fails does not keep the others from it."""
    loop, found = opened(), []
    for name in list_monitors(loop.ledger):
        try:
            if head(loop.ledger, name) is None:
                continue
            done = promotion.reconcile(loop.ledger, loop.models, name, "adopt" if policy == "adopt" else "revert")
            found.append({**asdict(done), "head": done.head.version if done.head else None})
        except RevetError as error:
            found.append({"monitor": name, "action": "failed", "reason": str(error)})
    return found


def dispatch() -> list[dict[str, Any]]:
    """Start the flow run of every waiting trigger; its idempotency key makes a second start harmless."""
    from prefect.deployments import run_deployment

    loop, started = opened(), []
    for trigger in pending_triggers(loop.ledger):
        run = run_deployment(
            deployment_name(trigger.kind, trigger.monitor), parameters=trigger.payload, timeout=0, as_subflow=False,
            idempotency_key=f"{trigger.monitor}:{trigger.idempotency_key}",
        )  # fmt: skip
        identifier = str(getattr(run, "id", ""))
        mark_trigger(loop.ledger, trigger.id, state="DISPATCHED", flow_run_id=identifier)
        started.append({"monitor": trigger.monitor, "kind": trigger.kind, "flow_run_id": identifier})
    return started
