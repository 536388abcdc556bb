from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import AttackError, NotEnoughRows
from domain.monitor import ThreatSettings
from evaluation.attacks.problem import Candidates
from evaluation.attacks.suites import Suite
from evaluation.constraints.compiled import CompiledSpace
from evaluation.robustness import _assert_consistent, evaluate_robustness
from tests.evaluation.attacks.worlds import (
    Linear,
    detector,
    mixed_rows,
    mixed_space,
    real_space,
    rows_of,
    trained,
)  # fmt: skip

THREAT = ThreatSettings(epsilon=0.2, curve=(0.0, 0.05, 0.1, 0.2, 0.4))


def world(n: int = 80):
    rows = mixed_rows(n)
    return trained(mixed_space(), rows), rows


def measure(found, rows, threat=THREAT, **more):
    return evaluate_robustness(found, rows, threat=threat, suite="quick", benign=rows, seed=more.pop("seed", 0), **more)


@dataclass(frozen=True)
class Planted:
    """An attack that proposes what it is told."""

    propose: object
    name: str = "planted"
    needs_gradient: bool = True
    parameters: dict = field(default_factory=dict)

    def run(self, problem, generator):
        return Candidates(self.propose(problem))


def plant(monkeypatch, *attacks):
    suite = Suite("quick", 1, attacks, (), "0" * 64)
    monkeypatch.setattr("evaluation.robustness.load_suite", lambda name: suite)


def test_every_adversarial_row_is_feasible_and_missed_and_the_rest_is_clean():
    found, rows = world()
    result = measure(found, rows)
    compiled = CompiledSpace(found.space, "expected")
    broken = result.clean_detected & ~result.detected
    assert 0 < broken.sum() < len(rows.malicious) or result.detected.sum() == 0
    clean = rows.malicious.raw
    assert compiled.check(result.adversarial_raw, clean).ok.all()
    delta = (compiled.encode(result.adversarial_raw) - compiled.encode(clean)) * compiled.cost
    assert float(delta.abs().max()) <= 0.2 + 1e-9
    assert not found.score_raw(result.adversarial_raw[broken]).verdict.any()
    assert (result.adversarial_raw[~broken] == clean[~broken]).all()


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 99), norm=st.sampled_from(["linf", "l2"]), level=st.sampled_from(["weak", "strong"]))
def test_the_curve_starts_at_the_clean_rate_never_rises_and_no_attack_is_below_it(seed, norm, level):
    found, rows = world(24)
    report = measure(
        found, rows, ThreatSettings(epsilon=0.15, curve=(0.0, 0.05, 0.3), norm=norm, level=level), seed=seed
    ).report
    rates = [point.robust_detection_rate.value for point in report.curve]
    assert [point.epsilon for point in report.curve] == [0.0, 0.05, 0.15, 0.3]
    assert rates[0] == report.clean_detection_rate.value
    assert all(first >= second for first, second in itertools.pairwise(rates))
    assert rates[2] == report.robust_detection_rate.value
    assert report.robust_detection_rate.value <= min(attack.robust_detection_rate for attack in report.attacks)
    assert report.robust_detection_rate.low <= rates[2] <= report.robust_detection_rate.high


def test_the_same_seed_gives_the_same_report_and_leaves_the_global_generators_alone():
    found, rows = world(40)
    state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (measure(found, rows, clock=lambda: 0.0).report for _ in range(2))
    assert first.digest == second.digest
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


def test_only_malicious_rows_count_and_missed_ones_count_as_not_detected():
    found = detector(Linear([1.0, 0.0]), real_space(2, mutability="fixed"), 0.5)
    rows = rows_of(np.array([[0.9, 0.1], [0.2, 0.1], [0.9, 0.9], [0.1, 0.1]]), [1, 1, 1, 0])
    result = measure(found, rows)
    assert result.clean_detected.tolist() == [True, False, True]
    assert result.detected.tolist() == [True, False, True]
    assert result.report.rows == 3
    assert result.report.robust_detection_rate.value == pytest.approx(2 / 3)


def test_rows_that_break_their_own_relations_are_reported_and_never_attacked():
    found, rows = world(40)
    raw = rows.raw.copy()
    sick = np.flatnonzero(rows.y == 1)[:3]
    raw[sick, 1] = raw[sick, 0] + 10  # part > total
    result = measure(found, replace(rows, raw=raw))
    assert result.report.infeasible_clean == 3
    assert result.report.rows == 17
    assert result.attacked.sum() == 17
    assert (result.adversarial_raw[:3] == raw[sick]).all()


def test_no_malicious_row_or_no_feasible_one_is_an_error():
    found, rows = world(20)
    with pytest.raises(NotEnoughRows, match="malicious"):
        measure(found, rows.benign)
    raw = rows.raw.copy()
    raw[:, 1] = 999
    with pytest.raises(NotEnoughRows, match="relations"):
        measure(found, replace(rows, raw=raw))


def test_claims_outside_the_rules_are_refused_and_counted(monkeypatch):
    found = detector(Linear([1.0, 1.0]), real_space(2), 0.5)
    rows = rows_of(np.full((10, 2), 0.5), [1] * 10, clusters=range(10))
    plant(monkeypatch, Planted(lambda problem: problem.x * 0))
    report = measure(found, rows, ThreatSettings(epsilon=0.1, curve=(0.1,))).report
    assert report.attacks[0].rejected == 10
    assert report.robust_detection_rate.value == 1.0


def test_a_success_at_a_small_budget_counts_at_every_larger_one_and_raises_the_flag(monkeypatch):
    found = detector(Linear([1.0, 1.0]), real_space(2), 0.9)
    rows = rows_of(np.full((20, 2), 0.5), [1] * 20, clusters=range(20))
    timid = Planted(lambda problem: problem.x - 0.1 * (problem.ball.epsilon < 0.2))
    plant(monkeypatch, timid, replace(timid, name="second"))
    result = measure(found, rows, ThreatSettings(epsilon=0.3, curve=(0.0, 0.1, 0.3, 0.5)))
    assert [point.robust_detection_rate.value for point in result.report.curve] == [1.0, 0.0, 0.0, 0.0]
    assert {flag.name for flag in result.report.flags if flag.raised} >= {"not-monotone"}
    assert not result.report.reliable
    assert not result.detected.any()


def test_a_later_attack_starts_where_the_best_earlier_one_ended(monkeypatch):
    found = detector(Linear([1.0, 1.0]), real_space(2), 0.5)
    rows = rows_of(np.full((3, 2), 0.5), [1] * 3, clusters=range(3))
    seen = []

    def watch(problem):
        seen.append(problem.starts)
        return problem.x

    moves = [Planted(lambda problem: problem.x - 0.05), Planted(lambda problem: problem.x + 0.05), Planted(watch)]
    plant(monkeypatch, *moves)
    measure(found, rows, ThreatSettings(epsilon=0.1, curve=(0.1,)))
    assert np.allclose(seen[0].numpy(), 0.45)


@pytest.mark.parametrize(
    "doctored",
    [
        lambda report: {"curve": report.curve[::-1]},
        lambda report: {"clean_detection_rate": report.clean_detection_rate.model_copy(update={"value": 0.123})},
        lambda report: {"attacks": tuple(a.model_copy(update={"robust_detection_rate": -1.0}) for a in report.attacks)},
    ],
    ids=["rising-curve", "clean-rate", "below-the-minimum"],
)
def test_a_report_that_contradicts_itself_is_refused(doctored):
    found, rows = world(30)
    report = measure(found, rows).report
    with pytest.raises(AttackError, match="defect"):
        _assert_consistent(report.model_copy(update=doctored(report)))


def test_running_out_of_time_makes_the_report_unreliable():
    found, rows = world(20)
    ticks = itertools.count()
    report = measure(found, rows, clock=lambda: float(next(ticks)), max_seconds=5).report
    assert {flag.name for flag in report.flags if flag.raised} >= {"incomplete"}
    assert not report.reliable


def test_an_attacker_who_sees_only_scores_uses_no_gradient():
    found, rows = world(30)
    report = measure(found, rows, ThreatSettings(epsilon=0.2, curve=(0.2,), knowledge="score")).report
    assert [attack.name for attack in report.attacks] == ["square", "genetic"]


def test_loosening_a_level_never_raises_robustness():
    found, rows = world(40)
    rates = [
        measure(found, rows, ThreatSettings(epsilon=0.3, curve=(0.3,), level=level)).report.robust_detection_rate.value
        for level in ("weak", "expected", "strong")
    ]
    assert rates[0] >= rates[1] >= rates[2]


def test_an_unknown_suite_is_refused():
    found, rows = world(20)
    with pytest.raises(AttackError, match="quick"):
        evaluate_robustness(found, rows, threat=THREAT, suite="mystery", benign=rows, seed=0)
