from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from domain.errors import AttackError
from domain.features import FeatureSpace
from evaluation.attacks.feasible_descent import FeasibleDescent
from evaluation.attacks.genetic import GeneticSearch
from evaluation.attacks.suites import load_suite
from evaluation.attacks.torch_adapter import TorchAttack, as_torchattack
from evaluation.constraints.ball import Ball
from tests.evaluation.attacks.worlds import (
    Linear,
    detector,
    feature,
    generator,
    mixed_rows,
    mixed_space,
    problem_of,
    real_space,
    trained,
)  # fmt: skip

ALL = [("fgsm", "linf"), ("pgd", "linf"), ("pgd", "l2"), ("apgd", "linf"), ("apgd", "l2"), ("square", "linf")]


@pytest.mark.parametrize(("kind", "norm"), ALL)
def test_every_library_attack_returns_feasible_rows_below_the_clean_margin(kind, norm):
    space, rows = mixed_space(), mixed_rows()
    found = trained(space, rows)
    problem = problem_of(found, rows.malicious.raw, Ball(norm, 0.3))
    result = TorchAttack(kind, steps=10).run(problem, generator()).x
    assert result.dtype == torch.float64
    assert problem.compiled.feasible(result, problem.x, problem.ball).all()
    before, after = found.margins(problem.x), found.margins(result)
    assert float((after - before).detach().mean()) < -0.1


@pytest.mark.parametrize("kind", ["fgsm", "pgd", "apgd", "square"])
def test_only_columns_that_the_attacker_controls_move_and_only_in_their_direction(kind):
    space = mixed_space()
    rows = mixed_rows()
    problem = problem_of(trained(space, rows), rows.malicious.raw, Ball("linf", 0.4))
    moved = problem.compiled.decode(TorchAttack(kind).run(problem, generator()).x) - rows.malicious.raw
    assert (moved[:, 4] == 0).all()
    assert (moved[:, 3] >= -1e-9).all()
    assert np.abs(moved[:, 7]).max() <= 0.1 + 1e-9  # cost 4


@pytest.mark.parametrize(
    ("name", "norm"), [*(pair for pair in ALL if pair != ("pgd", "l2")), ("suite", "linf"), ("suite", "l2")]
)
def test_a_linear_detector_is_brought_to_its_closed_form_minimum(name, norm):
    weight = [1.5, -2.0, 0.5, 3.0, -0.25, 0.75]
    space = real_space(6)
    raw = np.full((5, 6), 0.5) + np.linspace(-0.05, 0.05, 5)[:, None]
    found = detector(Linear(weight, 20.0), space)  # never evaded, so that nothing stops early
    epsilon = 0.2
    problem = problem_of(found, raw, Ball(norm, epsilon))
    attacks = load_suite("quick").for_threat(norm, white_box=True, objects=False) if name == "suite" else None
    chosen = attacks or [TorchAttack(name, steps=200 if name == "square" else 20)]
    lowest = torch.stack([found.margins(attack.run(problem, generator()).x) for attack in chosen]).min(dim=0).values
    loss = epsilon * (np.abs(weight).sum() if norm == "linf" else np.linalg.norm(weight))
    expected = found.margins(problem.x) - loss
    assert float((lowest - expected).detach().abs().max()) < 1e-4


def test_the_box_of_one_sided_columns_is_used_to_its_end():
    space = real_space(2, mutability="increase-only")
    found = detector(Linear([-1.0, 1.0], 9.0), space)
    problem = problem_of(found, np.array([[0.2, 0.2]]), Ball("linf", 0.3))
    assert np.allclose(TorchAttack("pgd").run(problem, generator()).x.numpy(), [[0.5, 0.2]])


def test_square_reaches_the_last_column():
    found = detector(Linear([0, 0, 0, 1.0], -0.3), real_space(4))
    problem = problem_of(found, np.full((3, 4), 0.4), Ball("linf", 0.2))
    assert problem.evaded(TorchAttack("square", steps=60).run(problem, generator()).x).all()


class _Frozen(nn.Module):
    """A dropout that somebody froze inside a network in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Linear([1.0, -1.0])
        self.dropout = nn.Dropout(0.5)
        self.fail = False

    def forward(self, x):
        if self.fail:
            raise RuntimeError("planted")
        return self.dropout(self.inner(x))


@pytest.mark.parametrize("kind", ["fgsm", "pgd", "apgd", "square"])
@pytest.mark.parametrize("fail", [False, True])
def test_modes_gradients_and_the_global_generator_are_as_before_also_after_an_error(kind, fail):
    network = _Frozen()
    network.train()
    network.dropout.eval()
    network.fail = fail
    mark = torch.ones(2, dtype=torch.float64)
    network.inner.weight.grad = mark
    problem = problem_of(detector(network, real_space(2)), np.full((4, 2), 0.5), Ball("linf", 0.1))
    before = torch.random.get_rng_state()
    if fail:
        with pytest.raises(RuntimeError, match="planted"):
            TorchAttack(kind).run(problem, generator())
    else:
        TorchAttack(kind).run(problem, generator())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert network.training
    assert not network.dropout.training
    assert network.inner.weight.grad is mark
    assert network.inner.weight.requires_grad


def test_the_generator_alone_decides_the_outcome():
    rows = mixed_rows()
    problem = problem_of(trained(mixed_space(), rows), rows.malicious.raw, Ball("linf", 0.1))
    first = TorchAttack("square", 3).run(problem, generator(1)).x
    torch.rand(7)
    assert torch.equal(first, TorchAttack("square", 3).run(problem, generator(1)).x)
    assert not torch.equal(first, TorchAttack("square", 3).run(problem, generator(2)).x)


def test_a_confident_detector_still_gives_the_library_a_gradient():
    found = detector(Linear([300.0, -300.0], 100.0), real_space(2))
    problem = problem_of(found, np.array([[0.9, 0.1]]), Ball("linf", 0.6))
    assert problem.evaded(TorchAttack("pgd").run(problem, generator()).x).all()


@pytest.mark.parametrize("kind", ["fgsm", "square"])
def test_an_attack_that_has_no_form_for_the_norm_says_so(kind):
    problem = problem_of(detector(Linear([1.0, 1.0]), real_space(2)), np.full((1, 2), 0.5), Ball("l2", 0.1))
    with pytest.raises(AttackError, match=kind):
        TorchAttack(kind).run(problem, generator())


def test_costs_bend_the_l2_ball_and_the_attack_follows():
    space = FeatureSpace(version=1, name="bent", features=[feature("cheap"), feature("dear", cost=4.0)])
    found = detector(Linear([1.0, 1.0], 5.0), space)
    problem = problem_of(found, np.array([[0.5, 0.5]]), Ball("l2", 0.2))
    for attack in (TorchAttack("pgd", 40), FeasibleDescent(steps=40, restarts=1)):
        lowest = found.margins(attack.run(problem, generator()).x)
        assert float(lowest.detach()) == pytest.approx(6.0 - 0.2 * np.hypot(1, 0.25), abs=5e-3)


def test_native_attacks_join_the_librarys_multi_attack():
    import torchattacks

    rows = mixed_rows(40)
    problem = problem_of(trained(mixed_space(), rows), rows.malicious.raw, Ball("linf", 0.4))
    parts = [as_torchattack(GeneticSearch(population=8, generations=3), problem, seed) for seed in (1, 2)]
    assert isinstance(parts[0], torchattacks.attack.Attack)
    result = parts[0](problem.x, torch.ones(len(problem.x), dtype=torch.long))
    assert problem.compiled.feasible(result, problem.x, problem.ball).all()
