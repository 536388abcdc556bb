"""What a person sees of a run: artifacts in the Prefect UI, metrics, figures and tables in the MLflow UI."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from domain.decisions import Decision, DegradationKind, GateDecision
from domain.names import artifact_key, metric_name
from domain.reports import CleanReport, DriftReport, Estimate, EvaluationReport, ProductionReport, RobustnessReport
from evaluation.detectors.detector import Detector
from evaluation.figures import gate_figure, robustness_curve, roc_figure, score_histogram, survivors_figure
from evaluation.rendering import criteria_table, gate_markdown, report_markdown, verdict_markdown
from evaluation.rows import LabelledRows
from flows.context import flow_run_id, flow_run_url
from registry.tracking import FLOW_RUN_TAG, RunHandle

_LOG = logging.getLogger(__name__)
NOTE = "mlflow.note.content"  # the tag that MLflow shows as a run's description, as Markdown


def flow_run_tag() -> dict[str, str]:
    """Return the tag by which the runs of a flow run that died are found."""
    return {FLOW_RUN_TAG: flow_run_id()} if flow_run_id() else {}


def run_tags(reason: str, seed: int) -> dict[str, str]:
    """Return the tags that every MLflow run bears: why it ran, with which seed, and its Prefect page."""
    tags = {FLOW_RUN_TAG: flow_run_id(), "prefect.flow_run_url": flow_run_url(), "revet.reason": reason}
    return {key: value for key, value in {**tags, "revet.seed": str(seed)}.items() if value}


def markdown(monitor: str, kind: str, text: str, description: str) -> None:
    """Show `text` under the stable key `<kind>-<monitor>` in the Prefect UI; nothing outside of a flow run."""
    if flow_run_id():
        from prefect.artifacts import create_markdown_artifact

        create_markdown_artifact(markdown=text, key=artifact_key(kind, monitor), description=description)


def table(monitor: str, kind: str, rows: list[dict[str, Any]], description: str) -> None:
    """Show `rows` as a table under the stable key `<kind>-<monitor>`."""
    if flow_run_id() and rows:
        from prefect.artifacts import create_table_artifact

        create_table_artifact(table=rows, key=artifact_key(kind, monitor), description=description)


def progress(monitor: str, kind: str) -> Any:
    """Return a callable `(message, share)` that moves a progress bar in the Prefect UI."""
    if not flow_run_id():
        return None
    from prefect.artifacts import create_progress_artifact, update_progress_artifact

    identifier = create_progress_artifact(progress=0.0, key=artifact_key(kind, monitor, "progress"))
    shown = [0.0]

    def move(_message: str, share: float) -> None:
        # One request for each tenth is enough for an eye, and costs nothing next to the attack.
        if share >= 1.0 or share - shown[0] >= 0.1:
            shown[0] = share
            update_progress_artifact(identifier, progress=min(100.0, 100.0 * share))  # type: ignore[arg-type]

    return move


def clean_metrics(report: CleanReport, prefix: str = "clean") -> dict[str, float | None]:
    """Return the metrics of a clean report by MLflow name, bounds of the interval included."""
    fields: dict[str, Estimate] = {
        "detection_rate": report.detection_rate,
        "false_positive_rate": report.realised_false_positive_rate,
        "detection_rate_at_budget": report.detection_rate_at_budget,
        "macro_detection_rate": report.macro_detection_rate,
        "roc_auc": report.roc_auc,
        "pr_auc": report.pr_auc,
        "calibration_error": report.calibration_error,
        "alerts_per_day": report.alerts_per_day,
    }
    return _estimates(prefix, fields)


def production_metrics(report: ProductionReport) -> dict[str, float | None]:
    """Return the metrics of a production report by MLflow name."""
    rates = {"detection_rate": report.detection_rate, "false_positive_rate": report.false_positive_rate}
    counts = {
        "rows": report.rows, "quarantined": report.quarantined, "labelled": report.labelled,
        "audited": report.audited, "label_coverage": report.label_coverage, "contradictions": report.contradictions,
    }  # fmt: skip
    return {**_estimates("production", rates), **{f"production/{name}": value for name, value in counts.items()}}


def robust_metrics(report: RobustnessReport, prefix: str = "robust") -> dict[str, float | None]:
    """Return the metrics of a robustness report, one set for each budget of the curve."""
    found = _estimates(prefix, {"detection_rate": report.robust_detection_rate})
    for point in report.curve:
        found |= _estimates(
            metric_name(prefix, f"eps-{point.epsilon:g}"), {"detection_rate": point.robust_detection_rate}
        )
    found[f"{prefix}/flags_raised"] = float(sum(flag.raised for flag in report.flags))
    found[f"{prefix}/cpu_seconds"] = report.cpu_seconds
    return found


def drift_metrics(report: DriftReport) -> dict[str, float | None]:
    """Return share of drifted columns and the value of each column."""
    return {
        "drift/drifted_share": report.drifted_share,
        **{metric_name("drift", column.column): column.value for column in report.columns},
    }


def _estimates(prefix: str, fields: Mapping[str, Estimate]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, estimate in fields.items():
        found[metric_name(prefix, name)] = estimate.value
        found[metric_name(prefix, f"{name}_low")] = estimate.low
        found[metric_name(prefix, f"{name}_high")] = estimate.high
    return found


def log_attacks(run: RunHandle, report: RobustnessReport, prefix: str = "robust") -> None:
    """Log a robustness report: metrics, figures, and one nested run for each attack."""
    run.metrics(robust_metrics(report, prefix))
    # At the top, for MLflow puts only files that lie there beside each other when it compares runs.
    run.figure(f"{prefix}-curve.png", robustness_curve({prefix: report}))
    run.figure(f"{prefix}-survivors.png", survivors_figure(report))
    run.text(f"reports/{prefix}.json", report.model_dump_json(indent=1))
    for attack in report.attacks:
        with run.child(f"{prefix}: {attack.name}", "attack", flow_run_tag()) as nested:
            nested.params({"attack": attack.name, "epsilon": report.epsilon, **attack.parameters})
            nested.metrics(
                {
                    metric_name(prefix, attack.name, f"eps-{report.epsilon:g}", "detection_rate"):
                        attack.robust_detection_rate,
                    "rows": attack.rows, "broken": attack.broken, "rejected": attack.rejected,
                    "cpu_seconds": attack.cpu_seconds, "queries": attack.queries,
                }
            )  # fmt: skip


def log_evaluation(run: RunHandle, report: EvaluationReport, prefix: str = "") -> None:
    """Log an evaluation report: how it was measured, clean metrics, slices as a table, attacks, the report itself."""
    attacked = report.robustness
    run.params(
        {
            "detector_version": report.version, "suite": attacked.suite, "attacker": attacked.level,
            "norm": attacked.norm, "epsilon": attacked.epsilon, "benchmark": report.benchmark_digest[:16],
            "benchmark_rows": report.clean.rows, "attacked_rows": attacked.rows,
        }
    )  # fmt: skip
    run.metrics(clean_metrics(report.clean, metric_name(prefix, "clean") if prefix else "clean"))
    log_attacks(run, report.robustness, metric_name(prefix, "robust").replace("/", "-") if prefix else "robust")
    name = f"{prefix}-" if prefix else ""
    slices = [
        {
            "kind": one.kind, "value": one.value, "malicious": one.malicious, "benign": one.benign,
            "detection_rate": one.detection_rate.value, "false_positive_rate": one.false_positive_rate.value,
        }
        for one in report.clean.slices
    ]  # fmt: skip
    if slices:
        run.table(f"tables/{name}slices.json", slices)
    run.text(f"reports/{name}evaluation.md", report_markdown(report))
    run.text(f"reports/{name}evaluation.json", report.model_dump_json(indent=1))


def log_scores(run: RunHandle, detector: Detector, rows: LabelledRows, budget: float) -> None:
    """Log how the detector's scores separate the classes of the benchmark: histogram and ROC curve."""
    logit = detector.score_raw(rows.raw).logit
    run.figure("score-histogram.png", score_histogram(logit, rows.y, detector.threshold))
    run.figure("roc.png", roc_figure(logit, rows.y, threshold=detector.threshold, budget=budget))


def publish_decision(run: RunHandle | None, decision: Decision, links: Mapping[str, str]) -> None:
    """Show the verdict and its criteria in both UIs."""
    text = verdict_markdown(decision, links)
    kind = "" if decision.kind is DegradationKind.NONE else f" ({decision.kind.value})"
    _LOG.info("%s%s: %s", decision.verdict.value, kind, "; ".join(decision.reasons) or "every criterion passed")
    markdown(decision.monitor, "verdict", text, f"Verdict: {decision.verdict.value}")
    table(decision.monitor, "criteria", list(criteria_table(decision.criteria)), "Every criterion with its limit")
    if run is not None:
        run.text("reports/decision.md", text)
        run.text("reports/decision.json", decision.model_dump_json(indent=1))
        run.tags(
            {NOTE: _first_part(text), "revet.verdict": decision.verdict.value,
             "revet.kind_of_degradation": decision.kind.value,
             "revet.window": decision.window_start.isoformat(), "revet.version": str(decision.version)}
        )  # fmt: skip


def publish_gate(run: RunHandle, decision: GateDecision, links: Mapping[str, str]) -> None:
    """Show the gate's decision and its criteria in both UIs."""
    text = gate_markdown(decision, links)
    answer = "passed" if decision.passed else "did not pass"
    _LOG.info("version %d %s the gate: %s", decision.challenger_version, answer, "; ".join(decision.reasons))
    markdown(decision.monitor, "gate", text, "Gate: passed" if decision.passed else "Gate: not passed")
    table(decision.monitor, "gate-criteria", list(criteria_table(decision.criteria)), "Every criterion of the gate")
    run.text("reports/gate.md", text)
    run.text("reports/gate.json", decision.model_dump_json(indent=1))
    run.figure("gate.png", gate_figure(decision))
    run.tags({NOTE: _first_part(text), "revet.gate": "passed" if decision.passed else "not passed"})


def _first_part(text: str) -> str:
    """Return what stands before the table of criteria: the answer and why, short enough for a tag."""
    return text.partition("\n## Criteria")[0][:4000]
