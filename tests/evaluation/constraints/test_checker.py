import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.features import FeatureSpace, load_feature_space
from evaluation.constraints.ball import Ball
from evaluation.constraints.compiled import CompiledSpace
from tests.evaluation.constraints.spaces import clean_rows, feature, make_space


def compiled_with(relation, **kinds):
    features = tuple(feature(name, kind, "free", high=1 if kind == "binary" else 1e6) for name, kind in kinds.items())
    return CompiledSpace(FeatureSpace(version=1, name="one-rule", features=features, relations=(relation,)), "expected")


def broken(compiled, *rows):
    return compiled.relation_violations(np.array(rows, dtype=float))[:, 0].tolist()


def test_each_comparison_is_judged_exactly():
    assert broken(compiled_with("a <= b", a="integer", b="integer"), (3, 3), (4, 3)) == [False, True]
    assert broken(compiled_with("a < b", a="integer", b="integer"), (3, 3), (2, 3)) == [True, False]
    assert broken(compiled_with("a >= 2 * b + 1", a="real", b="real"), (7, 3), (6.9, 3)) == [False, True]
    assert broken(compiled_with("a > b", a="real", b="real"), (3, 3), (3.001, 3)) == [True, False]
    assert broken(compiled_with("a = b", a="real", b="real"), (3, 3 + 1e-9), (3, 3.1)) == [False, True]


def test_an_equality_of_large_whole_numbers_is_exact():
    assert broken(compiled_with("a = b", a="integer", b="integer"), (900_000, 900_001), (9e5, 9e5)) == [True, False]


def test_an_implication_is_broken_only_where_the_premise_holds_and_the_conclusion_does_not():
    rule = compiled_with("a > 0 => b > 0", a="integer", b="integer")
    assert broken(rule, (0, 0), (0, 1), (1, 1), (1, 0)) == [False, False, False, True]


def test_a_quotient_is_multiplied_out_and_a_zero_denominator_needs_a_zero_numerator():
    rule = compiled_with("a / b <= 1500", a="integer", b="integer")
    assert broken(rule, (3000, 2), (3001, 2), (0, 0), (1, 0)) == [False, True, False, True]
    assert broken(compiled_with("1500 >= a / b", a="integer", b="integer"), (3000, 2), (3001, 2)) == [False, True]


def test_a_division_by_zero_that_cannot_be_multiplied_out_breaks_the_relation():
    rule = compiled_with("a / b <= c", a="real", b="real", c="real")
    assert broken(rule, (4, 2, 2), (4, 2, 1), (4, 0, 2), (0, 0, 2)) == [False, True, True, True]


def test_a_missing_value_breaks_only_the_relations_that_use_it():
    features = tuple(feature(name, "real", "free", high=10) for name in "abc")
    space = FeatureSpace(version=1, name="gaps", features=features, relations=("a <= b", "b <= c"))
    rows = np.array([[np.nan, 1.0, 2.0]])
    assert CompiledSpace(space, "weak").relation_violations(rows).tolist() == [[True, False]]


def test_the_check_tells_box_types_relations_and_mutability_apart():
    moves = ("increase-only", "decrease-only", "free", "free", "free", "free", "fixed", "fixed")
    compiled = CompiledSpace(make_space(moves), "expected")
    clean = np.repeat(np.array([[100.0, 2, 50, 150, 1.0, 150.0, 0, 0]]), 8, axis=0)
    raw = clean.copy()
    raw[1, [0, 3, 5]] = [101, 151, 151]  # allowed: sent rises, total and weight follow
    raw[2, [0, 3, 5]] = [99, 149, 149]  # sent may only rise
    raw[3, 1] = 3  # packets may only fall
    raw[4, 6] = 1  # the flag is fixed
    raw[5, 3] = 151  # the sum is broken
    raw[6, 1] = 1.5  # not whole
    raw[7, 7] = np.nan  # unknown category
    check = compiled.check(raw, clean)
    assert check.mutability.tolist() == [True, True, False, False, False, True, True, False]
    assert check.relations.tolist() == [True, True, True, True, True, False, True, True]
    assert check.types.tolist() == [True] * 6 + [False, True]
    assert check.box.tolist() == [True] * 7 + [False]
    assert check.ok.tolist() == [True, True] + [False] * 6


def test_a_candidate_beside_the_row_it_decodes_to_is_not_feasible():
    compiled = CompiledSpace(make_space(("free",) * 8), "expected")
    x0 = compiled.encode(clean_rows(0, 2))
    x = x0.clone()
    x[1, 1] += 0.2 / 300  # a fifth of a packet
    assert compiled.feasible(x, x0, Ball("linf", 0.5)).tolist() == [True, False]


def test_a_candidate_outside_the_ball_is_not_feasible():
    space = FeatureSpace(version=1, name="line", features=(feature("a", "real", "free", cost=2),))
    compiled = CompiledSpace(space, "expected")
    x0 = torch.full((2, 1), 0.5, dtype=torch.float64)
    x = torch.tensor([[0.6], [0.601]], dtype=torch.float64)
    assert compiled.feasible(x, x0, Ball("linf", 0.2)).tolist() == [True, False]


def test_a_level_decides_what_moves():
    moves = {"weak": "fixed", "expected": "increase-only", "strong": "free"}
    space = FeatureSpace(version=1, name="levels", features=({**feature("a", "real", "fixed"), "mutability": moves},))
    x0 = torch.full((1, 1), 0.5, dtype=torch.float64)
    reach = {}
    for level in ("weak", "expected", "strong"):
        low, high = CompiledSpace(space, level).limits(x0, Ball("linf", 0.2))
        reach[level] = (round(float(low), 9), round(float(high), 9))
    assert reach == {"weak": (0.5, 0.5), "expected": (0.5, 0.7), "strong": (0.3, 0.7)}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_the_penalty_is_zero_where_all_relations_hold_and_positive_where_one_breaks(seed):
    compiled = CompiledSpace(make_space(("free",) * 8), "expected")
    raw = clean_rows(seed, 20)
    bad = raw.copy()
    bad[:, 3] += 7
    assert compiled.penalty(compiled.encode(raw)).max() < 1e-9
    assert compiled.penalty(compiled.encode(bad)).min() > 1e-6


def test_the_slope_of_the_penalty_leads_back_to_the_relation():
    compiled = compiled_with("a <= b", a="real", b="real")
    x = torch.tensor([[0.6, 0.5]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(compiled.penalty(x).sum(), x)
    assert slope[0, 0] > 0 > slope[0, 1]


def test_the_penalty_and_its_slope_stay_finite_at_a_division_by_zero():
    compiled = compiled_with("a / b <= c", a="real", b="real", c="real")
    x = torch.zeros((1, 3), dtype=torch.float64, requires_grad=True)
    penalty = compiled.penalty(x)
    assert torch.isfinite(penalty).all()


def test_a_penalty_without_relations_is_zero_and_differentiable():
    space = FeatureSpace(version=1, name="free", features=(feature("a", "real", "free"),))
    x = torch.zeros((2, 3, 1), requires_grad=True, dtype=torch.float64)
    penalty = CompiledSpace(space, "weak").penalty(x)
    assert penalty.shape == (2, 3)
    assert torch.autograd.grad(penalty.sum(), x)[0].abs().sum() == 0


@pytest.mark.parametrize("name", ["nsl-kdd", "url-phishing", "phishtank"])
def test_shipped_spaces_compile_to_linear_relations_only(name):
    compiled = CompiledSpace(load_feature_space(name), "strong")
    assert compiled._system.is_linear.all()
    assert compiled.movable.any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_decoding_undoes_encoding(seed):
    compiled = CompiledSpace(make_space(("free",) * 8), "expected")
    raw = clean_rows(seed, 20)
    assert compiled.decode(compiled.encode(raw)) == pytest.approx(raw, rel=1e-12)
