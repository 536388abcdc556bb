from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from domain.errors import NotEnoughRows
from domain.reports import Estimate
from evaluation.statistics.comparison import holm, p_above, p_below, p_inferior, p_worse, two_sample
from evaluation.statistics.intervals import clopper_pearson
from evaluation.statistics.paired import paired_difference

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@settings(max_examples=30, deadline=None)
@given(P_VALUES)
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values):
    adjusted = holm(p_values)
    assert (adjusted >= np.array(p_values) - 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= -1e-12).all()
    assert (adjusted <= 1).all()


@settings(max_examples=30, deadline=None)
@given(P_VALUES, st.data())
def test_holm_is_monotone_in_every_p_value(p_values, data):
    index = data.draw(st.integers(0, len(p_values) - 1))
    smaller = [*p_values]
    smaller[index] *= data.draw(st.floats(0, 1))
    assert (holm(smaller) <= holm(p_values) + 1e-12).all()


def test_holm_multiplies_the_smallest_by_the_number_of_tests():
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]).size == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 400), st.floats(0, 1), st.floats(0.02, 0.98))
def test_a_rate_is_proven_below_a_limit_exactly_when_its_interval_is(n, share, limit):
    estimate = clopper_pearson(round(n * share), n)
    if abs(estimate.high - limit) > 1e-6:
        assert (p_below(estimate, limit) <= 0.025) == (estimate.high < limit)
    if abs(estimate.low - limit) > 1e-6:
        assert (p_above(estimate, limit) <= 0.025) == (estimate.low > limit)


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 300), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_the_p_value_recovers_the_exact_binomial_test(n, share, limit):
    k = round(n * share)
    if 0 < k < n:
        assert p_below(clopper_pearson(k, n), limit) == pytest.approx(stats.binom.cdf(k, n, limit), abs=1e-6)


def test_nothing_measured_proves_nothing():
    nothing = Estimate(value=None)
    assert p_below(nothing, 0.5) == p_above(nothing, 0.5) == two_sample(nothing, nothing, 0.0) == 1.0


def test_two_samples_differ_only_when_the_drop_exceeds_the_tolerance():
    before = clopper_pearson(950, 1000)
    assert two_sample(clopper_pearson(850, 1000), before, 0.03) < 0.001
    assert two_sample(clopper_pearson(930, 1000), before, 0.03) > 0.05


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**31), st.integers(1, 5))
def test_swapping_the_detectors_flips_the_paired_difference(n, seed, per_cluster):
    rng = np.random.default_rng(seed)
    first, second = rng.random(n) < 0.7, rng.random(n) < 0.6
    clusters = (np.arange(n) // per_cluster).astype(str)
    one = paired_difference("x", first, second, clusters, seed=1, resamples=200)
    other = paired_difference("x", second, first, clusters, seed=1, resamples=200)
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
    assert one.low <= one.difference <= one.high


def test_agreement_on_few_rows_is_no_proof_of_equality():
    few, many = (
        paired_difference("x", np.ones(n), np.ones(n), np.arange(n).astype(str), seed=0, resamples=200)
        for n in (20, 5000)
    )
    assert p_inferior(few, 0.02) > 0.05
    assert p_inferior(many, 0.02) < 0.01


def test_weights_change_the_paired_difference():
    first, second = np.array([1, 1]), np.array([0, 1])
    paired = paired_difference("x", first, second, np.array(["a", "b"]), seed=0, weights=np.array([3.0, 1.0]))
    assert paired.difference == pytest.approx(-0.75)


def test_a_clear_loss_is_proven():
    first, second = np.ones(500), np.arange(500) % 5 != 0
    paired = paired_difference("x", first, second, np.arange(500).astype(str), seed=0)
    assert paired.difference == pytest.approx(-0.2)
    assert p_worse(paired, 0.05) < 1e-6
    assert p_inferior(paired, 0.05) > 0.999


def test_a_paired_difference_without_rows_is_refused():
    with pytest.raises(NotEnoughRows, match="at least one row"):
        paired_difference("x", np.array([]), np.array([]), np.array([]), seed=0)
    with pytest.raises(ValueError, match="equal lengths"):
        paired_difference("x", np.array([1]), np.array([1, 0]), np.array(["a"]), seed=0)


def test_the_cluster_bootstrap_interval_of_the_difference_covers_the_truth():
    rng, covered, trials = np.random.default_rng(3), 0, 200
    for trial in range(trials):
        rates = rng.beta(4, 2, size=(50, 1))
        first, second = rng.random((50, 6)) < rates, rng.random((50, 6)) < rates * 0.9
        clusters = np.repeat(np.arange(50), 6).astype(str)
        paired = paired_difference("x", first.ravel(), second.ravel(), clusters, seed=trial, resamples=400)
        covered += paired.low <= -0.1 * 4 / 6 <= paired.high
    assert covered / trials > 0.91
