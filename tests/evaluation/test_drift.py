from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest

from domain.errors import SchemaMismatch
from evaluation.drift import measure_drift
from tests.evaluation.toys import SPACE


def window(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "speed": rng.random(n),
            "volume": rng.lognormal(2, 1, n),
            "port": rng.random(n),
            "service": rng.choice(["web", "mail", "dns"], n),
        }
    )


def measure(reference, current, **changes):
    return measure_drift(reference, current, space=SPACE, share_limit=0.3, seed=0, **changes)


def test_a_missing_feature_is_named():
    with pytest.raises(SchemaMismatch, match=r"current window lacks the features \['port'\]"):
        measure(window(200, 0), window(200, 1).drop(columns="port"))


def test_too_few_rows_are_not_measured_and_never_drift():
    result = measure(window(200, 0), window(20, 1))
    assert (result.report.drifted, result.report.columns, result.html) == (False, (), "")
    assert "20 current rows" in result.report.note


@pytest.mark.slow
def test_the_same_traffic_does_not_drift():
    result = measure(window(4000, 0), window(3000, 1))
    assert not result.report.drifted
    assert result.report.drifted_share == 0.0
    assert [column.column for column in result.report.columns] == list(SPACE.names)
    assert "<html" in result.html
    assert os.environ["DO_NOT_TRACK"] == "1"


@pytest.mark.slow
def test_moved_columns_drift_and_the_share_follows():
    current = window(3000, 1)
    current["volume"] *= 20
    current["service"] = "web"
    report = measure(window(4000, 0), current).report
    assert {column.column for column in report.columns if column.drifted} == {"volume", "service"}
    assert report.drifted
    assert report.drifted_share == 0.5


@pytest.mark.slow
def test_a_column_that_became_empty_has_drifted():
    report = measure(window(1000, 0), window(1000, 1).assign(port=np.nan)).report
    assert [column.column for column in report.columns if column.drifted] == ["port"]
    assert report.digest


@pytest.mark.slow
def test_sampling_is_bounded_and_seeded():
    first, second = (measure(window(5000, 0), window(5000, 1), max_rows=500).report for _ in range(2))
    assert (first.reference_rows, first.current_rows) == (500, 500)
    assert first == second
