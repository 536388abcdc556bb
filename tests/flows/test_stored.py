from __future__ import annotations

import numpy as np
from numpy.testing import assert_array_equal

from evaluation.production import ProductionResult
from evaluation.rows import LabelledRows
from flows.steps.stored import get_production, put_production
from registry.content import ContentStore
from tests.evaluation.toys import production


def test_labelled_rows_and_rates_come_back_as_they_were_stored(tmp_path):
    rows = LabelledRows(
        raw=np.array([[1.5, 2.0], [np.nan, 4.0], [5.0, 6.0]]), y=np.array([1, 0, 1], dtype=np.int8),
        cluster=np.array(["a", "b", "a"], dtype=object), family=np.array(["x", "benign", "y"], dtype=object),
    )  # fmt: skip
    stored = ProductionResult(production(), rows, np.array([1.0, 1 / 3, 0.0]), np.array([True, False, False]), True)
    content = ContentStore(tmp_path)
    found = get_production(content, put_production(content, stored, ("first", "second")))
    assert (found.report, found.mature) == (stored.report, True)
    assert found.labelled.digest == rows.digest
    assert_array_equal(found.weights, stored.weights)
    assert_array_equal(found.verdict, stored.verdict)


def test_a_window_without_labels_comes_back_empty(tmp_path):
    nothing = LabelledRows(
        raw=np.zeros((0, 2)), y=np.zeros(0, dtype=np.int8), cluster=np.zeros(0, dtype=object),
        family=np.zeros(0, dtype=object),
    )  # fmt: skip
    stored = ProductionResult(production(labelled=0), nothing, np.zeros(0), np.zeros(0, dtype=bool), False)
    content = ContentStore(tmp_path)
    found = get_production(content, put_production(content, stored, ("first", "second")))
    assert len(found.labelled) == len(found.weights) == len(found.verdict) == 0
    assert not found.mature
