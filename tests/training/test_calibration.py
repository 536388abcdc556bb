import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import NotEnoughRows
from training.calibration import operating_point, platt

LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=200)


@settings(max_examples=60, deadline=None)
@given(LOGITS, st.floats(0.001, 0.5))
def test_the_realised_rate_never_exceeds_the_budget(values: list[float], budget: float) -> None:
    logits = np.array(values)
    assert (logits >= operating_point(logits, budget)).mean() <= budget + 1e-9


@settings(max_examples=60, deadline=None)
@given(LOGITS, st.floats(0.001, 0.5))
def test_no_observed_logit_below_the_threshold_would_also_fit_the_budget(values: list[float], budget: float) -> None:
    logits = np.array(values)
    threshold = operating_point(logits, budget)
    near = logits[(logits < threshold) & (logits > threshold - 1.1e-5 * (1 + abs(threshold)))]
    assert (logits >= near.min()).mean() > budget


def test_one_percent_of_a_thousand_rows_is_exactly_ten() -> None:
    logits = np.random.default_rng(0).normal(size=1000)
    assert int((logits >= operating_point(logits, 0.01)).sum()) == 10


def test_the_threshold_excludes_its_row_in_float32_too() -> None:
    logits = np.array([0.1, 0.2, 0.3], dtype=np.float32).astype(np.float64)
    threshold = np.float32(operating_point(logits, 0.34))
    assert [bool(np.float32(value) >= threshold) for value in logits] == [False, False, True]


@settings(max_examples=60, deadline=None)
@given(LOGITS, st.floats(0.001, 0.5), st.floats(-1e-6, 1e-6))
def test_rounding_errors_never_lift_a_group_of_equal_rows_over_the_threshold(
    values: list[float], budget: float, error: float
) -> None:
    logits = np.array(values)
    again = logits + error * (1 + np.abs(logits))
    assert (again >= operating_point(logits, budget)).mean() <= budget + 1e-9


def test_a_row_that_stands_for_many_counts_as_many() -> None:
    logits = np.array([5.0] * 10 + [0.0] * 10)
    assert (logits >= operating_point(logits, 0.1)).mean() == 0
    weights = np.array([1.0] * 10 + [99.0] * 10)
    assert (logits >= operating_point(logits, 0.1, weights)).mean() == 0.5


def test_no_benign_rows_is_an_error() -> None:
    with pytest.raises(NotEnoughRows, match="benign"):
        operating_point(np.empty(0), 0.01)


def test_a_logit_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 2"):
        operating_point(np.array([0.0, np.nan]), 0.01)


def test_platt_recovers_the_probabilities_that_made_the_labels() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, 20_000)
    y = (rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * logits - 1)))).astype(np.int8)
    found = platt(logits, y)
    assert found.slope == pytest.approx(0.5, abs=0.03)
    assert found.intercept == pytest.approx(-1.0, abs=0.08)


def test_platt_stays_finite_on_separable_rows() -> None:
    found = platt(np.array([-100.0, -90.0, 90.0, 100.0]), np.array([0, 0, 1, 1], dtype=np.int8))
    assert 0 < found.slope < 10
    assert abs(found.intercept) < 10


def test_platt_never_reverses_the_order() -> None:
    assert platt(np.array([3.0, 2.0, -2.0, -3.0]), np.array([0, 0, 1, 1], dtype=np.int8)).slope > 0


def test_platt_needs_both_classes() -> None:
    with pytest.raises(NotEnoughRows, match="both classes"):
        platt(np.array([1.0, 2.0]), np.array([1, 1], dtype=np.int8))
