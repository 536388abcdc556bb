"""Jobs of the bootstrap."""

from __future__ import annotations

from typing import Any

from domain.decisions import PromotionKind
from domain.digests import digest_json
from domain.reports import EvaluationReport
from evaluation.rendering import report_markdown
from flows.context import flow_run_id, opened
from flows.publishing import log_evaluation, log_scores, markdown, progress, run_tags
from flows.steps.baseline import BenchmarkRows, measure_on_benchmark, prepare_benchmark, train_first
from flows.steps.measuring import describe
from flows.steps.state import Run
from flows.steps.stored import get_detector, get_files, get_report, put_report
from flows.steps.windows import BASELINE
from flows.wiring import Loop
from registry.heads import head
from registry.promotion import promote
from registry.reports import put_report as record_report
from registry.versions import put_monitor, record_version, set_anchor

FIRST: PromotionKind = "bootstrap"


def open_bootstrap(monitor: str, seed: int) -> Run:
    """Record the monitor and open the MLflow run of its bootstrap."""
    loop = opened()
    found = loop.monitor(monitor)
    put_monitor(loop.ledger, found)
    run = loop.tracker.open(monitor, f"bootstrap-{monitor}", "bootstrap", run_tags("bootstrap", seed))
    run.params({"seed": seed, "monitor_digest": found.digest, "feature_space": loop.space(found).digest})
    return Run(
        monitor=monitor, kind="bootstrap", run_key=digest_json(["bootstrap", monitor, found.digest, seed]),
        flow_run_id=flow_run_id(), mlflow_run_id=run.run_id, seed=seed, reason="bootstrap",
    )  # fmt: skip


def prepare(run: Run) -> dict[str, str]:
    """Store the parts of the benchmark, and name them as inputs of the MLflow run."""
    loop = opened()
    monitor = loop.monitor(run.monitor)
    parts = prepare_benchmark(loop, monitor, run.seed)
    handle, rows = loop.tracker.attach(run.monitor, run.mlflow_run_id), BenchmarkRows(loop, monitor)
    for kind in ("train", "test"):
        handle.dataset(f"{monitor.benchmark.dataset}-{kind}", parts[kind], len(rows.rows(kind)), kind)
    return parts


def train(run: Run) -> str:
    """Train the first detector; a champion that exists already is kept."""
    loop = opened()
    monitor = loop.monitor(run.monitor)
    return _champion_files(loop, run) or train_first(loop, monitor, run.seed, progress(run.monitor, "training"))


def _champion_files(loop: Loop, run: Run) -> str:
    from flows.steps.stored import put_detector

    if head(loop.ledger, run.monitor) is None:
        return ""
    return put_detector(loop.content, loop.champion(run.monitor)[1])


def measure(run: Run, detector: str) -> str:
    """Measure the detector on the benchmark and return the address of the report."""
    loop = opened()
    monitor = loop.monitor(run.monitor)
    measured = measure_on_benchmark(
        loop, monitor, get_detector(loop.content, detector), version=1, digest=detector, seed=run.seed,
        progress=progress(run.monitor, "attack"),
    )  # fmt: skip
    return put_report(loop.content, measured.report)


def register(run: Run, detector: str, report: str) -> dict[str, Any]:
    """Register the detector, make it champion and anchor, end the run."""
    loop = opened()
    handle = loop.tracker.attach(run.monitor, run.mlflow_run_id)
    known = head(loop.ledger, run.monitor)
    measured = get_report(loop.content, report, EvaluationReport)
    if known is None:
        made = loop.models.register(
            run.monitor, get_files(loop.content, detector), key=run.run_key, run_id=run.mlflow_run_id,
            tags={"revet.kind": "bootstrap"}, description=f"The first champion.\n\n{report_markdown(measured)}",
        )  # fmt: skip
        record_version(
            loop.ledger, run.monitor, version=made.version, digest=made.digest, key=run.run_key,
            model_id=made.model_id, run_id=run.mlflow_run_id,
        )  # fmt: skip
        measured = measured.model_copy(update={"version": made.version, "detector_digest": made.digest})
        record_report(loop.ledger, run.monitor, measured, kind=BASELINE, version=made.version)
        reference = BenchmarkRows(loop, loop.monitor(run.monitor)).digest("reference")
        set_anchor(loop.ledger, run.monitor, version=made.version, digest=made.digest, reference_digest=reference)
        promote(
            loop.ledger, loop.models, monitor=run.monitor, version=made.version, digest=made.digest, expected_epoch=0,
            kind=FIRST, key=run.run_key, evidence_digest=measured.digest,
            policy_digest=loop.monitor(run.monitor).digest,
        )  # fmt: skip
        known = loop.head(run.monitor)
    else:
        measured = measured.model_copy(update={"version": known.version, "detector_digest": known.digest})
    log_evaluation(handle, measured)
    monitor = loop.monitor(run.monitor)
    tested = BenchmarkRows(loop, monitor).rows("test")
    log_scores(handle, get_detector(loop.content, detector), tested, monitor.false_positive_budget)
    markdown(run.monitor, "baseline", report_markdown(measured), "The first champion on its benchmark")
    loop.tracker.end(run.mlflow_run_id, "FINISHED")
    return {"monitor": run.monitor, "version": known.version, "epoch": known.epoch, **describe(measured)}
