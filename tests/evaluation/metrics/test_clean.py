from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from domain.errors import NotEnoughRows
from evaluation.metrics.clean import benign_rows_needed, evaluate_clean
from evaluation.metrics.ranking import Ranking, threshold_at_budget
from tests.evaluation.toys import toy_detector, toy_rows


def measured(rows=None, budget=0.05, **changes):
    options = {"prevalence": 0.01, "daily_volume": 100_000, "seed": 0, **changes}
    return evaluate_clean(toy_detector(), rows or toy_rows(), budget=budget, **options)


def test_rates_are_those_at_the_frozen_threshold():
    rows, result = toy_rows(), measured()
    alerts = rows.raw[:, 0] >= 0.5
    assert result.verdict.tolist() == alerts.tolist()
    assert result.report.detection_rate.value == pytest.approx(alerts[rows.y == 1].mean())
    assert result.report.realised_false_positive_rate.value == pytest.approx(alerts[rows.y == 0].mean())
    assert result.report.threshold == 0.0


def test_every_interval_contains_its_value():
    report = measured().report
    for name in type(report).model_fields:
        estimate = getattr(report, name)
        if hasattr(estimate, "low"):
            assert estimate.low <= estimate.value <= estimate.high, name


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(0, 2**31), st.integers(1, 4))
def test_ranking_metrics_equal_those_of_scikit_learn_under_weights_and_ties(n, seed, distinct):
    rng = np.random.default_rng(seed)
    y = np.concatenate([[0, 1], rng.integers(0, 2, n)])
    logit = rng.integers(0, distinct * 5, n + 2).astype(float)
    weights = rng.integers(1, 4, n + 2).astype(float)
    ranking = Ranking.of(logit, 1 / (1 + np.exp(-logit)), y)
    assert ranking.roc_auc(weights) == pytest.approx(roc_auc_score(y, logit, sample_weight=weights))
    assert ranking.pr_auc(weights) == pytest.approx(average_precision_score(y, logit, sample_weight=weights))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(0, 2**31), st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_a_bigger_budget_never_raises_the_threshold_and_is_never_exceeded(n, seed, one, other):
    benign = np.random.default_rng(seed).integers(0, 20, n).astype(float)
    small, large = sorted((one, other))
    assert threshold_at_budget(benign, large) <= threshold_at_budget(benign, small)
    assert (benign >= threshold_at_budget(benign, small)).mean() <= small


@settings(max_examples=10, deadline=None)
@given(st.floats(0.01, 0.4), st.floats(0.01, 0.4))
def test_a_bigger_budget_never_lowers_the_detection_rate(one, other):
    rates = [measured(budget=budget).report.detection_rate_at_budget.value for budget in sorted((one, other))]
    assert rates[0] <= rates[1]


def test_the_rate_at_the_budget_is_the_one_of_the_threshold_at_the_budget():
    rows, result = toy_rows(), measured()
    expected = (result.logit[rows.y == 1] >= result.report.threshold_at_budget).mean()
    assert result.report.detection_rate_at_budget.value == pytest.approx(expected)


def test_too_few_benign_rows_for_the_budget_mark_the_numbers_weak():
    assert benign_rows_needed(0.01) == 10_000
    assert measured(budget=0.01).report.detection_rate.weak
    assert not measured(budget=0.4).report.detection_rate.weak


def test_one_class_alone_is_refused():
    with pytest.raises(NotEnoughRows, match="0 malicious"):
        measured(rows=toy_rows().benign)


def test_one_big_family_does_not_hide_a_missed_small_one():
    rows = toy_rows(n=3000)
    family, raw = rows.family.copy(), rows.raw.copy()
    rare = np.flatnonzero(rows.y == 1)[:20]
    family[rare], raw[rare, 0] = "rare", 0.0
    report = measured(rows=replace(rows, family=family, raw=raw)).report
    assert report.macro_detection_rate.value < report.detection_rate.value - 0.2
    found = {part.value: part.detection_rate.value for part in report.slices if part.malicious}
    assert found["rare"] == 0.0


def test_alerts_a_day_follow_volume_and_prevalence():
    report = measured(prevalence=0.1, daily_volume=1000).report
    expected = 100 * report.detection_rate.value + 900 * report.realised_false_positive_rate.value
    assert report.alerts_per_day.value == pytest.approx(expected)
    assert measured(prevalence=0.1, daily_volume=2000).report.alerts_per_day.value == pytest.approx(2 * expected)


def test_the_same_seed_gives_the_same_report():
    assert measured().report == measured().report
