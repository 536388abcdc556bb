"""The criteria of one window: each a one-sided test against a limit of the policy, corrected together by Holm."""

from __future__ import annotations

from collections.abc import Sequence

from domain.decisions import Criterion, Outcome
from domain.monitor import PolicySettings
from domain.reports import Estimate, PairedDifference, RobustnessReport
from evaluation.decision.inputs import DecisionInputs
from evaluation.statistics.comparison import holm, p_above, p_below, p_worse
from evaluation.statistics.intervals import clopper_pearson

QUARANTINE = "data/quarantined_share"
CONTRADICTED = "data/contradicted_labels"
COVERAGE = "data/label_coverage"
DETECTION = "production/detection_rate"
FALSE_POSITIVES = "production/false_positive_rate"
ROBUST = "robust/detection_rate"
CLEAN = "clean/detection_rate"
DRIFT = "drift/drifted_share"
VAGUE = 2.0
REQUIRED = (COVERAGE, DETECTION, FALSE_POSITIVES)


def judge_criteria(inputs: DecisionInputs, policy: PolicySettings) -> tuple[Criterion, ...]:
    """Return every criterion of the window, tested ones with their p-value adjusted over the window."""
    untested = [
        _quarantine(inputs, policy),
        _contradicted(inputs, policy),
        _coverage(inputs, policy),
        _detection(inputs, policy),
        _false_positives(inputs, policy),
        _robust(inputs, policy),
        _clean(inputs, policy),
        _drift(inputs, policy),
    ]
    return _corrected([criterion for criterion in untested if criterion is not None], policy.alpha)


def _corrected(criteria: Sequence[Criterion], alpha: float) -> tuple[Criterion, ...]:
    tested = [criterion for criterion in criteria if criterion.p_value is not None]
    adjusted = dict(
        zip((one.name for one in tested), holm([one.p_value or 0.0 for one in tested]).tolist(), strict=True)
    )
    finished = []
    for criterion in criteria:
        p = adjusted.get(criterion.name)
        if p is None:
            finished.append(criterion)
            continue
        failed = p <= alpha
        proof = "proven beyond the limit" if failed else "not proven beyond the limit"
        finished.append(
            criterion.model_copy(
                update={
                    "adjusted_p": p,
                    "outcome": Outcome.FAIL if failed else Outcome.PASS,
                    "reason": f"{criterion.reason}: {proof} (adjusted p = {p:.2g}, alpha = {alpha:g})",
                }
            )
        )
    return tuple(finished)


def _tested(name: str, estimate: Estimate, limit: float, p_value: float, reason: str) -> Criterion:
    return Criterion(
        name=name, value=estimate.value, limit=limit, low=estimate.low, high=estimate.high, n=estimate.n,
        p_value=p_value, outcome=Outcome.PASS, reason=reason,
    )  # fmt: skip


def _abstained(name: str, reason: str, estimate: Estimate | None = None, limit: float | None = None) -> Criterion:
    shown = estimate or Estimate(value=None)
    return Criterion(
        name=name, value=shown.value, limit=limit, low=shown.low, high=shown.high, n=shown.n,
        outcome=Outcome.ABSTAIN, reason=reason,
    )  # fmt: skip


def _quarantine(inputs: DecisionInputs, policy: PolicySettings) -> Criterion:
    scored = inputs.production.rows if inputs.window_rows is None else inputs.window_rows
    total = scored + inputs.production.quarantined
    if total == 0:
        return _abstained(QUARANTINE, "the window holds no row", limit=policy.quarantine_limit)
    share = clopper_pearson(inputs.production.quarantined, total)
    reason = f"{inputs.production.quarantined} of {total} rows break the data contract"
    return _tested(QUARANTINE, share, policy.quarantine_limit, p_above(share, policy.quarantine_limit), reason)


def _contradicted(inputs: DecisionInputs, policy: PolicySettings) -> Criterion | None:
    """Judge on how many rows the labellers disagree: rates from labels that were tampered with mean nothing."""
    labelled, disputed = inputs.production.labelled, inputs.production.contradictions
    if labelled == 0:
        return None
    share = clopper_pearson(min(disputed, labelled), labelled)
    reason = f"labellers disagree on {disputed} of {labelled} labelled rows"
    return _tested(CONTRADICTED, share, policy.contradiction_limit, p_above(share, policy.contradiction_limit), reason)


def _coverage(inputs: DecisionInputs, policy: PolicySettings) -> Criterion:
    coverage, limit = inputs.production.label_coverage, policy.min_label_coverage
    enough = coverage >= limit
    if enough:
        reason = "enough of the labels that were due arrived"
    elif inputs.mature:
        reason = "labels that were due are missing although the label horizon has passed: is the labelling out?"
    else:
        reason = "labels are still arriving; judge the window again at the label horizon"
    return Criterion(
        name=COVERAGE, value=coverage, limit=limit, n=inputs.production.labelled,
        outcome=Outcome.PASS if enough else Outcome.ABSTAIN, reason=reason,
    )  # fmt: skip


def detection_limit(inputs: DecisionInputs, policy: PolicySettings) -> float | None:
    """Return the rate below which detection counts as degraded: the baseline's lower bound minus the tolerance.

    A trusted window is the baseline only where it is precise: the lower bound of a vague one would forgive any loss.
    """
    baseline, window = inputs.baseline_clean.detection_rate, inputs.baseline_production
    if window is not None and window.identified and window.malicious >= policy.min_malicious:
        rate = window.detection_rate
        if (
            rate.value is not None
            and rate.low is not None
            and rate.value - rate.low <= VAGUE * policy.detection_tolerance
        ):
            baseline = rate
    return None if baseline.low is None else max(0.0, baseline.low - policy.detection_tolerance)


def _detection(inputs: DecisionInputs, policy: PolicySettings) -> Criterion:
    production, limit = inputs.production, detection_limit(inputs, policy)
    rate = production.detection_rate
    if limit is None:
        return _abstained(DETECTION, "the baseline has no detection rate to compare with", rate)
    if production.label_coverage < policy.min_label_coverage:
        return _abstained(DETECTION, "too few of the labels due arrived to trust a rate", rate, limit)
    if not production.identified or rate.value is None:
        reason = (
            "no malicious row is labelled"
            if production.identified
            else "without an audit stream the detection rate is not identified: only alerts were labelled"
        )
        return _abstained(DETECTION, reason, rate, limit)
    if production.malicious < policy.min_malicious:
        reason = f"{production.malicious} labelled malicious rows, the policy asks for {policy.min_malicious}"
        return _abstained(DETECTION, reason, rate, limit)
    reason = f"{production.malicious} labelled malicious rows, {production.audited} audited rows"
    return _tested(DETECTION, rate, limit, p_below(rate, limit), reason)


def _false_positives(inputs: DecisionInputs, policy: PolicySettings) -> Criterion:
    production, rate = inputs.production, inputs.production.false_positive_rate
    limit = min(1.0, inputs.budget * policy.false_positive_factor)
    if production.label_coverage < policy.min_label_coverage:
        return _abstained(FALSE_POSITIVES, "too few of the labels due arrived to trust a rate", rate, limit)
    if rate.value is None or production.benign < policy.min_benign:
        reason = f"{production.benign} labelled benign rows, the policy asks for {policy.min_benign}"
        return _abstained(FALSE_POSITIVES, reason, rate, limit)
    reason = f"{production.benign} labelled benign rows; limit is {policy.false_positive_factor:g} times the budget"
    return _tested(FALSE_POSITIVES, rate, limit, p_above(rate, limit), reason)


def _robust(inputs: DecisionInputs, policy: PolicySettings) -> Criterion | None:
    now, before = inputs.robustness, inputs.baseline_robustness
    if inputs.robust_paired is not None:
        return _paired(ROBUST, inputs.robust_paired, policy.robust_tolerance, "the same rows under the same attacks")
    if now is None:
        return None
    rate = now.robust_detection_rate
    if before is None or before.robust_detection_rate.low is None:
        return _abstained(ROBUST, "there is no baseline under attack to compare with", rate)
    limit = max(0.0, before.robust_detection_rate.low - policy.robust_tolerance)
    if not (now.reliable and before.reliable):
        flags = [flag.name for report in (now, before) for flag in report.flags if flag.raised]
        return _abstained(ROBUST, f"sanity flags make the numbers unreliable: {', '.join(flags)}", rate, limit)
    if differing := _incomparable(now, before):
        return _abstained(ROBUST, f"the baseline was attacked differently: {', '.join(differing)}", rate, limit)
    return _tested(ROBUST, rate, limit, p_below(rate, limit), f"{now.rows} malicious rows under suite {now.suite}")


def _incomparable(now: RobustnessReport, before: RobustnessReport) -> list[str]:
    names = ("space_digest", "suite_digest", "level", "norm", "epsilon")
    return [name for name in names if getattr(now, name) != getattr(before, name)]


def _clean(inputs: DecisionInputs, policy: PolicySettings) -> Criterion | None:
    if inputs.clean_paired is None:
        return None
    return _paired(CLEAN, inputs.clean_paired, policy.detection_tolerance, "the same rows of the clean benchmark")


def _paired(name: str, paired: PairedDifference, tolerance: float, rows: str) -> Criterion:
    reason = f"{paired.first:.1%} then, {paired.second:.1%} now on {rows} (value is the difference)"
    return Criterion(
        name=name, value=paired.difference, limit=-tolerance, low=paired.low, high=paired.high, n=paired.n,
        p_value=p_worse(paired, tolerance), outcome=Outcome.PASS, reason=reason,
    )  # fmt: skip


def _drift(inputs: DecisionInputs, policy: PolicySettings) -> Criterion | None:
    if inputs.drift is None:
        return None
    drifted = [column.column for column in inputs.drift.columns if column.drifted]
    named = ", ".join(drifted[:5]) + (f" and {len(drifted) - 5} more" if len(drifted) > 5 else "")
    return Criterion(
        name=DRIFT, value=inputs.drift.drifted_share, limit=policy.drift_share_limit, n=inputs.drift.current_rows,
        outcome=Outcome.WARN if inputs.drift.drifted_share > policy.drift_share_limit else Outcome.PASS,
        reason=f"drifted: {named}; drift alone never degrades" if drifted else "no column drifted",
    )  # fmt: skip
