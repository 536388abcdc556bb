import numpy as np
import pytest
import torch

from domain.features import load_feature_space
from domain.monitor import ThreatSettings
from evaluation.constraints.ball import Ball
from evaluation.constraints.compiled import CompiledSpace
from evaluation.rows import LabelledRows
from evaluation.urls.features import extract
from tests.training.worlds import SPACE, world
from training.adversarial import (
    FeatureAdversary,
    Schedule,
    balanced_loss,
    build_adversary,
    class_weights,
)
from training.data import encode
from training.objects import PoolAdversary

THREAT = ThreatSettings(epsilon=0.3)
PADDED, FIXED = 0, 1  # columns of `bytes` and `ports`


def attack(weights: list[float], strength: float = 1.0) -> tuple[FeatureAdversary, torch.Tensor, torch.Tensor]:
    rows = world(300, 0)
    x = encode(SPACE, rows.malicious)
    adversary = FeatureAdversary(SPACE, THREAT, rows.malicious, rows.benign)
    slope = torch.tensor(weights, dtype=torch.float64)
    attacked = adversary.perturb(
        lambda z: z @ slope, torch.arange(len(x)),
        strength=strength, steps=3, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    return adversary, x, attacked


def test_the_attack_reaches_the_edge_of_the_budget_where_that_helps_most() -> None:
    _, x, attacked = attack([-1.0, 0.0, 0.0, 0.0, 0.0])
    moved = attacked[:, PADDED] - x[:, PADDED]
    assert torch.allclose(moved, torch.full_like(moved, 0.3), atol=1e-5)


def test_the_attack_never_moves_what_the_attacker_cannot() -> None:
    adversary, x, attacked = attack([1.0, -5.0, -1.0, -5.0, 5.0])
    assert torch.allclose(attacked[:, FIXED], x[:, FIXED], atol=1e-6)
    assert (attacked[:, PADDED] >= x[:, PADDED] - 1e-6).all()
    assert adversary.compiled.feasible(attacked.double(), x.double(), Ball("linf", 0.3 + 1e-5)).all()


def test_the_warm_up_shrinks_the_budget() -> None:
    _, x, attacked = attack([-1.0, 0.0, 0.0, 0.0, 0.0], strength=0.5)
    assert float((attacked - x).abs().max()) <= 0.15 + 1e-5


def test_the_attack_moves_whole_numbers_although_small_steps_are_truncated() -> None:
    _, x, attacked = attack([0.0, 0.0, -1.0, 0.0, 0.0])
    room = torch.minimum(torch.tensor(0.3), 1 - x[:, 2])
    assert torch.allclose(attacked[:, 2] - x[:, 2], torch.floor(room * 10 + 1e-4) / 10, atol=1e-5)


def urls() -> LabelledRows:
    objects = np.array(
        [f"http://secure-login{n}.example-pay.com/a{n}/verify.php?id={n}" for n in range(8)], dtype=object
    )
    raw = np.asarray(extract(list(objects)))
    return LabelledRows(
        raw=raw, y=np.ones(8, dtype=np.int8), cluster=objects, family=objects, objects=objects
    )  # fmt: skip


def test_urls_are_attacked_by_editing_the_url() -> None:
    space = load_feature_space("phishtank")
    rows = urls()
    adversary = build_adversary(space, THREAT, rows, rows, 0)
    assert isinstance(adversary, PoolAdversary)
    x = encode(space, rows)
    column = space.names.index(next(name for name in space.names if "length" in name))
    attacked = adversary.perturb(
        lambda z: z[:, column], torch.arange(8), strength=1.0, steps=1, generator=torch.Generator()
    )
    assert (attacked[:, column] < x[:, column]).all()


@pytest.mark.parametrize("epsilon", [1e-6, 0.02, 0.3])
def test_edited_urls_obey_the_budget_and_leave_fixed_columns_alone(epsilon: float) -> None:
    space, rows = load_feature_space("phishtank"), urls()
    threat = ThreatSettings(epsilon=epsilon)
    compiled = CompiledSpace(space, threat.level)
    pool = build_adversary(space, threat, rows, rows, 0).variants
    moved = (pool - compiled.encode(rows.raw).float()[:, None]).abs()
    assert float((moved * compiled.cost).max()) <= epsilon + 1e-5
    assert float(moved[..., ~compiled.movable].sum()) == 0
    assert (float(moved.max()) > 0) == (epsilon > 0.01)


def test_the_pool_of_a_seed_is_always_the_same() -> None:
    space, rows = load_feature_space("phishtank"), urls()
    pools = [build_adversary(space, THREAT, rows, rows, seed).variants for seed in (1, 1, 2)]
    assert torch.equal(pools[0], pools[1])
    assert not torch.equal(pools[0], pools[2])


def test_rows_without_objects_are_attacked_in_model_space() -> None:
    rows = world(100, 0)
    assert isinstance(build_adversary(SPACE, THREAT, rows.malicious, rows, 0), FeatureAdversary)


def test_the_schedule_ends_at_full_strength_with_all_steps() -> None:
    schedule = Schedule(epochs=10, steps=5)
    strengths = [schedule.strength(epoch) for epoch in range(10)]
    assert strengths == sorted(strengths)
    assert 0 < strengths[0] < 1
    assert strengths[3:] == [1.0] * 7
    assert schedule.attack_steps(0) == 3
    assert schedule.attack_steps(9) == 5


def test_a_rare_class_weighs_as_much_as_a_common_one() -> None:
    y = np.array([0] * 90 + [1] * 10, dtype=np.int8)
    weights = class_weights(y)
    assert float(weights[y == 1].sum()) == pytest.approx(50)
    assert float(weights[y == 0].sum()) == pytest.approx(50)


def test_the_share_of_the_attack_moves_the_loss_from_clean_to_attacked_rows() -> None:
    y, weight = torch.tensor([0.0, 1.0]), torch.ones(2)
    logits, attacked = torch.tensor([-5.0, 5.0]), torch.tensor([-5.0])
    losses = [float(balanced_loss(logits, y, weight, attacked, beta)) for beta in (0.0, 0.5, 1.0)]
    assert losses[0] == pytest.approx(float(balanced_loss(logits, y, weight, None, 0.5)))
    assert losses[0] < losses[1] < losses[2]
