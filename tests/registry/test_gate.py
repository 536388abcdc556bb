from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.decisions import GateEvidence, Outcome
from domain.monitor import GateSettings
from domain.reports import (
    CleanReport,
    Estimate,
    EvaluationReport,
    PairedDifference,
    RobustnessReport,
    SanityFlag,
)
from registry.gate import holm, judge

BUDGET = 0.01
GATE = GateSettings()


def rate(value: float | None, low: float | None = None, high: float | None = None, n: int = 1000) -> Estimate:
    return Estimate(value=value, low=value if low is None else low, high=value if high is None else high, n=n)


def report(version: int, **changes) -> EvaluationReport:
    clean = CleanReport(
        rows=3000, malicious=1000, benign=2000, threshold=0.0,
        detection_rate=rate(0.9), realised_false_positive_rate=changes.pop("fpr", rate(0.01, 0.006, 0.015)),
        detection_rate_at_budget=rate(0.9), threshold_at_budget=0.0, macro_detection_rate=rate(0.9),
        roc_auc=rate(0.9), pr_auc=rate(0.9), calibration_error=rate(0.1), alerts_per_day=rate(10.0),
    )  # fmt: skip
    robust = {
        "suite": "quick", "suite_digest": "s", "space_digest": "f", "rows_digest": "r", "level": "expected",
        "norm": "linf", "epsilon": 0.2, "rows": 400, "infeasible_clean": 0, "clean_detection_rate": rate(0.9),
        "robust_detection_rate": rate(0.5), "attacks": (), "curve": (), "flags": (), "reliable": True, "seed": 0,
        "queries": 1, "cpu_seconds": 1.0,
    } | changes.pop("robust", {})  # fmt: skip
    fields = {
        "monitor": "m", "version": version, "detector_digest": f"d{version}", "space_digest": "f",
        "benchmark_digest": "b",
    } | changes  # fmt: skip
    return EvaluationReport(
        clean=clean.model_copy(update=fields.pop("clean", {})), robustness=RobustnessReport(**robust), **fields
    )


def paired(name: str, value: float = 0.0, half: float = 0.01, n: int = 1000, clusters: int = 200, **more):
    bounds = {"low": value - half, "high": value + half} | more
    return PairedDifference(
        name=name, first=0.9, second=0.9 + value, difference=value, n=n, clusters=clusters, **bounds
    )


BOTH = (paired("clean/detection_rate"), paired("robust/detection_rate", 0.2))


def evidence(**changes) -> GateEvidence:
    fields = {
        "champion": report(1), "challenger": report(2), "anchor": report(1), "against_champion": BOTH,
        "against_anchor": BOTH, "degraded_on": ("robust/detection_rate",),
    } | changes  # fmt: skip
    return GateEvidence(**fields)


def failing(case: GateEvidence, gate: GateSettings = GATE) -> list[str]:
    decision = judge(case, gate, budget=BUDGET)
    blocked = [each.name for each in decision.criteria if each.outcome in {Outcome.FAIL, Outcome.ABSTAIN}]
    assert decision.passed == (not blocked)
    return blocked


def test_a_challenger_that_is_better_where_it_must_and_no_worse_elsewhere_passes():
    decision = judge(evidence(), GATE, budget=BUDGET)
    assert decision.passed
    assert (decision.champion_version, decision.challenger_version) == (1, 2)
    assert all(each.reason for each in decision.criteria)
    assert decision.evidence_digest == evidence().digest


@pytest.mark.parametrize(
    ("changes", "criterion"),
    [
        ({"challenger": report(2, benchmark_digest="other")}, "same benchmark"),
        ({"challenger": report(2, space_digest="other")}, "same feature space"),
        ({"challenger": report(2, robust={"space_digest": "other"})}, "same feature space"),
        ({"anchor": report(1, robust={"suite_digest": "other"})}, "same suite"),
        ({"challenger": report(2, robust={"rows_digest": "other"})}, "same attacked rows"),
        ({"challenger": report(2, robust={"epsilon": 0.1})}, "same threat"),
        ({"challenger": report(2, monitor="other")}, "same monitor"),
        ({"challenger": report(2, clean={"malicious": 999})}, "same clean rows"),
        ({"challenger": report(2, detector_digest="d1")}, "another detector"),
    ],
)
def test_reports_that_are_not_comparable_fail(changes, criterion):
    assert criterion in failing(evidence(**changes))


@pytest.mark.parametrize("which", ["against_champion", "against_anchor"])
@pytest.mark.parametrize("name", ["clean/detection_rate", "robust/detection_rate"])
def test_a_loss_that_may_exceed_the_margin_fails_against_champion_and_anchor(which, name):
    other = which.removeprefix("against_")
    worse = tuple(paired(name, -0.04, 0.02) if each.name == name else each for each in BOTH)
    case = evidence(**{which: worse, "degraded_on": ()})
    assert failing(case) == [f"not worse than the {other}: {name}"]


@pytest.mark.parametrize("which", ["against_champion", "against_anchor"])
def test_a_difference_that_was_not_measured_or_measured_twice_fails(which):
    assert failing(evidence(**{which: BOTH[1:]}))
    assert failing(evidence(**{which: (*BOTH, BOTH[0])}))
    assert failing(evidence(**{which: ()}))


def test_where_the_champion_degraded_equal_is_not_enough():
    equal = (BOTH[0], paired("robust/detection_rate", 0.005, 0.01))
    name = "better than the champion where it degraded: robust/detection_rate"
    assert failing(evidence(against_champion=equal)) == [name]
    assert failing(evidence(against_champion=equal, degraded_on=())) == []
    assert failing(evidence(degraded_on=("production/detection_rate",)))


def test_the_lower_bound_decides_and_not_the_point_estimate():
    unsure = (BOTH[0], paired("robust/detection_rate", 0.2, 0.21))
    assert "better than the champion where it degraded: robust/detection_rate" in failing(
        evidence(against_champion=unsure)
    )


def test_an_interval_that_is_less_sure_than_alpha_asks_fails():
    lax = (paired("clean/detection_rate", confidence=0.5), BOTH[1])
    assert failing(evidence(against_champion=lax)) == ["not worse than the champion: clean/detection_rate"]


@pytest.mark.parametrize(
    ("rates", "outcome"),
    [
        (rate(0.01, 0.006, 0.015), Outcome.PASS),
        (rate(0.015, 0.01, 0.03), Outcome.WARN),
        (rate(0.021, 0.01, 0.03), Outcome.FAIL),
        (rate(0.05, 0.04, 0.06), Outcome.FAIL),
        (Estimate(value=None), Outcome.FAIL),
        (rate(math.nan), Outcome.FAIL),
    ],
)
def test_the_false_positive_rate_is_held_to_budget_times_factor(rates, outcome):
    decision = judge(evidence(challenger=report(2, fpr=rates)), GATE, budget=BUDGET)
    found = next(each for each in decision.criteria if each.name == "realised false-positive rate")
    assert found.outcome == outcome
    assert found.limit == pytest.approx(0.02)


def test_an_unreliable_challenger_fails_and_an_unreliable_champion_only_warns():
    flag = SanityFlag(name="masked-gradients", raised=True, value=1.0, limit=0.0, meaning="x")
    bad = {"flags": (flag,), "reliable": False}
    assert failing(evidence(challenger=report(2, robust=bad))) == ["robustness of the challenger is reliable"]
    assert failing(evidence(challenger=report(2, robust={"reliable": False})))
    assert failing(evidence(champion=report(1, robust=bad))) == []


def test_too_few_malicious_rows_abstain_and_so_do_not_pass():
    few = evidence(
        champion=report(1, clean={"malicious": 20}),
        challenger=report(2, clean={"malicious": 20}),
        anchor=report(1, clean={"malicious": 20}),
    )
    assert failing(few) == ["malicious rows, clean"]
    assert failing(evidence(challenger=report(2, robust={"rows": 20}))) == ["malicious rows, attacked"]
    thin = (paired("clean/detection_rate", n=5), BOTH[1])
    assert failing(evidence(against_champion=thin)) == ["rows of clean/detection_rate against champion"]


def test_a_slice_blocks_only_on_harm_that_is_proven_after_correction():
    harmed = paired("slice/family/bot/detection_rate", -0.3, 0.05)
    noisy = paired("slice/family/scan/detection_rate", -0.1, 0.2)
    tiny = paired("slice/family/worm/detection_rate", -1.0, 0.0, clusters=2)
    assert failing(evidence(against_champion=(*BOTH, noisy, tiny))) == []
    assert failing(evidence(against_champion=(*BOTH, harmed, noisy, tiny))) == [harmed.name]
    # one slice alone is below alpha; among forty it no longer is
    edge = paired("slice/family/edge/detection_rate", -0.15, 0.1)
    many = [paired(f"slice/family/{index}/detection_rate", 0.0, 0.05) for index in range(40)]
    assert failing(evidence(against_champion=(*BOTH, edge))) == [edge.name]
    assert failing(evidence(against_champion=(*BOTH, edge, *many))) == []


def test_harm_in_production_blocks_even_where_nothing_was_degraded():
    harmed = paired("production/detection_rate", -0.2, 0.1)
    assert failing(evidence(against_champion=(*BOTH, harmed))) == ["no harm: production/detection_rate"]
    unclear = paired("production/detection_rate", -0.02, 0.1)
    assert failing(evidence(against_champion=(*BOTH, unclear))) == []


@pytest.mark.parametrize("name", ["clean/detection_rate", "robust/detection_rate", "slice/a/b/x", "production/x"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_never_passes(name, value):
    broken = paired(name).model_copy(update={"difference": value, "low": value, "high": value})
    rest = tuple(each for each in BOTH if each.name != name)
    decision = judge(evidence(against_champion=(*rest, broken)), GATE, budget=BUDGET)
    assert not decision.passed
    assert len(decision.digest) == len(decision.evidence_digest) == 64


@given(st.floats(-0.5, 0.5), st.floats(0, 0.3), st.floats(0, 0.2))
@settings(max_examples=30, deadline=None)
def test_a_worse_challenger_never_passes_where_a_better_one_fails(value, half, loss):
    def passes(shift: float) -> bool:
        moved = (paired("clean/detection_rate", value - shift, half), BOTH[1])
        return judge(evidence(against_champion=moved), GATE, budget=BUDGET).passed

    assert passes(0.0) or not passes(loss)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_holms_values_are_at_least_the_raw_ones_at_most_bonferronis_and_keep_the_order(p_values):
    adjusted = holm(p_values)
    for raw, corrected in zip(p_values, adjusted, strict=True):
        assert raw <= corrected <= min(1.0, len(p_values) * raw) + 1e-12
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    assert all(adjusted[a] <= adjusted[b] for a, b in pairwise(order))


@pytest.mark.parametrize(("high", "blocks"), [(-0.015, True), (-0.009, False)])
def test_a_true_negative_rate_may_fall_by_what_the_budget_leaves_and_no_more(high, blocks):
    # Budget 0.01 and factor 2 leave 0.01; the margin of detection rates, 0.02, would be two budgets.
    loss = paired("production/true_negative_rate", high - 0.002, half=0.002)
    found = failing(evidence(against_champion=(*BOTH, loss)))
    assert found == (["no harm: production/true_negative_rate"] if blocks else [])
    detection = paired("production/detection_rate", high - 0.002, half=0.002)
    assert failing(evidence(against_champion=(*BOTH, detection))) == []
