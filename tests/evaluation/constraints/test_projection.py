import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import AttackError
from domain.features import FeatureSpace
from evaluation.constraints.ball import Ball
from evaluation.constraints.compiled import CompiledSpace
from tests.evaluation.constraints.spaces import balls, clean_rows, costs, feature, make_space, moves

ALL_FREE = ("free",) * 8


def wild(x0, seed, size):
    noise = np.random.default_rng(seed).normal(size=x0.shape)
    return x0 + size * torch.as_tensor(noise)


@settings(max_examples=60, deadline=None)
@given(moves, costs, balls, st.integers(0, 10_000), st.sampled_from([0.01, 0.3, 3.0]))
def test_the_projection_is_feasible_in_the_ball_and_idempotent(move, cost, ball, seed, size):
    compiled = CompiledSpace(make_space(move, cost), "expected")
    raw = clean_rows(seed, 20)
    x0 = compiled.encode(raw)
    assert compiled.check(raw, raw).ok.all()
    projected = compiled.project(wild(x0, seed, size), x0, ball)
    assert compiled.feasible(projected, x0, ball).all()
    assert torch.equal(compiled.project(projected, x0, ball), projected)


@settings(max_examples=30, deadline=None)
@given(moves, balls, st.integers(0, 10_000))
def test_the_projection_leaves_feasible_rows_where_they_are(move, ball, seed):
    compiled = CompiledSpace(make_space(move), "expected")
    x0 = compiled.encode(clean_rows(seed, 10))
    assert torch.equal(compiled.project(x0, x0, ball), x0)


@settings(max_examples=30, deadline=None)
@given(moves, costs, balls, st.integers(0, 10_000), st.integers(0, 7))
def test_loosening_a_fixed_feature_never_shrinks_the_feasible_set(move, cost, ball, seed, loosened):
    tight = make_space(tuple("fixed" if i == loosened else m for i, m in enumerate(move)), cost)
    loose = make_space(tuple("free" if i == loosened else m for i, m in enumerate(move)), cost)
    before, after = CompiledSpace(tight, "expected"), CompiledSpace(loose, "expected")
    x0 = before.encode(clean_rows(seed, 20))
    reached = before.project(wild(x0, seed, 0.5), x0, ball)
    assert after.feasible(reached, x0, ball).all()
    low, high = before.limits(x0, ball)
    wider_low, wider_high = after.limits(x0, ball)
    assert (wider_low <= low).all()
    assert (wider_high >= high).all()


@settings(max_examples=30, deadline=None)
@given(moves, costs, balls, st.integers(0, 10_000))
def test_the_projection_stays_within_the_limits(move, cost, ball, seed):
    compiled = CompiledSpace(make_space(move, cost), "expected")
    x0 = compiled.encode(clean_rows(seed, 20))
    low, high = compiled.limits(x0, ball)
    projected = compiled.project(wild(x0, seed, 1.0), x0, ball)
    assert (projected >= low).all()
    assert (projected <= high).all()


@settings(max_examples=30, deadline=None)
@given(balls, st.integers(0, 10_000))
def test_an_illegal_clean_row_is_returned_untouched_and_reported(ball, seed):
    compiled = CompiledSpace(make_space(ALL_FREE), "expected")
    raw = clean_rows(seed, 4)
    raw[0, 3] += 1  # total is no longer the sum
    raw[1, 0] = 6000  # out of bounds
    raw[2, 7] = np.nan  # a category nobody knows
    x0 = compiled.encode(raw)
    projected = compiled.project(wild(x0, seed, 1.0), x0, ball)
    assert torch.equal(projected[:3], x0[:3])
    assert compiled.feasible(projected, x0, ball).tolist() == [False, False, False, True]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_relation_shape_is_repaired_without_giving_the_move_up(norm):
    compiled = CompiledSpace(make_space(ALL_FREE), "expected")
    raw = clean_rows(0, 200)
    x0 = compiled.encode(raw)
    ball = Ball(norm, 1.0 if norm == "linf" else 2.0)
    projected = compiled.project(wild(x0, 1, 1.0), x0, ball)
    moved = (projected - x0).abs() > 0.05
    assert compiled.feasible(projected, x0, ball).all()
    assert moved.any(dim=1).double().mean() > 0.95
    for column in range(8):
        assert moved[:, column].double().mean() > 0.05, column


def test_a_candidate_that_is_not_a_number_falls_back_to_the_clean_value():
    compiled = CompiledSpace(make_space(ALL_FREE), "expected")
    x0 = compiled.encode(clean_rows(0, 3))
    x = torch.full_like(x0, float("nan"))
    x[1] = float("inf")
    assert compiled.feasible(compiled.project(x, x0, Ball("l2", 1.0)), x0, Ball("l2", 1.0)).all()


def test_many_candidates_per_row_project_as_if_one_by_one():
    compiled = CompiledSpace(make_space(ALL_FREE), "expected")
    x0 = compiled.encode(clean_rows(0, 5))
    ball = Ball("linf", 0.3)
    x = torch.stack([wild(x0, 1, 0.3), wild(x0, 2, 0.3)])
    together = compiled.project(x, x0, ball)
    assert torch.equal(together[1], compiled.project(x[1], x0, ball))


def test_a_dear_feature_moves_less_for_the_same_budget():
    space = FeatureSpace(
        version=1, name="prices",
        features=(feature("cheap", "real", "free", cost=1), feature("dear", "real", "free", cost=4)),
    )  # fmt: skip
    compiled = CompiledSpace(space, "expected")
    x0 = compiled.encode(np.full((1, 2), 0.5))
    moved = compiled.project(x0 + 1, x0, Ball("linf", 0.2)) - x0
    assert moved.numpy()[0] == pytest.approx([0.2, 0.05])


def test_an_l2_ball_is_reached_and_not_left():
    features = tuple(feature(name, "real", "free", cost=price) for name, price in (("a", 1), ("b", 3)))
    compiled = CompiledSpace(FeatureSpace(version=1, name="plane", features=features), "expected")
    x0 = compiled.encode(np.full((20, 2), 0.5))
    moved = compiled.project(wild(x0, 0, 5.0), x0, Ball("l2", 0.2)) - x0
    assert ((moved * compiled.cost) ** 2).sum(dim=1).sqrt().numpy() == pytest.approx(0.2)


def test_a_missing_candidate_value_becomes_the_clean_one_where_no_relation_is_at_stake():
    compiled = CompiledSpace(FeatureSpace(version=1, name="line", features=(feature("a", "real", "free"),)), "weak")
    x0 = torch.full((1, 1), 0.5, dtype=torch.float64)
    assert torch.equal(compiled.project(torch.full_like(x0, float("nan")), x0, Ball("linf", 0.2)), x0)


def test_a_repair_rounds_whole_numbers_to_the_legal_side():
    features = (feature("a", "integer", "free", high=10), feature("b", "integer", "fixed", high=30))
    space = FeatureSpace(version=1, name="thirds", features=features, relations=("3 * a <= b",))
    compiled = CompiledSpace(space, "expected")
    x0 = compiled.encode(np.array([[0.0, 11.0]]))
    moved = compiled.project(x0 + 1, x0, Ball("linf", 1.0))
    assert compiled.decode(moved).tolist() == [[3.0, 11.0]]


def test_whole_numbers_are_truncated_toward_the_clean_value():
    space = FeatureSpace(version=1, name="whole", features=(feature("count", "integer", "free", high=10),))
    compiled = CompiledSpace(space, "expected")
    x0 = compiled.encode(np.array([[5.0], [5.0]]))
    moved = compiled.decode(compiled.project(x0 + torch.tensor([[0.19], [-0.19]]), x0, Ball("linf", 1.0)))
    assert moved.tolist() == [[6.0], [4.0]]


def test_a_category_changes_as_a_whole_or_not_at_all():
    category = feature("kind", "categorical", "free", categories=["a", "b", "c"])
    compiled = CompiledSpace(FeatureSpace(version=1, name="groups", features=(category,)), "expected")
    x0 = compiled.encode(np.array([[0.0]]))
    x = torch.tensor([[0.2, 0.7, 0.1]], dtype=torch.float64)
    assert compiled.project(x, x0, Ball("linf", 1.0)).tolist() == [[0.0, 1.0, 0.0]]
    assert compiled.project(x, x0, Ball("linf", 0.9)).tolist() == [[1.0, 0.0, 0.0]]
    assert compiled.project(x, x0, Ball("l2", 1.0)).tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize(("norm", "epsilon"), [("l1", 0.1), ("linf", -1.0), ("l2", float("nan"))])
def test_a_ball_that_makes_no_sense_is_refused(norm, epsilon):
    with pytest.raises(AttackError, match="must be"):
        Ball(norm, epsilon)
