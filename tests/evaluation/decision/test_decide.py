from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.decisions import DegradationKind, Outcome, Remedy, Verdict
from domain.monitor import PolicySettings
from domain.reports import Estimate, SanityFlag
from evaluation.decision.decide import decide
from evaluation.decision.diagnosis import Diagnosis
from evaluation.statistics.paired import paired_difference
from tests.evaluation.toys import drift, inputs, production, robust

POLICY = PolicySettings()


def evasion() -> Diagnosis:
    return Diagnosis(kind=DegradationKind.EVASION, evidence=("they look known",), missed=60)


def outcome(decision, name):
    return next(one.outcome for one in decision.criteria if one.name == name)


def test_a_champion_like_its_baseline_is_healthy():
    decision = decide(inputs(drift=drift(0.1), robustness=robust(), baseline_robustness=robust()), POLICY)
    assert decision.verdict is Verdict.HEALTHY
    assert (decision.kind, decision.remedy, decision.action) == (DegradationKind.NONE, Remedy.NOTHING, False)
    assert decision.reasons == ()


def test_a_clear_loss_of_detection_is_degraded_and_hardened_for():
    decision = decide(inputs(production=production(detected=120), diagnosis=evasion()), POLICY)
    assert (decision.verdict, decision.kind) == (Verdict.DEGRADED, DegradationKind.EVASION)
    assert (decision.remedy, decision.action) == (Remedy.HARDEN, True)
    assert "they look known" in decision.reasons


def test_a_low_point_estimate_with_a_wide_interval_decides_nothing():
    wide = production(detected=120).model_copy(
        update={"detection_rate": Estimate(value=0.6, low=0.2, high=0.95, n=200)}
    )
    assert decide(inputs(production=wide), POLICY).verdict is Verdict.HEALTHY


def test_an_empty_window_abstains():
    nothing = Estimate(value=None)
    empty = production(
        detected=0, false_positives=0, malicious=0, benign=0, rows=0, quarantined=0, labelled=0, audited=0,
        label_coverage=0.0,
        detection_rate=nothing, false_positive_rate=nothing, identified=False,
    )  # fmt: skip
    decision = decide(inputs(production=empty), POLICY)
    assert decision.verdict is Verdict.ABSTAIN
    assert not decision.action


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (production(malicious=0, detected=0, detection_rate=Estimate(value=None)), "no malicious row"),
        (production(benign=0, false_positives=0, false_positive_rate=Estimate(value=None)), "0 labelled benign"),
        (production(detected=38, malicious=40), "the policy asks for 50"),
        (production(benign=100, false_positives=1), "the policy asks for 200"),
        (production(identified=False, detection_rate=Estimate(value=None)), "audit stream"),
        (production(label_coverage=0.4), "is the labelling out"),
        (production(label_coverage=0.0, labelled=0), "is the labelling out"),
    ],
)
def test_a_window_that_cannot_be_judged_abstains_and_says_why(window, words):
    decision = decide(inputs(production=window), POLICY)
    assert decision.verdict is Verdict.ABSTAIN
    assert any(words in reason for reason in decision.reasons)


def test_labels_that_still_arrive_are_no_outage():
    decision = decide(inputs(production=production(label_coverage=0.4), mature=False), POLICY)
    assert any("still arriving" in reason for reason in decision.reasons)


def test_alerts_alone_never_make_a_champion_healthy_however_good_they_look():
    only_alerts = production(detected=200, identified=False)
    assert decide(inputs(production=only_alerts), POLICY).verdict is Verdict.ABSTAIN


def test_quarantined_rows_are_a_data_fault_that_is_never_hardened_for():
    faulty = production(detected=100, quarantined=2000)
    decision = decide(inputs(production=faulty, diagnosis=evasion()), POLICY)
    assert (decision.verdict, decision.kind) == (Verdict.DEGRADED, DegradationKind.DATA_FAULT)
    assert (decision.remedy, decision.action) == (Remedy.FIX_DATA, False)
    # The clean part is still judged: bad rows must not blind the monitor.
    assert outcome(decision, "production/detection_rate") is Outcome.FAIL


def test_one_quarantined_row_of_ten_is_no_proof_of_a_data_fault():
    decision = decide(inputs(production=production(rows=9, quarantined=1)), POLICY)
    assert outcome(decision, "data/quarantined_share") is Outcome.PASS


def test_labels_that_labellers_dispute_are_a_data_fault_whatever_the_rates_say():
    poisoned = production(false_positives=100, contradictions=300)
    decision = decide(inputs(production=poisoned), POLICY)
    assert (decision.verdict, decision.kind) == (Verdict.DEGRADED, DegradationKind.DATA_FAULT)
    assert (decision.remedy, decision.action) == (Remedy.FIX_DATA, False)


def test_a_few_disputed_labels_are_ordinary():
    decision = decide(inputs(production=production(contradictions=20)), POLICY)
    assert outcome(decision, "data/contradicted_labels") is Outcome.PASS
    assert decision.verdict is Verdict.HEALTHY


def test_false_positives_alone_are_benign_drift():
    decision = decide(inputs(production=production(false_positives=100)), POLICY)
    assert (decision.kind, decision.remedy) == (DegradationKind.BENIGN_DRIFT, Remedy.RETHRESHOLD)
    assert decision.action


def test_drift_alone_warns_and_never_degrades():
    decision = decide(inputs(drift=drift(1.0)), POLICY)
    assert decision.verdict is Verdict.HEALTHY
    assert outcome(decision, "drift/drifted_share") is Outcome.WARN


def test_robustness_lost_under_the_same_attack_is_degraded():
    decision = decide(inputs(robustness=robust(0.4), baseline_robustness=robust(0.7)), POLICY)
    assert (decision.kind, decision.remedy) == (DegradationKind.ROBUSTNESS, Remedy.HARDEN)


@pytest.mark.parametrize(
    "now",
    [
        robust(0.1, suite_digest="f" * 64),
        robust(0.1, space_digest="f" * 64),
        robust(0.1, level="strong"),
        robust(0.1, epsilon=0.4),
        robust(
            0.1, reliable=False,
            flags=(SanityFlag(name="masking", raised=True, value=1.0, limit=0.1, meaning="gradients lie"),),
        ),
    ],
)  # fmt: skip
def test_robust_rates_that_cannot_be_compared_are_not_compared(now):
    decision = decide(inputs(robustness=now, baseline_robustness=robust(0.7)), POLICY)
    assert outcome(decision, "robust/detection_rate") is Outcome.ABSTAIN
    assert decision.verdict is Verdict.HEALTHY


def test_a_loss_on_the_same_benchmark_rows_is_seen_paired():
    then, now = np.ones(600), np.arange(600) % 6 != 0
    paired = paired_difference("clean", then, now, np.arange(600).astype(str), seed=0)
    decision = decide(inputs(clean_paired=paired), POLICY)
    assert outcome(decision, "clean/detection_rate") is Outcome.FAIL
    assert decision.verdict is Verdict.DEGRADED


def test_a_trusted_production_window_replaces_the_benchmark_as_baseline():
    window = production(detected=160)
    assert decide(inputs(production=window), POLICY).verdict is Verdict.DEGRADED
    with_baseline = inputs(production=window, baseline_production=production(detected=1600, malicious=2000))
    assert decide(with_baseline, POLICY).verdict is Verdict.HEALTHY


def test_a_vague_production_window_forgives_no_loss():
    vague = production(detection_rate=Estimate(value=0.95, low=0.5, high=0.99, n=200))
    window = inputs(production=production(detected=160), baseline_production=vague)
    assert decide(window, POLICY).verdict is Verdict.DEGRADED


def test_unknown_reason_of_missed_rows_defaults_to_a_new_family():
    decision = decide(inputs(production=production(detected=100)), POLICY)
    assert decision.kind is DegradationKind.NEW_FAMILY


def test_k_of_n_windows_must_be_bad():
    policy = PolicySettings(bad_windows=2, of_windows=3)
    window = inputs(production=production(detected=100))
    first = decide(window, policy)
    assert (first.verdict, first.bad_window, first.remedy) == (Verdict.ABSTAIN, True, Remedy.NOTHING)
    second = decide(replace(window, recent_bad=(True, False)), policy)
    assert (second.verdict, second.bad_windows) == (Verdict.DEGRADED, 2)
    long_ago = decide(replace(window, recent_bad=(True, False, False)), policy)
    assert long_ago.verdict is Verdict.ABSTAIN


def test_a_good_window_after_a_bad_one_is_healthy():
    assert decide(inputs(recent_bad=(True, True)), POLICY).verdict is Verdict.HEALTHY


def test_cool_down_and_budget_hold_the_action_but_not_the_verdict():
    window = inputs(production=production(detected=100), hours_since_promotion=1.0)
    cooling = decide(window, POLICY)
    assert (cooling.verdict, cooling.action) == (Verdict.DEGRADED, False)
    assert any("Cooling down" in reason for reason in cooling.reasons)
    spent = decide(replace(window, hours_since_promotion=100.0, hardenings_this_month=10), POLICY)
    assert (spent.verdict, spent.remedy, spent.action) == (Verdict.DEGRADED, Remedy.HARDEN, False)
    assert any("budget" in reason for reason in spent.reasons)


def test_several_abstentions_in_a_row_raise_an_alarm():
    blind = inputs(production=production(label_coverage=0.0), recent_bad=(None, None))
    assert any(reason.startswith("ALARM") for reason in decide(blind, POLICY).reasons)
    once = replace(blind, recent_bad=(None, False))
    assert not any(reason.startswith("ALARM") for reason in decide(once, POLICY).reasons)


ORDER = {Verdict.HEALTHY: 0, Verdict.ABSTAIN: 1, Verdict.DEGRADED: 2}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 400), st.integers(0, 400))
def test_a_worse_window_never_gets_a_better_verdict(one, other, few, many):
    detected, false_positives = sorted((one, other)), sorted((few, many))
    worse = decide(inputs(production=production(detected[0], false_positives=false_positives[1])), POLICY)
    better = decide(inputs(production=production(detected[1], false_positives=false_positives[0])), POLICY)
    assert ORDER[worse.verdict] >= ORDER[better.verdict]


@pytest.mark.slow
def test_healthy_windows_seldom_raise_an_alarm():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(500):
        window = production(int(rng.binomial(200, 0.95)), false_positives=int(rng.binomial(2000, 0.01)))
        alarms += decide(inputs(production=window), POLICY).verdict is Verdict.DEGRADED
    assert alarms <= 2


def test_every_criterion_carries_value_limit_and_reason():
    decision = decide(inputs(drift=drift(0.4), robustness=robust(), baseline_robustness=robust()), POLICY)
    assert len(decision.criteria) == 7
    assert all(one.reason and one.limit is not None and one.value is not None for one in decision.criteria)
