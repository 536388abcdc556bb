from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from domain.reports import Estimate
from evaluation.statistics.intervals import clopper_pearson, combine, weighted_rate


def names(n: int) -> np.ndarray:
    return np.arange(n).astype(str)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 500), st.floats(0, 1))
def test_equal_weights_and_single_rows_give_clopper_and_pearsons_interval(n, share):
    k = round(n * share)
    exact = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
    estimate = weighted_rate(np.arange(n) < k, np.ones(n), names(n))
    assert (estimate.low, estimate.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert estimate == clopper_pearson(k, n).model_copy(update={"low": estimate.low, "high": estimate.high})


def test_nothing_measured_has_no_value():
    assert weighted_rate(np.array([], dtype=bool), np.array([]), names(0)).value is None
    assert clopper_pearson(0, 0).value is None


def test_no_miss_among_few_audited_rows_does_not_prove_perfect_detection():
    alerts = weighted_rate(np.ones(200, dtype=bool), np.ones(200), names(200), unseen_weight=(1.0, 100.0))
    assert alerts.value == 1.0
    assert alerts.low is not None
    assert alerts.low < 0.5


def test_rows_of_one_cluster_widen_the_interval():
    outcomes = np.repeat(np.arange(40) % 2 == 0, 25)
    alone = weighted_rate(outcomes, np.ones(1000), names(1000))
    together = weighted_rate(outcomes, np.ones(1000), np.repeat(names(40), 25))
    assert together.value == alone.value
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_an_interval_covers_the_truth_of_clustered_audited_traffic():
    # 60 subjects of ten rows with their own miss rates; one in five negatives is audited.
    rng, covered, trials = np.random.default_rng(0), 0, 300
    for _ in range(trials):
        rates = rng.beta(8, 2, size=60)
        detected = rng.random((60, 10)) < rates[:, None]
        kept = detected | (rng.random((60, 10)) < 0.2)
        subject = np.repeat(names(60), 10).reshape(60, 10)[kept]
        weights = np.where(detected, 1.0, 5.0)[kept]
        estimate = weighted_rate(detected[kept], weights, subject)
        covered += estimate.low <= 0.8 <= estimate.high
    assert covered / trials > 0.92


def test_weights_below_zero_are_refused_with_their_range():
    with pytest.raises(ValueError, match=r"weights must be finite and >= 0, got values in \[-1.0, 1.0\]"):
        weighted_rate(np.array([True, False]), np.array([1.0, -1.0]), names(2))


def test_a_sum_of_estimates_is_empty_where_a_part_is():
    assert combine([(1.0, clopper_pearson(5, 10)), (1.0, Estimate(value=None))], 10).value is None


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.floats(0, 1), st.floats(0.1, 50))
def test_a_combination_contains_its_value(n, share, weight):
    part = clopper_pearson(round(n * share), n)
    total = combine([(weight, part), (1.0, part)], n, ceiling=weight + 1)
    assert total.low <= total.value + 1e-9
    assert total.value <= total.high + 1e-9


def test_a_single_cluster_counts_as_one_row():
    outcomes = np.arange(1000) < 900
    estimate = weighted_rate(outcomes, np.ones(1000), np.full(1000, "one"))
    assert estimate.value == 0.9
    assert estimate.high - estimate.low > 0.9


@pytest.mark.parametrize("outcome", [True, False])
def test_rows_of_one_host_that_all_agree_prove_no_more_than_one_row(outcome):
    outcomes, one_host = np.full(60, outcome), np.full(60, "host")
    together = weighted_rate(outcomes, np.ones(60), one_host)
    single = weighted_rate(outcomes[:1], np.ones(1), one_host[:1])
    assert (together.low, together.high) == pytest.approx((single.low, single.high))


def test_agreeing_rows_of_ten_hosts_prove_as_much_as_ten_rows_and_unequal_hosts_less():
    hosts, single = np.repeat(names(10), 6), weighted_rate(np.ones(10, dtype=bool), np.ones(10), names(10))
    equal = weighted_rate(np.ones(60, dtype=bool), np.full(60, 3.0), hosts)
    assert equal.low == pytest.approx(single.low)
    unequal = weighted_rate(np.ones(60, dtype=bool), np.ones(60), np.minimum(np.arange(60), 9).astype(str))
    assert unequal.low < single.low
