"""Training of a detector, plain or adversarial: deterministic, resumable, judged at the operating point."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from domain.digests import digest_bytes, digest_json
from domain.features import FeatureSpace
from domain.monitor import HardeningSettings, ThreatSettings
from evaluation.detectors.detector import Detector
from evaluation.detectors.portable import Standardise, build_network
from evaluation.rows import LabelledRows
from training.adversarial import Schedule, build_adversary, class_weights
from training.calibration import operating_point, platt
from training.checkpoints import TrainingState, load_checkpoint
from training.data import (
    EpochRecord,
    Progress,
    TrainingData,
    TrainingResult,
    cap_rows,
    encode,
    require_both_classes,
)
from training.loop import Loop, run
from training.selection import Judge, Reference, logits

__all__ = ["EpochRecord", "Extras", "TrainingData", "TrainingResult", "train_detector"]

# A small scale makes a small step of the attacker large for the network: the strongest lever on robustness that was
# measured. Above 0.3 the clean detection rate pays for it.
SCALE_FLOOR = 0.2
WEIGHT_DECAY = 5e-4
WARM_RATE = 0.5


@dataclass(frozen=True)
class Extras:
    """What hardening adds to a plain training; all optional.

    Attributes:
        row_weights: weight of each training row, `(n,)`.
        calibration_weights: weight of each calibration row, `(n,)`, for the operating point.
        recent: recent held-out rows whose malicious part counts in the selection.
        reference: clean detection rate, and the rows it holds on, below which checkpoints are penalised.
        epochs: instead of the recipe's.
        checkpoint: file for resuming.
    """

    row_weights: NDArray[np.float64] | None = None
    calibration_weights: NDArray[np.float64] | None = None
    recent: LabelledRows | None = None
    reference: Reference | None = None
    epochs: int | None = None
    checkpoint: Path | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def train_detector(
    data: TrainingData,
    space: FeatureSpace,
    recipe: HardeningSettings,
    *,
    threat: ThreatSettings,
    budget: float,
    adversarial: bool,
    seed: int,
    champion: Detector | None = None,
    progress: Progress | None = None,
    extras: Extras | None = None,
) -> TrainingResult:
    """Return a detector at its operating point.

    With `champion` its weights are the start where the architecture fits (warm start). The same inputs and seed give
    the same weights on a CPU with one thread, also after a resumed interruption.

    Raises:
        NotEnoughRows: a part lacks a class, or the loss is not finite for want of usable rows.
    """
    extras = extras or Extras()
    for part, purpose in ((data.train, "training"), (data.selection, "selection"), (data.calibration, "calibration")):
        require_both_classes(part, purpose)
    started = time.process_time()
    train, kept = cap_rows(data.train, recipe.max_rows, seed)
    weights = None if extras.row_weights is None else extras.row_weights[kept]
    x = encode(space, train)
    network, architecture = _start(x, recipe, seed, champion)
    judge = Judge(
        space, data.selection, data.calibration, threat=threat, budget=budget, seed=seed, adversarial=adversarial,
        steps=2 * recipe.attack_steps, recent=extras.recent, calibration_weights=extras.calibration_weights,
        reference=extras.reference,
    )  # fmt: skip
    facts = {
        "seed": seed, "rows": len(train), "adversarial": adversarial, "warm_start": champion is not None,
        "recipe": recipe.model_dump(mode="json"), "threat": threat.model_dump(mode="json"), "budget": budget,
        "space": space.digest, "train_digest": train.digest,
    }  # fmt: skip
    key = _key(network, data, extras, facts)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=WEIGHT_DECAY)
    state = TrainingState(key, network, optimiser, torch.Generator().manual_seed(seed), _copy(network))
    if extras.checkpoint is not None:
        load_checkpoint(extras.checkpoint, state)
    loop = Loop(
        x=x, y=torch.as_tensor(train.y.astype(np.float32)), weight=class_weights(train.y, weights),
        adversary=build_adversary(space, threat, train.malicious, train, seed) if adversarial else None,
        schedule=Schedule(extras.epochs or recipe.epochs, recipe.attack_steps), recipe=recipe,
        rate=recipe.learning_rate * (WARM_RATE if champion is not None else 1.0),
    )  # fmt: skip
    run(loop, state, judge, extras.checkpoint, progress)
    network.load_state_dict(state.best)
    network.eval()
    detector = _finish(network, architecture, space, data.calibration, budget, extras, facts)
    return TrainingResult(detector, state.history, time.process_time() - started, state.best_score)


def _start(
    x: Tensor, recipe: HardeningSettings, seed: int, champion: Detector | None
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network to start from, with its architecture: the champion's weights, or fresh ones from the seed."""
    width = x.shape[1]
    if champion is not None and int(champion.architecture.get("width", -1)) == width:
        return copy.deepcopy(champion.network), dict(champion.architecture)
    architecture: dict[str, Any] = {"kind": "mlp", "width": width, "hidden": list(recipe.hidden)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(architecture)
    for module in network.modules():
        if isinstance(module, Standardise):
            module.mean.copy_(x.mean(dim=0))
            module.scale.copy_(x.std(dim=0, unbiased=False).clamp_min(SCALE_FLOOR))
    return network, architecture


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _finish(
    network: nn.Module,
    architecture: dict[str, Any],
    space: FeatureSpace,
    calibration: LabelledRows,
    budget: float,
    extras: Extras,
    metadata: dict[str, Any],
) -> Detector:
    """Return the detector with its operating point and Platt scaling from all calibration rows."""
    scores = logits(network, encode(space, calibration))
    benign = calibration.y == 0
    weights = None if extras.calibration_weights is None else extras.calibration_weights[benign]
    return Detector(
        architecture=architecture, network=network, space=space,
        threshold=operating_point(scores[benign], budget, weights),
        calibration=platt(scores, calibration.y), metadata={**metadata, **extras.metadata},
    )  # fmt: skip


def _key(network: nn.Module, data: TrainingData, extras: Extras, facts: dict[str, Any]) -> str:
    """Return the digest of all that decides the outcome: rows, weights, start and settings."""
    arrays = [extras.row_weights, extras.calibration_weights]
    recent = extras.recent.digest if extras.recent is not None else ""
    kept = extras.reference
    start = b"".join(tensor.detach().numpy().tobytes() for tensor in network.state_dict().values())
    return digest_json(
        {
            **facts,
            "rows": [data.train.digest, data.selection.digest, data.calibration.digest, recent],
            "weights": ["" if array is None else digest_bytes(array.tobytes()) for array in arrays],
            "start": digest_bytes(start),
            "epochs": extras.epochs,
            "reference": None if kept is None else [kept.rate, kept.rows.digest],
        }
    )
