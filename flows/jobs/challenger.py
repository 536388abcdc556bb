"""Jobs of the hardening."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.decisions import Decision, GateDecision, GateEvidence, Remedy
from domain.digests import digest_json
from domain.errors import BudgetExceeded, DataError, LedgerError
from domain.monitor import Monitor
from flows.context import flow_run_id, flow_run_url, now, opened
from flows.jobs.window import hardening_key
from flows.publishing import flow_run_tag, log_evaluation, markdown, publish_gate, run_tags
from flows.steps.challengers import Contender, Recent, contenders_of, gather_recent, train_challenger
from flows.steps.challengers import compare as compare_contenders
from flows.steps.state import Challenger, Run
from flows.steps.stored import get_detector, get_files, get_report, put_detector, put_report
from flows.steps.windows import BASELINE, MANY, parse_moment
from flows.wiring import Loop
from registry import leases
from registry.freezing import require_unfrozen
from registry.gate import judge
from registry.heads import Head
from registry.queues import mark_trigger, pending_triggers, put_step
from registry.reports import decisions, put_gate_attempt
from registry.reports import put_report as record_report
from registry.versions import record_version
from training.hardening import SuspiciousBatch

LEASE = "hardening"
LEASE_SECONDS = 3600.0
REMEDIES_THAT_TRAIN = (Remedy.HARDEN, Remedy.RETHRESHOLD)


@dataclass(frozen=True)
class _Work:
    """A hardening under way, with its collaborators read anew by each task."""

    loop: Loop
    monitor: Monitor
    head: Head
    decision: Decision | None
    state: Challenger

    def recent(self) -> Recent:
        """Return the labelled rows; the same state gives the same rows."""
        start = datetime.fromisoformat(self.state.window_start)
        return gather_recent(self.loop, self.monitor, self.head, start, self.state.as_of, self.state.run.seed)

    def champion(self) -> Any:
        """Return the champion's detector, verified."""
        return self.loop.detector(self.monitor.name, self.head.version, self.head.digest)


def _work(state: Challenger) -> _Work:
    """Return the collaborators; every task renews the lease first, so that one who lost it writes nothing more."""
    loop = opened()
    held = leases.Lease(state.run.monitor, LEASE, state.run.flow_run_id or "local", state.lease_token, now())
    leases.renew(loop.ledger, held, LEASE_SECONDS)
    monitor = loop.monitor(state.run.monitor)
    current = loop.head(monitor.name)
    if current.version != state.champion_version:
        raise LedgerError(
            f"version {current.version} became champion of {monitor.name!r} while a challenger to version "
            f"{state.champion_version} was made; run the hardening again"
        )
    found = _decision(loop, monitor.name, state.window_start)
    return _Work(loop, monitor, current, found, state)


def _decision(loop: Loop, monitor: str, start: str) -> Decision | None:
    for record in decisions(loop.ledger, monitor, limit=MANY):
        if not start or record.decision.window_start == datetime.fromisoformat(start):
            return record.decision
    return None


def open_hardening(monitor: str, window_start: str, as_of: str, seed: int, reason: str) -> Challenger:
    """Check that automation may act, take the lease and open the MLflow run.

    Raises:
        Frozen: `revet freeze` is on.
        BudgetExceeded: the attempts of the last 30 days used up the budget.
        DataError: no window was judged yet, so there are no rows to learn from.
        LeaseHeld: another hardening of this monitor is under way.
    """
    loop = opened()
    found = loop.monitor(monitor)
    require_unfrozen(loop.ledger, monitor)
    decision = _decision(loop, monitor, window_start)
    if decision is None:
        wanted = f" that starts at {window_start}" if window_start else ""
        raise DataError(f"monitor {monitor!r} has no judged window{wanted}; run its `reevaluate` deployment first")
    if decision.remedy is not Remedy.RETHRESHOLD:
        _check_budget(loop, found, decision)
    current = loop.head(monitor)
    start = decision.window_start.isoformat()
    for trigger in pending_triggers(loop.ledger, monitor):
        if trigger.idempotency_key == hardening_key(decision):
            mark_trigger(loop.ledger, trigger.id, state="DISPATCHED", flow_run_id=flow_run_id())
    lease = leases.acquire(loop.ledger, monitor, LEASE, flow_run_id() or "local", LEASE_SECONDS)
    handle = loop.tracker.open(
        monitor, f"harden-{decision.window_start:%Y-%m-%d-%H%M}", "harden",
        {**run_tags(reason, seed), "revet.window": start, "revet.kind_of_degradation": decision.kind.value},
    )  # fmt: skip
    handle.params(
        {"window_start": start, "seed": seed, "champion": current.version, "recipe": found.hardening.model_dump()}
    )
    run = Run(
        monitor=monitor, kind="harden", seed=seed, reason=reason, flow_run_id=flow_run_id(),
        run_key=digest_json(["harden", monitor, start, current.epoch, seed, flow_run_id()]),
        mlflow_run_id=handle.run_id,
    )  # fmt: skip
    put_step(
        loop.ledger, monitor, run.run_key, run.kind, state="RUNNING", input_digest=decision.digest,
        flow_run_id=run.flow_run_id, mlflow_run_id=run.mlflow_run_id,
    )  # fmt: skip
    remedy = decision.remedy if decision.remedy in REMEDIES_THAT_TRAIN else Remedy.HARDEN
    return Challenger(
        run=run, lease_token=lease.token, remedy=remedy.value, window_start=start, epoch=current.epoch,
        champion_version=current.version, as_of=parse_moment(as_of, now()),
    )  # fmt: skip


def _check_budget(loop: Loop, monitor: Monitor, decision: Decision) -> None:
    since = decision.window_end.timestamp() - 30 * 86_400
    acted = [one for one in decisions(loop.ledger, monitor.name, limit=MANY) if one.decision.action]
    spent = sum(one.decision.window_end.timestamp() > since for one in acted)
    if spent > monitor.policy.max_hardenings_per_month:
        raise BudgetExceeded(
            f"{spent} hardenings of {monitor.name!r} in 30 days, policy.max_hardenings_per_month allows "
            f"{monitor.policy.max_hardenings_per_month}; raise it in the monitor file if a person wants one more"
        )


def train(state: Challenger) -> Challenger:
    """Train the challenger; a batch that the poisoning screen refuses ends without one."""
    work = _work(state)
    try:
        made = train_challenger(
            work.loop, work.monitor, work.champion(), work.recent(), remedy=Remedy(state.remedy), seed=state.run.seed
        )
    except SuspiciousBatch as error:
        return state.model_copy(update={"reasons": (str(error),)})
    return state.model_copy(update={"detector": put_detector(work.loop.content, made)})


def register(state: Challenger) -> Challenger:
    """Register the challenger under the run's key; a retry finds the same version."""
    if not state.detector:
        return state
    work = _work(state)
    loop, run = work.loop, state.run
    made = loop.models.register(
        run.monitor, get_files(loop.content, state.detector), key=run.run_key, run_id=run.mlflow_run_id,
        tags={"revet.kind": state.remedy, "revet.window": state.window_start},
        description=f"Challenger to version {state.champion_version}, after {run.reason}.",
    )  # fmt: skip
    record_version(
        loop.ledger, run.monitor, version=made.version, digest=made.digest, key=run.run_key,
        model_id=made.model_id, run_id=run.mlflow_run_id,
    )  # fmt: skip
    loop.models.set_alias(run.monitor, "challenger", made.version)
    return state.model_copy(update={"version": made.version, "digest": made.digest})


def compare(state: Challenger) -> Challenger:
    """Measure champion, challenger and anchor on the same rows, and log all three side by side."""
    if not state.detector:
        return state
    work = _work(state)
    challenger = Contender(get_detector(work.loop.content, state.detector), state.version, state.digest)
    contenders = contenders_of(work.loop, work.monitor, work.head, challenger)
    evidence = compare_contenders(work.loop, work.monitor, contenders, work.recent(), work.decision, state.run.seed)
    handle = work.loop.tracker.attach(state.run.monitor, state.run.mlflow_run_id)
    for role, report in (("champion", evidence.champion), ("challenger", evidence.challenger)):
        with handle.child(f"{role} v{report.version}", "evaluation", {**flow_run_tag(), "revet.role": role}) as nested:
            log_evaluation(nested, report)
    handle.metrics({f"difference/{pair.name}": pair.difference for pair in evidence.against_champion})
    handle.metrics({f"difference/{pair.name}_low": pair.low for pair in evidence.against_champion})
    return state.model_copy(update={"evidence": put_report(work.loop.content, evidence)})


def gate(state: Challenger) -> Challenger:
    """Judge the evidence and record the attempt, passed or not; without a challenger nothing passes."""
    if not state.evidence:
        return state
    work = _work(state)
    evidence = get_report(work.loop.content, state.evidence, GateEvidence)
    decision: GateDecision = judge(evidence, work.monitor.gate, budget=work.monitor.false_positive_budget)
    if decision.passed:  # before the attempt: whoever may be promoted must have a baseline to be judged against
        baseline = _own_baseline(work, state)
        record_report(work.loop.ledger, state.run.monitor, baseline, kind=BASELINE, version=state.version)
    put_gate_attempt(work.loop.ledger, decision, alpha_spent=work.monitor.gate.alpha)
    record_report(work.loop.ledger, state.run.monitor, evidence, kind="gate", version=state.version)
    record_report(work.loop.ledger, state.run.monitor, evidence.challenger, kind="challenger", version=state.version)
    handle = work.loop.tracker.attach(state.run.monitor, state.run.mlflow_run_id)
    links = {"Prefect flow run": flow_run_url(), "MLflow run": handle.url}
    publish_gate(handle, decision, {name: url for name, url in links.items() if url})
    work.loop.models.set_tags(
        state.run.monitor, state.version,
        {"revet.gate": "passed" if decision.passed else "not passed", "revet.evidence": decision.evidence_digest},
    )  # fmt: skip
    needs_person = work.monitor.gate.approval == "required"
    return state.model_copy(update={"passed": decision.passed and not needs_person, "reasons": decision.reasons})


def _own_baseline(work: _Work, state: Challenger) -> Any:
    """Return the challenger on the monitor's own benchmark: what later windows of it are held against."""
    from flows.steps.baseline import measure_on_benchmark

    return measure_on_benchmark(
        work.loop, work.monitor, get_detector(work.loop.content, state.detector), version=state.version,
        digest=state.digest, seed=state.run.seed,
    ).report  # fmt: skip


def close(state: Challenger) -> dict[str, Any]:
    """Free the lease, end the MLflow run, say how it ended."""
    loop = opened()
    leases.release_holder(loop.ledger, state.run.flow_run_id or "local")
    if not state.detector:
        text = "\n".join(["# No challenger", "", *(f"- {reason}" for reason in state.reasons)])
        markdown(state.run.monitor, "gate", text, "No challenger was trained")
    put_step(
        loop.ledger, state.run.monitor, state.run.run_key, state.run.kind, state="DONE",
        output_digest=state.evidence or state.detector, detail={"passed": state.passed, "reasons": list(state.reasons)},
        flow_run_id=state.run.flow_run_id, mlflow_run_id=state.run.mlflow_run_id,
    )  # fmt: skip
    loop.tracker.end(state.run.mlflow_run_id, "FINISHED")
    return {
        "monitor": state.run.monitor, "version": state.version, "passed": state.passed, "promoted": False,
        "reasons": list(state.reasons),
    }  # fmt: skip
