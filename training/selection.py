"""The judge of a training run: which checkpoint is best, at the operating point, under attack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from domain.features import FeatureSpace
from domain.monitor import ThreatSettings
from evaluation.rows import LabelledRows
from training.adversarial import Adversary, build_adversary
from training.calibration import operating_point
from training.data import encode

ATTACKED_ROWS = 400
CALIBRATION_ROWS = 20_000
RESTARTS = 2
CLEAN_ALLOWANCE = 0.01
CLEAN_PENALTY = 5.0


@dataclass(frozen=True)
class Reference:
    """What a challenger should keep: the champion's detection rate on the malicious ones of `rows`."""

    rate: float
    rows: LabelledRows


@dataclass(frozen=True)
class Judgement:
    """Rates of one network on the selection rows, each in [0, 1]; None where there is nothing to measure.

    Attributes:
        threshold: operating point at the budget on the benign calibration rows.
        score: mean of the rates, less a penalty for clean detection lost against the reference.
    """

    threshold: float
    detection_rate: float
    robust_rate: float | None
    recent_rate: float | None
    score: float


class Judge:
    """Scores networks on the same rows, with the same attack and the same random numbers each time."""

    def __init__(
        self,
        space: FeatureSpace,
        selection: LabelledRows,
        calibration: LabelledRows,
        *,
        threat: ThreatSettings,
        budget: float,
        seed: int,
        steps: int,
        adversarial: bool,
        recent: LabelledRows | None = None,
        calibration_weights: NDArray[np.float64] | None = None,
        reference: Reference | None = None,
    ) -> None:
        rng = np.random.default_rng([seed, 307])
        self.budget, self.steps, self.seed = budget, steps, seed
        benign = np.flatnonzero(calibration.y == 0)
        if len(benign) > CALIBRATION_ROWS:
            benign = np.sort(rng.choice(benign, CALIBRATION_ROWS, replace=False))
        self.benign = encode(space, calibration.take(benign))
        self.weights = None if calibration_weights is None else calibration_weights[benign]
        malicious = selection.malicious
        self.malicious = encode(space, malicious)
        self.recent = None if recent is None or not (recent.y == 1).any() else encode(space, recent.malicious)
        self.reference = reference
        # The same rows for both: recent rows, which the champion may miss all, must not look like a loss.
        self.held = None if reference is None else encode(space, reference.rows.malicious)
        self.adversary: Adversary | None = None
        self.attacked = torch.empty(0, dtype=torch.long)
        if adversarial:
            rows = np.sort(rng.permutation(len(malicious))[:ATTACKED_ROWS])
            self.attacked = torch.as_tensor(rows)
            self.adversary = build_adversary(space, threat, malicious.take(rows), calibration, seed)

    def judge(self, network: nn.Module, *, attack: bool = True) -> Judgement:
        """Return the rates of `network` at its own operating point; without `attack` the robust one is None."""
        threshold = operating_point(logits(network, self.benign), self.budget, self.weights)
        scores = logits(network, self.malicious)
        detection = float((scores >= threshold).mean())
        recent = None if self.recent is None else float((logits(network, self.recent) >= threshold).mean())
        robust = (
            None if self.adversary is None or not attack else self._robust(network, self.adversary, threshold, scores)
        )
        rates = [rate for rate in (detection, robust, recent) if rate is not None]
        lost = self._lost(network, threshold)
        return Judgement(threshold, detection, robust, recent, float(np.mean(rates)) - CLEAN_PENALTY * lost)

    def _lost(self, network: nn.Module, threshold: float) -> float:
        """Return the detection rate lost against the reference on its own rows, beyond the allowance."""
        if self.reference is None or self.held is None or not len(self.held):
            return 0.0
        kept = float((logits(network, self.held) >= threshold).mean())
        return max(0.0, self.reference.rate - kept - CLEAN_ALLOWANCE)

    def _robust(self, network: nn.Module, adversary: Adversary, threshold: float, scores: NDArray[np.float64]) -> float:
        generator = torch.Generator().manual_seed(self.seed)

        def margins(x: Tensor) -> Tensor:
            output: Tensor = network(x.to(torch.float32))
            return (output - threshold).to(x.dtype)

        # Each judgement starts from nothing, so that checkpoints are compared on equal terms.
        adversary.reset()
        worst = scores[self.attacked.numpy()]
        for _ in range(RESTARTS):
            attacked = adversary.perturb(
                margins, torch.arange(len(self.attacked)), strength=1.0, steps=self.steps, generator=generator
            )
            worst = np.minimum(logits(network, attacked), worst)
        return float((worst >= threshold).mean())


def logits(network: nn.Module, x: Tensor) -> NDArray[np.float64]:
    """Return the logits of rows in model space, `(n,)` float64."""
    with torch.no_grad():
        parts = [network(chunk).double() for chunk in torch.split(x, 16_384)]
    return torch.cat(parts).numpy() if parts else np.empty(0)
