"""Jobs of the re-evaluation."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime
from typing import Any

from domain.decisions import Decision
from domain.digests import digest_json
from domain.errors import LedgerError, RevetError
from domain.reports import DriftReport, EvaluationReport, ProductionReport, RobustnessReport
from evaluation.drift import DriftResult
from flows.context import flow_run_id, flow_run_url, now, opened
from flows.publishing import (
    drift_metrics,
    log_attacks,
    log_evaluation,
    log_scores,
    markdown,
    production_metrics,
    progress,
    publish_decision,
    run_tags,
)
from flows.steps.baseline import BenchmarkRows
from flows.steps.state import Judged, Measurements, Run, WindowRun
from flows.steps.stored import get_production, get_report, put_production, put_report
from flows.steps.windows import (
    PRODUCTION,
    WINDOW_ROBUST,
    Window,
    benchmark_now,
    due_window,
    judge,
    parse_moment,
    pull_samples,
)
from flows.wiring import Loop
from registry.freezing import EVERYTHING, freezes
from registry.heads import Head
from registry.queues import put_step, write_trigger
from registry.reports import put_decision
from registry.reports import put_report as record_report
from registry.tracking import RunHandle
from samples.windows import WindowRef, find_window

_LOG = logging.getLogger(__name__)


def pull(monitor: str, as_of: str, window_start: str, *, seed: int, reason: str, dry_run: bool) -> WindowRun:
    """Pull what is new (not in a dry run), find the window that is due and open its MLflow run."""
    loop = opened()
    found, moment = loop.monitor(monitor), parse_moment(as_of, now())
    current = loop.head(monitor)
    pulled = 0
    if not dry_run:
        for left in loop.tracker.running(monitor, flow_run_id()) if flow_run_id() else ():
            loop.tracker.end(left, "FAILED")  # an earlier try of this task opened it
        done = pull_samples(loop, found, moment, flow_run_id() or "local")
        for rule, rows in done.reasons.items():
            _LOG.warning("contract of %s broken: %s (%d rows)", monitor, rule, rows)
        pulled = done.rows
    ref = due_window(loop, found, moment, window_start)
    run = Run(
        monitor=monitor, kind="reevaluate", run_key="", flow_run_id=flow_run_id(), mlflow_run_id="", seed=seed,
        reason=reason, dry_run=dry_run,
    )  # fmt: skip
    if ref is None:
        return WindowRun(run=run, due=False, as_of=moment, pulled=pulled)
    run = run.model_copy(update={"run_key": digest_json(["reevaluate", monitor, ref.start.isoformat(), ref.revision])})
    if not dry_run:
        run = _record(loop, run, ref)
    return WindowRun(
        run=run, due=True, as_of=moment, start=ref.start, end=ref.end, revision=ref.revision, rows=ref.rows,
        quarantined=ref.quarantined, pulled=pulled, version=current.version, epoch=current.epoch,
    )  # fmt: skip


def _record(loop: Loop, run: Run, ref: WindowRef) -> Run:
    tags = {**run_tags(run.reason, run.seed), "revet.window": ref.start.isoformat()}
    handle = loop.tracker.open(run.monitor, f"reevaluate-{ref.start:%Y-%m-%d-%H%M}-r{ref.revision}", run.kind, tags)
    handle.params({"window_start": ref.start.isoformat(), "revision": ref.revision, "seed": run.seed})
    handle.dataset(f"production-{ref.start:%Y-%m-%d-%H%M}", ref.digest, ref.rows, "production")
    put_step(
        loop.ledger, run.monitor, run.run_key, run.kind, state="RUNNING", input_digest=ref.digest,
        flow_run_id=run.flow_run_id, mlflow_run_id=handle.run_id,
    )  # fmt: skip
    return run.model_copy(update={"mlflow_run_id": handle.run_id})


def _window(loop: Loop, state: WindowRun) -> Window:
    monitor, current = loop.monitor(state.run.monitor), loop.head(state.run.monitor)
    if (current.version, current.epoch) != (state.version, state.epoch):
        raise LedgerError(
            f"version {current.version} became champion of {monitor.name!r} while version {state.version} was judged; "
            "run the re-evaluation again"
        )
    assert state.start is not None and state.end is not None  # noqa: PT018, S101 - due windows have both
    if state.rows + state.quarantined:
        ref = find_window(loop.ledger, monitor.name, state.start, state.revision)
    else:
        ref = WindowRef(monitor.name, state.start, state.end, state.revision, (), 0, 0, "empty")
    return Window(loop, monitor, ref, state.as_of, current)


def _handle(loop: Loop, run: Run) -> RunHandle | None:
    return loop.tracker.attach(run.monitor, run.mlflow_run_id) if run.mlflow_run_id else None


def drift(state: WindowRun) -> Measurements:
    """Measure drift and keep Evidently's page as an artifact."""
    loop = opened()
    window = _window(loop, state)
    found = window.drift(state.run.seed)
    if (run := _handle(loop, state.run)) is not None:
        run.metrics(drift_metrics(found.report))
        if found.html:
            run.text("reports/drift.html", found.html)
    return Measurements(version=window.head.version, drift=put_report(loop.content, found.report))


def evaluate(state: WindowRun, found: Measurements) -> Measurements:
    """Measure the champion on labelled production rows, and clean and under attack on its benchmark."""
    loop = opened()
    window, run = _window(loop, state), _handle(loop, state.run)
    labelled = window.production(state.run.seed)
    measured = benchmark_now(
        loop, window.monitor, _champion(loop, window.head, window.monitor.name), window.head, seed=state.run.seed,
        progress=progress(window.monitor.name, "benchmark"),
    )  # fmt: skip
    if run is not None:
        run.metrics(production_metrics(labelled.report))
        run.text("reports/production.json", labelled.report.model_dump_json(indent=1))
        log_evaluation(run, measured)
        champion = _champion(loop, window.head, window.monitor.name)
        log_scores(
            run, champion, BenchmarkRows(loop, window.monitor).rows("test"), window.monitor.false_positive_budget
        )
    return found.model_copy(
        update={
            "production": put_report(loop.content, labelled.report),
            "labelled": put_production(loop.content, labelled, loop.space(window.monitor).names),
            "benchmark": put_report(loop.content, measured),
        }
    )


def _champion(loop: Loop, current: Head, monitor: str) -> Any:
    return loop.detector(monitor, current.version, current.digest)


def attack(state: WindowRun, found: Measurements) -> Measurements:
    """Attack the champion on the window's labelled malicious rows."""
    loop = opened()
    window, run = _window(loop, state), _handle(loop, state.run)
    labelled = get_production(loop.content, found.labelled)
    champion = _champion(loop, window.head, window.monitor.name)
    report = window.robustness(champion, labelled, state.run.seed)
    if report is None:
        return found
    if run is not None:
        log_attacks(run, report, "window-robust")
        record_report(
            loop.ledger, window.monitor.name, report, kind=WINDOW_ROBUST, window_start=state.start,
            version=window.head.version,
        )  # fmt: skip
    return found.model_copy(update={"window_robustness": put_report(loop.content, report)})


def decide(state: WindowRun, found: Measurements) -> Judged:
    """Decide, and record and publish the decision; a dry run only publishes."""
    loop = opened()
    window, run = _window(loop, state), _handle(loop, state.run)
    robust = found.window_robustness
    judged = judge(
        window, get_production(loop.content, found.labelled),
        drift=DriftResult(get_report(loop.content, found.drift, DriftReport), ""),
        benchmark=get_report(loop.content, found.benchmark, EvaluationReport),
        robustness=get_report(loop.content, robust, RobustnessReport) if robust else None,
    )  # fmt: skip
    decision = unless_frozen(loop, judged)
    digest = decision.digest
    if not state.run.dry_run:
        production = get_report(loop.content, found.production, ProductionReport)
        record_report(
            loop.ledger, state.run.monitor, production, kind=PRODUCTION, window_start=state.start,
            version=found.version,
        )  # fmt: skip
        put_decision(loop.ledger, decision, revision=state.revision, flow_run_id=state.run.flow_run_id)
        if decision.action:
            _ask_for_hardening(loop, decision, state)
    publish_decision(run, decision, _links(loop, run))
    if run is not None:
        put_step(
            loop.ledger, state.run.monitor, state.run.run_key, state.run.kind, state="DONE", output_digest=digest,
            flow_run_id=state.run.flow_run_id, mlflow_run_id=run.run_id,
        )  # fmt: skip
        loop.tracker.end(run.run_id, "FINISHED")
        _announce_backlog(loop, window, state)
    return _judged(decision, digest, state)


def _ask_for_hardening(loop: Loop, decision: Decision, state: WindowRun) -> None:
    """Write down that the decision asks for a hardening, so that a crash before it starts does not lose it."""
    write_trigger(
        loop.ledger, decision.monitor, kind="harden", idempotency_key=hardening_key(decision),
        payload={
            "monitor": decision.monitor, "window_start": decision.window_start.isoformat(),
            "as_of": state.as_of.isoformat(), "seed": state.run.seed, "reason": decision.kind.value,
        },
    )  # fmt: skip


def hardening_key(decision: Decision) -> str:
    """Return the idempotency key of the hardening that `decision` asks for."""
    return f"harden:{decision.digest}"


def unless_frozen(loop: Loop, decision: Decision) -> Decision:
    """Return the decision; while a freeze is on it stands, but nothing may follow from it."""
    stopped = [one for one in freezes(loop.ledger) if one.scope in {EVERYTHING, decision.monitor}]
    if not (decision.action and stopped):
        return decision
    reason = f"Automation is frozen by {stopped[0].by}: {stopped[0].reason}"
    return decision.model_copy(update={"action": False, "reasons": (*decision.reasons, reason)})


def _judged(decision: Decision, digest: str, state: WindowRun) -> Judged:
    return Judged(
        monitor=decision.monitor, window_start=decision.window_start.isoformat(), verdict=decision.verdict.value,
        kind=decision.kind.value, remedy=decision.remedy.value, action=decision.action and not state.run.dry_run,
        reasons=decision.reasons, decision=digest,
    )  # fmt: skip


def _announce_backlog(loop: Loop, window: Window, state: WindowRun) -> None:
    """Ask for one more run while windows are waiting, so that a schedule that was down catches up by itself."""
    following = due_window(loop, window.monitor, state.as_of, "")
    if following is not None:
        start: datetime = following.start
        write_trigger(
            loop.ledger, window.monitor.name, kind="reevaluate",
            idempotency_key=f"backlog:{start.isoformat()}:{following.revision}",
            payload={"monitor": window.monitor.name, "as_of": state.as_of.isoformat(), "reason": "backlog"},
        )  # fmt: skip


def _links(loop: Loop, run: RunHandle | None) -> dict[str, str]:
    links = {"Prefect flow run": flow_run_url(), "MLflow run": run.url if run is not None else ""}
    with suppress(RevetError):
        links["MLflow experiment"] = loop.tracker.experiment_url(run.monitor) if run is not None else ""
    return {name: url for name, url in links.items() if url}


def rest(state: WindowRun) -> dict[str, Any]:
    """Say that no window is due, and why that may be."""
    policy = opened().monitor(state.run.monitor).policy
    text = (
        f"# Nothing is due\n\nNo window of `{state.run.monitor}` has reached its label horizon of "
        f"{policy.label_horizon_hours:g} hours and waits for a verdict at {state.as_of:%Y-%m-%d %H:%M} UTC. "
        f"{state.pulled} new samples were pulled."
    )
    markdown(state.run.monitor, "verdict", text, "Nothing is due")
    return {"monitor": state.run.monitor, "verdict": "abstain", "reasons": ["no window is due"], "pulled": state.pulled}
