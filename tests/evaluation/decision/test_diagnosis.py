from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from domain.decisions import DegradationKind
from domain.features import FeatureSpace
from evaluation.decision.diagnosis import conformal_p_values, diagnose, fixed_coordinates
from tests.evaluation.toys import SPACE, toy_rows


def moved(rows, column, value):
    raw = rows.raw.copy()
    raw[:, column] = value
    return replace(rows, raw=raw)


def test_known_threats_that_changed_what_they_can_move_are_evasion():
    missed = moved(toy_rows(300, seed=5).malicious, 0, 0.0)
    diagnosis = diagnose(missed, toy_rows(1200), SPACE, "expected")
    assert diagnosis.kind is DegradationKind.EVASION
    assert diagnosis.conforming_share > 0.8
    assert any("cannot move" in line for line in diagnosis.evidence)


def test_threats_that_differ_where_no_attacker_can_move_are_a_new_family():
    known = toy_rows(1200)
    known = moved(known, 2, known.raw[:, 2] * 0.2)
    missed = moved(toy_rows(300, seed=5).malicious, 2, 0.9)
    assert diagnose(missed, known, SPACE, "expected").kind is DegradationKind.NEW_FAMILY


def test_a_family_name_unseen_in_training_is_evidence_of_a_new_family():
    missed = toy_rows(300, seed=5).malicious
    missed = replace(missed, family=np.full(len(missed), "worm", dtype=object))
    diagnosis = diagnose(missed, toy_rows(1200), SPACE, "expected")
    assert (diagnosis.kind, diagnosis.unseen_family_share) == (DegradationKind.NEW_FAMILY, 1.0)
    assert "worm" in diagnosis.evidence[0]


def test_unnamed_malicious_rows_are_no_unseen_family():
    missed = toy_rows(300, seed=5).malicious
    missed = replace(missed, family=np.full(len(missed), "malicious", dtype=object))
    assert diagnose(missed, toy_rows(1200), SPACE, "expected").unseen_family_share == 0.0


def test_too_few_missed_rows_are_not_diagnosed():
    few = toy_rows(300).malicious.take(np.arange(3))
    diagnosis = diagnose(few, toy_rows(1200), SPACE, "expected")
    assert diagnosis.kind is DegradationKind.NONE
    assert "too few" in diagnosis.evidence[0]


def test_an_attacker_who_moves_everything_is_judged_by_family_names_alone():
    free = FeatureSpace.model_validate(
        {
            "version": 1,
            "name": "free",
            "features": [{"name": name, "high": 1000, "mutability": "free"} for name in ("a", "b", "c", "d")],
        }
    )
    diagnosis = diagnose(toy_rows(300, seed=5).malicious, toy_rows(1200), free, "expected")
    assert diagnosis.kind is DegradationKind.EVASION
    assert diagnosis.conforming_share is None


def test_one_hot_columns_of_a_fixed_feature_are_fixed():
    assert fixed_coordinates(SPACE, "expected").tolist() == [False, False, True, True, True, True]


def test_conformal_p_values_of_known_rows_are_uniform():
    rng = np.random.default_rng(0)
    p = conformal_p_values(rng.normal(size=(2000, 3)), rng.normal(size=(2000, 3)))
    assert (p <= 0.1).mean() == pytest.approx(0.1, abs=0.03)
    assert conformal_p_values(np.full((1, 3), 50.0), rng.normal(size=(99, 3)))[0] == pytest.approx(0.01)


def test_duplicates_in_the_reference_do_not_make_everything_strange():
    rng = np.random.default_rng(0)
    reference = np.repeat(rng.normal(size=(200, 2)), 50, axis=0)
    assert (conformal_p_values(rng.normal(size=(200, 2)), reference) > 0.05).mean() > 0.8
