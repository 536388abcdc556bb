"""Reports and decisions as Markdown that a person reads at a glance: the answer first, then why, then the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from domain.decisions import Criterion, Decision, DegradationKind, GateDecision, Outcome, Remedy, Verdict
from domain.reports import CleanReport, Estimate, EvaluationReport, RobustnessReport, SliceReport

DASH = "-"
# Marks that plain text fonts have; colour emoji are empty boxes on many servers and remote desktops.
OUTCOMES = {Outcome.PASS: "✓ pass", Outcome.FAIL: "✗ fail", Outcome.WARN: "▲ warn", Outcome.ABSTAIN: "○ abstain"}
HEADLINES = {
    Verdict.HEALTHY: "✓ Healthy: the champion holds",
    Verdict.DEGRADED: "✗ Degraded",
    Verdict.ABSTAIN: "○ Abstain: this window cannot be judged",
}
KINDS = {
    DegradationKind.NONE: "",
    DegradationKind.DATA_FAULT: "a data fault",
    DegradationKind.BENIGN_DRIFT: "benign traffic changed",
    DegradationKind.NEW_FAMILY: "a new family of threats",
    DegradationKind.EVASION: "known threats evade it",
    DegradationKind.ROBUSTNESS: "it became easier to evade",
}
REMEDIES = {
    Remedy.NOTHING: "nothing to do",
    Remedy.FIX_DATA: "a person must mend the data",
    Remedy.RETHRESHOLD: "choose the threshold again on fresh benign rows",
    Remedy.HARDEN: "harden: adversarial retraining",
}
MOST_SLICES = 12


def verdict_markdown(decision: Decision, links: Mapping[str, str] | None = None) -> str:
    """Return the verdict on a window, ready for an artifact; `links` maps a title to an address."""
    headline = HEADLINES[decision.verdict]
    if decision.verdict is Verdict.DEGRADED:
        headline = f"{headline}: {KINDS[decision.kind]}"
    now = "now" if decision.action else "not automatically"
    remedy = REMEDIES[decision.remedy]
    facts = [
        ("Monitor", f"{_escape(decision.monitor)}, version {decision.version}"),
        ("Window", f"{decision.window_start:%Y-%m-%d %H:%M} to {decision.window_end:%Y-%m-%d %H:%M %Z}".strip()),
        ("Bad windows", f"{decision.bad_windows} of the last {decision.of_windows}"),
        ("Remedy", remedy if decision.remedy is Remedy.NOTHING else f"{remedy} ({now})"),
    ]
    parts = [f"# {headline}", _facts(facts)]
    if decision.reasons:
        parts.append("## Why\n\n" + "\n".join(f"- {_escape(reason)}" for reason in decision.reasons))
    parts += ["## Criteria", _criteria_markdown(decision.criteria)]
    if links:
        parts.append("## See also\n\n" + "\n".join(f"- [{_escape(title)}]({url})" for title, url in links.items()))
    return "\n\n".join(parts) + "\n"


def gate_markdown(decision: GateDecision, links: Mapping[str, str] | None = None) -> str:
    """Return the gate's judgement on a challenger."""
    challenger, champion = decision.challenger_version, decision.champion_version
    headline = (
        f"✓ Passed: version {challenger} may replace version {champion}"
        if decision.passed
        else f"✗ Refused: version {champion} stays, version {challenger} is not proven better"
    )
    parts = [
        f"# {headline}",
        _facts([("Monitor", _escape(decision.monitor)), ("Evidence", f"`{decision.evidence_digest[:16]}`")]),
    ]
    if decision.reasons:
        parts.append("## Why\n\n" + "\n".join(f"- {_escape(reason)}" for reason in decision.reasons))
    parts += ["## Criteria", _criteria_markdown(decision.criteria)]
    if links:
        parts.append("## See also\n\n" + "\n".join(f"- [{_escape(title)}]({url})" for title, url in links.items()))
    return "\n\n".join(parts) + "\n"


def report_markdown(report: EvaluationReport) -> str:
    """Return everything measured on one detector."""
    facts = [
        ("Monitor", f"{_escape(report.monitor)}, version {report.version}"),
        ("Detector", f"`{report.detector_digest[:16]}`"),
        ("Feature space", f"`{report.space_digest[:16]}`"),
        ("Benchmark", f"`{report.benchmark_digest[:16]}`"),
    ]
    parts = [f"# Evaluation of {_escape(report.monitor)}, version {report.version}", _facts(facts)]
    parts += _clean_parts(report.clean) + _robust_parts(report.robustness)
    return "\n\n".join(parts) + "\n"


def criteria_table(criteria: Iterable[Criterion]) -> list[dict[str, str]]:
    """Return one row per criterion for a table artifact, all cells as readable text."""
    return [
        {
            "criterion": one.name,
            "outcome": OUTCOMES[one.outcome],
            "value": _share(one.value),
            "interval": _interval(one.low, one.high),
            "limit": _share(one.limit),
            "rows": f"{one.n:,}" if one.n else DASH,
            "p": DASH if one.adjusted_p is None else f"{one.adjusted_p:.2g}",
            "reason": one.reason,
        }
        for one in criteria
    ]


def estimate_text(estimate: Estimate, *, count: bool = False) -> str:
    """Return `93.2 % (91.0 to 95.1)`; counts without the percent sign; weak numbers are marked."""
    if estimate.value is None:
        return "not measured"
    value = f"{estimate.value:,.0f}" if count else _share(estimate.value)
    interval = _interval(estimate.low, estimate.high, count=count)
    shown = value if interval == DASH else f"{value} ({interval})"
    return f"{shown} *weak*" if estimate.weak else shown


def _clean_parts(clean: CleanReport) -> list[str]:
    rows = [
        ("Detection rate at the frozen threshold", clean.detection_rate),
        ("Realised false-positive rate", clean.realised_false_positive_rate),
        ("Detection rate re-thresholded to the budget", clean.detection_rate_at_budget),
        ("Mean detection rate over families", clean.macro_detection_rate),
        ("Area under ROC", clean.roc_auc),
        ("Area under precision and recall", clean.pr_auc),
        ("Calibration error", clean.calibration_error),
    ]
    cells = [[name, estimate_text(value)] for name, value in rows]
    cells.append(["Alerts a day", estimate_text(clean.alerts_per_day, count=True)])
    weak = any(value.weak for _, value in rows)
    parts = [
        "## Without attack",
        f"{clean.rows:,} rows: {clean.malicious:,} malicious, {clean.benign:,} benign. Intervals at 95 %.",
        _table(["measure", "value"], cells),
    ]
    if weak:
        parts.append("*weak*: fewer benign rows than 100 / false-positive budget; do not rely on the last digits.")
    if clean.slices:
        parts += ["### By family", _slices(clean.slices)]
    return parts


def _slices(slices: Sequence[SliceReport]) -> str:
    cells = [
        [_escape(one.value), f"{one.malicious:,}", estimate_text(one.detection_rate) if one.malicious else DASH,
         f"{one.benign:,}", estimate_text(one.false_positive_rate) if one.benign else DASH]
        for one in slices[:MOST_SLICES]
    ]  # fmt: skip
    table = _table(["family", "malicious", "detection rate", "benign", "false-positive rate"], cells)
    left = len(slices) - MOST_SLICES
    return f"{table}\n\n{left} smaller families are not shown." if left > 0 else table


def _robust_parts(robust: RobustnessReport) -> list[str]:
    raised = [flag for flag in robust.flags if flag.raised]
    trust = "reliable" if robust.reliable else "**unreliable**, passes no gate"
    summary = (
        f"**{estimate_text(robust.robust_detection_rate)}** of {robust.rows:,} malicious rows are still detected "
        f"under suite `{robust.suite}` ({robust.level} attacker, {robust.norm} budget {robust.epsilon:g}); "
        f"{estimate_text(robust.clean_detection_rate)} without attack. The number is {trust}."
    )
    parts = ["## Under attack", summary]
    if raised:
        parts.append("\n".join(f"- ⚑ **{_escape(flag.name)}**: {_escape(flag.meaning)}" for flag in raised))
    stages = [
        [f"`{one.name}`", f"{one.rows:,}", f"{one.broken:,}", f"{one.rejected:,}",
         _share(one.robust_detection_rate), f"{one.queries:,}", f"{one.cpu_seconds:.1f}"]
        for one in robust.attacks
    ]  # fmt: skip
    parts.append(
        _table(["attack", "rows tried", "broken", "rejected", "still detected", "queries", "CPU seconds"], stages)
    )
    if robust.curve:
        curve = [[f"{point.epsilon:g}", estimate_text(point.robust_detection_rate)] for point in robust.curve]
        parts += ["### By attacker's budget", _table(["budget", "robust detection rate"], curve)]
    if robust.infeasible_clean:
        parts.append(f"{robust.infeasible_clean:,} rows break their own relations without any attack.")
    if robust.moved_features:
        moved = sorted(robust.moved_features.items(), key=lambda item: -item[1])[:8]
        parts += [
            "### Features the attacks moved most",
            _table(["feature", "share of successes"], [[f"`{name}`", _share(share)] for name, share in moved]),
        ]
    return parts


def _criteria_markdown(criteria: Iterable[Criterion]) -> str:
    """Return a table that is narrow enough to be seen whole, and below it what each line rests on."""
    rows = criteria_table(criteria)
    columns = ["criterion", "outcome", "value", "interval", "limit", "rows", "p"]
    table = _table(columns, [[_escape(row[column]) for column in columns] for row in rows])
    rests = "\n".join(f"- {_escape(row['criterion'])}: {_escape(row['reason'])}" for row in rows)
    return f"{table}\n\n### What they rest on\n\n{rests}" if rows else table


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- **{name}**: {value}" for name, value in facts)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _share(value: float | None) -> str:
    """Return a share in percent, with more digits where it is small."""
    if value is None:
        return DASH
    percent = 100 * value
    if percent == 0 or abs(percent) >= 1:
        return f"{percent:.1f} %"
    return f"{percent:.2g} %" if abs(percent) >= 0.001 else f"{percent:.0e} %"


def _interval(low: float | None, high: float | None, *, count: bool = False) -> str:
    if low is None or high is None:
        return DASH
    if count:
        return f"{low:,.0f} to {high:,.0f}"
    return f"{_share(low).removesuffix(' %')} to {_share(high).removesuffix(' %')}"


def _escape(text: str) -> str:
    """Return text that cannot break a table or open a tag: names of families come from outside."""
    cleaned = " ".join(text.split())
    for mark, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("[", "\\["), ("`", "'")):
        cleaned = cleaned.replace(mark, safe)
    return cleaned
