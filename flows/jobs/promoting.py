"""Jobs of promotion, rollback and reconciliation."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from domain.digests import digest_json
from domain.errors import LedgerError
from domain.names import deployment_name
from flows.context import flow_run_id, opened
from flows.publishing import markdown
from flows.wiring import Loop
from registry import promotion
from registry.heads import Promotion, head, made_by
from registry.reports import Trigger, gate_attempts, mark_trigger, pending_triggers
from registry.versions import approver_of, list_monitors, versions

_LOG = logging.getLogger(__name__)


def promote(monitor: str, version: int, expected_epoch: int, approver: str) -> dict[str, Any]:
    """Promote a version whose last judgement by the gate was a pass; a second try changes nothing.

    Raises:
        LedgerError: no challenger passed, this one did not, or the approval that policy asks for is missing.
        PromotionConflict: the head moved since the evidence was made, or since this evidence moved it.
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
    key, epoch = digest_json(["promotion", monitor, chosen, evidence]), expected_epoch
    if epoch < 0:
        earlier = made_by(loop.ledger, monitor, key)
        champion = attempts[0].decision.champion_version
        epoch = earlier.epoch - 1 if earlier else evidence_epoch(loop, monitor, champion)
    done = promotion.promote(
        loop.ledger, loop.models, monitor=monitor, version=chosen, digest=known[0].digest, expected_epoch=epoch,
        kind="promotion", key=key, evidence_digest=evidence, approver=approved, policy_digest=policy.digest,
    )  # fmt: skip
    try:
        if loop.models.alias(monitor, "challenger") == chosen:
            loop.models.drop_alias(monitor, "challenger")
    except Exception as error:  # noqa: BLE001 - only a name that is shown; the promotion itself is decided
        _LOG.warning("the alias `challenger` of %s still shows version %d: %s", monitor, chosen, error)
    return _published(loop, done, "Promotion")


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
    """Return to an earlier champion, once in a flow run however often it is tried; the record keeps `reason`.

    Raises:
        LedgerError: there is nothing to return to.
        PromotionConflict: the head moved in between, or after this flow run had moved it.
    """
    loop, run = opened(), flow_run_id()
    key = digest_json(["rollback", monitor, to_version, run])
    earlier = made_by(loop.ledger, monitor, key) if run else None
    epoch = earlier.epoch - 1 if earlier else loop.head(monitor).epoch
    done = promotion.rollback(
        loop.ledger, loop.models, monitor=monitor, expected_epoch=epoch,
        key=key if run else digest_json(["rollback", monitor, epoch, to_version]), approver=requested_by,
        evidence_digest=digest_json({"reason": reason}), to_version=to_version or None,
    )  # fmt: skip
    return _published(loop, done, f"Rollback ({reason})")


def _published(loop: Loop, done: Promotion, title: str) -> dict[str, Any]:
    now = loop.head(done.monitor)
    facts = {
        "from": done.from_version or "none", "epoch": done.epoch, "state": done.state,
        "evidence": f"`{done.evidence_digest[:16]}`", "approver": done.approver or "-",
    }  # fmt: skip
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    text = f"# {title}: version {done.to_version} is champion\n\n| | |\n| --- | --- |\n{rows}"
    try:
        markdown(done.monitor, "promotion", text, title)
    except Exception as error:  # noqa: BLE001 - the head has moved; a page that is not shown must not move it again
        _LOG.warning("the page of the promotion of %s is not shown: %s", done.monitor, error)
    return {
        "monitor": done.monitor, "version": done.to_version, "from_version": done.from_version, "epoch": done.epoch,
        "kind": done.kind, "state": done.state, "promoted": now.epoch == done.epoch,
        "head": now.version, "head_epoch": now.epoch,
    }  # fmt: skip


def reconcile_all(policy: str) -> list[dict[str, Any]]:
    """Reconcile every monitor; one that fails does not keep the others from it.

    Raises:
        LedgerError: there are monitors with a champion, and every one of them failed.
    """
    loop, found, failed = opened(), [], []
    for name in list_monitors(loop.ledger):
        try:
            if head(loop.ledger, name) is None:
                continue
            done = promotion.reconcile(loop.ledger, loop.models, name, "adopt" if policy == "adopt" else "revert")
            found.append({**asdict(done), "head": done.head.version if done.head else None})
        except Exception as error:  # noqa: BLE001 - also what MLflow itself raises
            _LOG.warning("monitor %s was not reconciled: %s", name, error)
            failed.append(error)
            found.append({"monitor": name, "action": "failed", "reason": str(error)})
    if failed and len(failed) == len(found):
        text = f"none of {len(failed)} monitors could be reconciled; the first says: {failed[0]}"
        raise LedgerError(text) from failed[0]
    return found


def dispatch() -> list[dict[str, Any]]:
    """Start the flow run of every waiting trigger; its idempotency key makes a second start harmless.

    A trigger that can never start (its deployment is gone, its parameters are refused) becomes FAILED; one that
    cannot start now stays PENDING for the next time. Neither keeps the others from starting.
    """
    loop, started = opened(), []
    for trigger in pending_triggers(loop.ledger):
        try:
            identifier = _start(trigger)
        except Exception as error:  # noqa: BLE001 - one trigger must not block those behind it
            final = _is_final(error)
            state = "is FAILED" if final else "stays PENDING"
            _LOG.warning("trigger %d (%s of %s) %s: %s", trigger.id, trigger.kind, trigger.monitor, state, error)
            if final:
                mark_trigger(loop.ledger, trigger.id, state="FAILED")
            continue
        mark_trigger(loop.ledger, trigger.id, state="DISPATCHED", flow_run_id=identifier)
        started.append({"monitor": trigger.monitor, "kind": trigger.kind, "flow_run_id": identifier})
    return started


def _start(trigger: Trigger) -> str:
    from prefect.deployments import run_deployment

    run = run_deployment(
        deployment_name(trigger.kind, trigger.monitor), parameters=trigger.payload, timeout=0, as_subflow=False,
        idempotency_key=f"{trigger.monitor}:{trigger.idempotency_key}",
    )  # fmt: skip
    return str(getattr(run, "id", ""))


def _is_final(error: Exception) -> bool:
    """Return whether a second try must fail as well: Prefect knows no such deployment, or refuses the request."""
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

    if isinstance(error, PrefectHTTPStatusError):
        return 400 <= error.response.status_code < 500 and error.response.status_code not in {401, 403, 408, 429}
    return isinstance(error, ObjectNotFound)
