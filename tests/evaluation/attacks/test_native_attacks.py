from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.features import FeatureSpace
from evaluation.attacks.feasible_descent import FeasibleDescent
from evaluation.attacks.genetic import GeneticSearch
from evaluation.attacks.inner import inner_attack
from evaluation.attacks.starts import nearest_benign, toward_benign
from evaluation.constraints.ball import Ball
from tests.evaluation.attacks.worlds import (
    Linear,
    Wrapped,
    detector,
    feature,
    generator,
    mixed_rows,
    mixed_space,
    problem_of,
    real_space,
    trained,
)  # fmt: skip


def test_the_genetic_search_breaks_a_staircase_that_gives_no_gradient():
    found = detector(Wrapped(Linear([4.0, -4.0, 4.0], -1.0), torch.round), real_space(3), 0.5)
    problem = problem_of(found, np.full((6, 3), 0.5), Ball("linf", 0.3))
    assert not problem.evaded(FeasibleDescent(restarts=3).run(problem, generator()).x).any()
    assert problem.evaded(GeneticSearch().run(problem, generator()).x).all()


def test_the_genetic_search_finds_the_best_of_all_combinations():
    space = FeatureSpace(
        version=1, name="small-world",
        features=[feature(f"n{index}", kind="integer", low=0, high=4) for index in range(4)], relations=["n0 <= n1"],
    )  # fmt: skip
    weight = torch.tensor([[-1.0, 2.0, 0.5, -3.0]], dtype=torch.float64)

    class Bumpy(Linear):
        def forward(self, x):
            return super().forward(x) + torch.sin(9 * x.double() @ weight[0]) + 30

    found = detector(Bumpy(weight[0].tolist()), space)
    raw = np.array([[1.0, 2.0, 2.0, 2.0]])
    problem = problem_of(found, raw, Ball("linf", 0.5))
    every = np.array([c for c in itertools.product(range(5), repeat=4) if c[0] <= c[1]], dtype=float)
    near = every[np.abs(every / 4 - raw / 4).max(axis=1) <= 0.5]
    best = float(found.margins(problem.compiled.encode(near)).detach().min())
    result = GeneticSearch(population=32, generations=20).run(problem, generator()).x
    assert float(found.margins(result).detach()) < best + 1e-9


def test_the_genetic_search_asks_less_where_rows_break_early():
    easy, hard = (detector(Linear([1.0, 1.0], bias), real_space(2)) for bias in (-0.95, 5.0))
    queries = []
    for found in (easy, hard):
        problem = problem_of(found, np.full((10, 2), 0.5), Ball("linf", 0.2))
        GeneticSearch(population=16, generations=10, patience=99).run(problem, generator())
        queries.append(problem.margins.queries)
    assert queries[0] * 3 < queries[1] == 10 * 16 * 11


def test_the_genetic_search_is_the_same_for_any_chunk(monkeypatch):
    rows = mixed_rows(30)
    problem = problem_of(trained(mixed_space(), rows), rows.malicious.raw, Ball("linf", 0.2))
    monkeypatch.setattr("evaluation.attacks.genetic.MAX_CELLS", 1)
    result = GeneticSearch(population=8, generations=3).run(problem, generator()).x
    assert problem.compiled.feasible(result, problem.x, problem.ball).all()


def test_broken_relations_never_lead_the_population():
    space = FeatureSpace(version=1, name="tied", features=[feature("a"), feature("b")], relations=["a = b"])
    found = detector(Linear([1.0, -1.0], 0.1), space)
    problem = problem_of(found, np.array([[0.5, 0.5]]), Ball("linf", 0.3))
    result = GeneticSearch(population=8, generations=4).run(problem, generator()).x
    assert problem.compiled.feasible(result, problem.x, problem.ball).all()
    assert not problem.evaded(result).any()


def test_benign_starts_lie_in_the_ball_on_the_way_to_the_nearest_benign_rows():
    benign = np.array([[0.9, 0.5], [0.1, 0.1], [0.6, 0.6]])
    problem = problem_of(
        detector(Linear([1.0, 1.0]), real_space(2)), np.array([[0.5, 0.5]]), Ball("linf", 0.2), benign=benign
    )
    assert np.allclose(nearest_benign(problem, 1).numpy(), [[[0.6, 0.6]]])
    starts = toward_benign(problem, 20, generator())
    assert np.allclose(starts[0, 0].numpy(), [0.6, 0.6])
    assert float((starts - 0.5).abs().max()) <= 0.2 + 1e-12


def test_a_benign_start_breaks_what_only_the_benign_corner_breaks():
    class Needle(Linear):
        def forward(self, x):
            return ((x.double() - torch.tensor([0.7, 0.35, 0.62])).abs().max(dim=1).values > 0.01).double() - 0.5

    found = detector(Needle([0.0, 0.0, 0.0]), real_space(3))
    raw, benign = np.full((5, 3), 0.5), np.array([[0.7, 0.35, 0.62]])
    without = problem_of(found, raw, Ball("linf", 0.25))
    having = problem_of(found, raw, Ball("linf", 0.25), benign=benign)
    search = GeneticSearch(population=16, generations=4)
    assert not without.evaded(search.run(without, generator()).x).all()
    assert having.evaded(search.run(having, generator()).x).all()


@settings(max_examples=15, deadline=None)
@given(epsilon=st.floats(0.0, 1.5), norm=st.sampled_from(["linf", "l2"]), seed=st.integers(0, 1000))
def test_every_native_attack_stays_feasible_for_any_budget(epsilon, norm, seed):
    rows = mixed_rows(20, seed)
    problem = problem_of(
        trained(mixed_space(), rows, epochs=5), rows.malicious.raw, Ball(norm, epsilon), benign=rows.benign.raw
    )
    for attack in (FeasibleDescent(steps=3, restarts=4), GeneticSearch(population=8, generations=2)):
        result = attack.run(problem, generator(seed)).x
        assert problem.compiled.feasible(result, problem.x, problem.ball).all()


def test_the_inner_attack_lowers_margins_within_the_rules_and_touches_nothing_else():
    rows = mixed_rows()
    found = trained(mixed_space(), rows)
    problem = problem_of(found, rows.malicious.raw, Ball("linf", 0.2))
    x = problem.x.float()
    state = torch.random.get_rng_state()
    result = inner_attack(found.margins, problem.compiled, problem.ball, x, steps=5, generator=generator())
    assert result.dtype == torch.float32
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in found.network.parameters())
    assert bool((found.margins(result) <= found.margins(x) + 1e-5).all())
    assert float((found.margins(result) - found.margins(x)).detach().mean()) < -0.3
    double = inner_attack(found.margins, problem.compiled, problem.ball, problem.x, steps=5, generator=generator())
    assert problem.compiled.feasible(double, problem.x, problem.ball).all()


def test_the_inner_attack_keeps_the_best_row_it_saw_also_where_a_step_goes_too_far():
    found = detector(Wrapped(Linear([1.0], -0.45), torch.abs), real_space(1))
    problem = problem_of(found, np.array([[0.5]] * 20), Ball("linf", 0.2))
    result = inner_attack(found.margins, problem.compiled, problem.ball, problem.x, steps=1, generator=generator())
    assert bool((found.margins(result) <= 0.05 + 1e-9).all())


def test_steps_below_one_unit_of_a_whole_number_add_up():
    features = [feature(f"n{index}", kind="integer", high=10) for index in range(9)]
    space = FeatureSpace(version=1, name="whole", features=features)
    # The steep first column is at its bound after one unit; one step moves the others by less than half a unit.
    found = detector(Linear([-20.0, *[1.0] * 8], 16.5), space)
    problem = problem_of(found, np.array([[9.0, *[5.0] * 8]]), Ball("l2", 0.45))
    assert problem.evaded(FeasibleDescent(steps=20, restarts=1).run(problem, generator()).x).all()


def test_the_inner_attack_without_budget_returns_the_clean_rows():
    rows = mixed_rows(10)
    problem = problem_of(trained(mixed_space(), rows, epochs=2), rows.malicious.raw, Ball("linf", 0.0))
    assert torch.equal(
        inner_attack(problem.margins, problem.compiled, problem.ball, problem.x, steps=5, generator=generator()),
        problem.x,
    )
