"""The gate: whether a challenger may replace the champion. Pure; it judges measurements and makes none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from domain.decisions import Criterion, GateDecision, GateEvidence, Outcome
from domain.digests import digest_bytes
from domain.monitor import GateSettings
from domain.reports import EvaluationReport, PairedDifference

CLEAN = "clean/detection_rate"
ROBUST = "robust/detection_rate"
TRUE_NEGATIVES = "production/true_negative_rate"
SLICE_PREFIX = "slice/"
MIN_SLICE_CLUSTERS = 10  # fewer give a bootstrap interval that proves nothing
_BLOCKING = (Outcome.FAIL, Outcome.ABSTAIN)


def judge(evidence: GateEvidence, gate: GateSettings, *, budget: float) -> GateDecision:
    """Return the decision with every criterion; what is missing, not comparable or not a number fails.

    `budget` is the false-positive budget of the monitor.
    """
    criteria = (
        *_comparable(evidence),
        *_enough_rows(evidence, gate),
        *_reliable(evidence),
        *_non_inferior("champion", evidence.against_champion, gate, (gate.clean_margin, gate.robust_margin)),
        *_non_inferior("anchor", evidence.against_anchor, gate, (gate.anchor_margin, gate.anchor_margin)),
        *_superior(evidence, gate),
        _false_positives(evidence.challenger, gate, budget),
        *_other_differences(evidence, gate, budget),
        *_slices(evidence.against_champion, gate),
    )
    blocking = [criterion for criterion in criteria if criterion.outcome in _BLOCKING]
    reasons = [f"{criterion.name}: {criterion.reason}" for criterion in blocking]
    return GateDecision(
        monitor=evidence.challenger.monitor,
        champion_version=evidence.champion.version,
        challenger_version=evidence.challenger.version,
        passed=not blocking,
        criteria=criteria,
        reasons=tuple(reasons) or (f"all {len(criteria)} criteria hold",),
        evidence_digest=_evidence_digest(evidence),
    )


def _evidence_digest(evidence: GateEvidence) -> str:
    try:
        return evidence.digest
    except ValueError:  # NaN or infinity has no canonical JSON; such evidence fails, but has a name all the same
        return digest_bytes(evidence.model_dump_json().encode())


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _yes_or_no(name: str, holds: bool, good: str, bad: str) -> Criterion:  # noqa: FBT001 - the outcome itself
    outcome = Outcome.PASS if holds else Outcome.FAIL
    return Criterion(name=name, value=float(holds), limit=1.0, outcome=outcome, reason=good if holds else bad)


def _comparable(evidence: GateEvidence) -> list[Criterion]:
    reports = (evidence.champion, evidence.challenger, evidence.anchor)
    facts = {
        "same monitor": [report.monitor for report in reports],
        "same benchmark": [report.benchmark_digest for report in reports],
        "same feature space": [report.space_digest for report in reports]
        + [report.robustness.space_digest for report in reports],
        "same suite": [report.robustness.suite_digest for report in reports],
        "same attacked rows": [report.robustness.rows_digest for report in reports],
        "same threat": [
            f"{report.robustness.level} {report.robustness.norm} {report.robustness.epsilon:g}" for report in reports
        ],
        "same clean rows": [f"{report.clean.malicious}+{report.clean.benign}" for report in reports],
    }
    criteria = [
        _yes_or_no(name, len(set(values)) == 1 and all(values), "all reports agree", f"reports differ: {values}")
        for name, values in facts.items()
    ]
    different = evidence.champion.detector_digest != evidence.challenger.detector_digest
    criteria.append(
        _yes_or_no("another detector", different, "digests differ", "champion and challenger are the same detector")
    )
    return criteria


def _enough_rows(evidence: GateEvidence, gate: GateSettings) -> list[Criterion]:
    counts = {
        "malicious rows, clean": evidence.challenger.clean.malicious,
        "malicious rows, attacked": evidence.challenger.robustness.rows,
    }
    for other, differences in (("champion", evidence.against_champion), ("anchor", evidence.against_anchor)):
        named = {difference.name: difference for difference in differences}
        for name in (CLEAN, ROBUST):
            counts[f"rows of {name} against {other}"] = named[name].n if name in named else 0
    return [
        Criterion(
            name=name,
            value=count,
            limit=gate.min_malicious,
            n=count,
            outcome=Outcome.PASS if count >= gate.min_malicious else Outcome.ABSTAIN,
            reason=f"{count} rows, {gate.min_malicious} are needed",
        )
        for name, count in counts.items()
    ]


def _reliable(evidence: GateEvidence) -> list[Criterion]:
    criteria = []
    for role, report in (
        ("challenger", evidence.challenger),
        ("champion", evidence.champion),
        ("anchor", evidence.anchor),
    ):
        raised = [flag.name for flag in report.robustness.flags if flag.raised]
        holds = report.robustness.reliable and not raised
        # A flagged champion may look too robust; that only makes the challenger's task harder, so it does not block.
        bad = Outcome.FAIL if role == "challenger" else Outcome.WARN
        criteria.append(
            Criterion(
                name=f"robustness of the {role} is reliable",
                value=float(len(raised)),
                limit=0.0,
                n=report.robustness.rows,
                outcome=Outcome.PASS if holds else bad,
                reason="no sanity flag is raised" if holds else f"sanity flags: {raised or ['report says unreliable']}",
            )
        )
    return criteria


def _bound(
    name: str, difference: PairedDifference | None, limit: float, gate: GateSettings, *, strict_name: str
) -> Criterion:
    """Return the criterion that the lower bound of `difference` lies above `limit`."""
    if difference is None:
        reason = f"no paired difference {strict_name!r} was measured"
        return Criterion(name=name, value=None, limit=limit, outcome=Outcome.FAIL, reason=reason)
    low, value = _finite(difference.low), _finite(difference.difference)
    sure = difference.confidence >= 1 - 2 * gate.alpha - 1e-9
    holds = low is not None and value is not None and low > limit and sure
    if not sure:
        reason = f"confidence {difference.confidence:g} is below the {1 - 2 * gate.alpha:g} that alpha asks for"
    else:
        relation = "lies above" if holds else "does not lie above"
        reason = f"lower bound {_show(low)} of the difference {_show(value)} {relation} {limit:+.3f}"
    return Criterion(
        name=name,
        value=value,
        limit=limit,
        low=low,
        high=_finite(difference.high),
        n=difference.n,
        outcome=Outcome.PASS if holds else Outcome.FAIL,
        reason=reason,
    )


def _show(value: float | None) -> str:
    return "(not a number)" if value is None else f"{value:+.3f}"


def _find(differences: Sequence[PairedDifference], name: str) -> PairedDifference | None:
    """Return the difference of that name; two of one name are ambiguous and count as none."""
    found = [difference for difference in differences if difference.name == name]
    return found[0] if len(found) == 1 else None


def _non_inferior(
    other: str, differences: Sequence[PairedDifference], gate: GateSettings, margins: tuple[float, float]
) -> list[Criterion]:
    return [
        _bound(f"not worse than the {other}: {name}", _find(differences, name), -margin, gate, strict_name=name)
        for name, margin in zip((CLEAN, ROBUST), margins, strict=True)
    ]


def _superior(evidence: GateEvidence, gate: GateSettings) -> list[Criterion]:
    return [
        _bound(
            f"better than the champion where it degraded: {name}",
            _find(evidence.against_champion, name),
            0.0,
            gate,
            strict_name=name,
        )
        for name in evidence.degraded_on
    ]


def _false_positives(challenger: EvaluationReport, gate: GateSettings, budget: float) -> Criterion:
    rate, limit = challenger.clean.realised_false_positive_rate, budget * gate.false_positive_factor
    value, low, high = _finite(rate.value), _finite(rate.low), _finite(rate.high)
    if value is None or low is None or high is None:
        outcome, reason = Outcome.FAIL, "the realised false-positive rate was not measured"
    elif value > limit:
        proof = "proven" if low > limit else "not proven, but a challenger must show the contrary"
        outcome, reason = Outcome.FAIL, f"{value:.4f} is above {limit:.4f} = budget x factor ({proof})"
    elif high > limit:
        outcome, reason = Outcome.WARN, f"{value:.4f} is within {limit:.4f}, its upper bound {high:.4f} is not"
    else:
        outcome, reason = Outcome.PASS, f"{value:.4f}, upper bound {high:.4f}, is within {limit:.4f}"
    name = "realised false-positive rate"
    return Criterion(name=name, value=value, limit=limit, low=low, high=high, n=rate.n, outcome=outcome, reason=reason)


def _other_differences(evidence: GateEvidence, gate: GateSettings, budget: float) -> list[Criterion]:
    """Judge what was measured besides, such as production: it blocks on demonstrated harm only.

    A true-negative rate may fall by what the budget leaves to the false-positive rate: a margin that fits detection
    rates would be several budgets.
    """
    criteria = []
    known = {CLEAN, ROBUST, *evidence.degraded_on}
    for difference in evidence.against_champion:
        if difference.name in known or difference.name.startswith(SLICE_PREFIX):
            continue
        spare = budget * (gate.false_positive_factor - 1)
        margin = spare if difference.name == TRUE_NEGATIVES else gate.clean_margin
        high = _finite(difference.high)
        harmed = high is None or high < -margin
        criteria.append(
            Criterion(
                name=f"no harm: {difference.name}",
                value=_finite(difference.difference),
                limit=-margin,
                low=_finite(difference.low),
                high=high,
                n=difference.n,
                outcome=Outcome.FAIL if harmed else Outcome.PASS,
                reason=f"upper bound {_show(high)} {'lies below' if harmed else 'reaches'} {-margin:+.3f}",
            )
        )
    return criteria


def _harm_p_value(difference: PairedDifference, margin: float) -> float:
    """Return the one-sided p-value of `not worse by more than margin`, by the normal law behind the interval."""
    quantile = NormalDist().inv_cdf(0.5 + difference.confidence / 2)
    error = (difference.high - difference.low) / (2 * quantile)
    distance = difference.difference + margin
    if not math.isfinite(distance) or not math.isfinite(error):
        return 0.0
    if error <= 0:
        return 0.0 if distance < 0 else 1.0
    return NormalDist().cdf(distance / error)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted by Holm (1979), in the order given."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def _slices(differences: Sequence[PairedDifference], gate: GateSettings) -> list[Criterion]:
    slices = [difference for difference in differences if difference.name.startswith(SLICE_PREFIX)]
    p_values = [_harm_p_value(difference, gate.slice_margin) for difference in slices]
    judged = [index for index, difference in enumerate(slices) if difference.clusters >= MIN_SLICE_CLUSTERS]
    adjusted = dict(zip(judged, holm([p_values[index] for index in judged]), strict=True))
    criteria = []
    for index, difference in enumerate(slices):
        if index not in adjusted:
            outcome, reason = Outcome.WARN, f"{difference.clusters} clusters, {MIN_SLICE_CLUSTERS} are needed to judge"
        elif adjusted[index] <= gate.alpha:
            outcome, reason = Outcome.FAIL, f"harm beyond {gate.slice_margin:g} is proven"
        else:
            outcome, reason = Outcome.PASS, f"harm beyond {gate.slice_margin:g} is not proven"
        criteria.append(
            Criterion(
                name=difference.name,
                value=_finite(difference.difference),
                limit=-gate.slice_margin,
                low=_finite(difference.low),
                high=_finite(difference.high),
                n=difference.n,
                p_value=p_values[index],
                adjusted_p=adjusted.get(index),
                outcome=outcome,
                reason=reason,
            )
        )
    return criteria
