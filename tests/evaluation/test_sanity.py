from __future__ import annotations

import numpy as np
import pytest
import torch

from domain.monitor import ThreatSettings
from evaluation.robustness import evaluate_robustness
from tests.evaluation.attacks.worlds import (
    Linear,
    Wrapped,
    detector,
    mixed_rows,
    mixed_space,
    real_space,
    rows_of,
    trained,
)

STEEP = [4.0, -4.0, 4.0]


def raised(found, rows, epsilon=0.2, norm="linf"):
    threat = ThreatSettings(epsilon=epsilon, curve=(0.0, epsilon / 2, epsilon), norm=norm)
    report = evaluate_robustness(found, rows, threat=threat, suite="quick", benign=rows, seed=0).report
    names = {flag.name for flag in report.flags if flag.raised}
    assert report.reliable == (not names)
    return names


def cloud(n: int = 60):
    """Malicious rows around 0.62 in the first and third column, benign ones around 0.3."""
    rng = np.random.default_rng(0)
    y = (np.arange(n) % 2).astype(np.int8)
    centre = np.where(y[:, None] == 1, [0.62, 0.38, 0.62], [0.3, 0.7, 0.3])
    return rows_of(np.clip(centre + 0.02 * rng.standard_normal((n, 3)), 0, 1), y)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_healthy_detector_raises_nothing(norm):
    rows = mixed_rows(120)
    assert raised(trained(mixed_space(), rows), rows, norm=norm) == set()
    assert raised(detector(Linear(STEEP, -2.0), real_space(3)), cloud(), norm=norm) == set()


def test_random_outputs_are_flagged():
    noisy = Wrapped(Linear(STEEP, -2.0), lambda logit: logit + 0.1 * torch.rand(logit.shape, generator=generator))
    generator = torch.Generator().manual_seed(0)
    assert "random-outputs" in raised(detector(noisy, real_space(3)), cloud())


def test_a_staircase_is_flagged_for_its_dead_gradient_and_for_the_search_that_beats_it():
    stairs = Wrapped(Linear(STEEP, -2.0), lambda logit: torch.round(4 * logit) / 4)
    names = raised(detector(stairs, real_space(3), 0.1), cloud(), epsilon=0.25)
    assert {"dead-gradients", "black-box-beats-gradient", "huge-budget-fails"} <= names


def test_gradients_that_are_not_a_number_are_flagged():
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, logit):
            return logit.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * torch.nan

    found = detector(Wrapped(Linear(STEEP, -2.0), Broken.apply), real_space(3))
    assert "dead-gradients" in raised(found, cloud())


def test_gradients_that_point_the_wrong_way_are_flagged():
    class Reversed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, logit):
            return logit.clone()

        @staticmethod
        def backward(ctx, gradient):
            return -gradient

    found = detector(Wrapped(Linear(STEEP, -1.0), Reversed.apply), real_space(3))
    names = raised(found, cloud(), epsilon=0.25)
    assert {"black-box-beats-gradient", "huge-budget-fails"} <= names
    assert "dead-gradients" not in names


def test_noise_that_breaks_more_than_gradients_is_flagged():
    """A gentle slope leads uphill to a wall; most corners of the ball lie in the hole behind the clean row."""

    class Trap(Linear):
        def forward(self, x):
            hole = (x[:, 0].double() < 0.5).double()
            return 1.0 - 3.0 * hole + super().forward(x)

    found = detector(Trap([-0.1, 0.0, 0.0]), real_space(3))
    assert {"noise-beats-gradient", "black-box-beats-gradient"} <= raised(found, cloud())


@pytest.mark.parametrize(
    "change", [lambda logit: 1000 * logit, lambda logit: torch.sigmoid(8 * logit)], ids=["extreme", "probability"]
)
def test_saturated_outputs_are_flagged(change):
    found = detector(Wrapped(Linear(STEEP, -2.0), change), real_space(3), 0.5)
    assert "saturated-outputs" in raised(found, cloud())
