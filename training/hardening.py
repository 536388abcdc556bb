"""Hardening: the successor learns from recent labelled rows, under attack, and never from suspicious ones."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domain.errors import DataError
from domain.monitor import HardeningSettings, ThreatSettings
from evaluation.detectors.detector import Detector
from evaluation.rows import LabelledRows
from training.calibration import operating_point
from training.data import Progress, TrainingData, TrainingResult
from training.fitting import Extras, train_detector
from training.screening import ScreenResult, screen
from training.selection import Judge, Reference
from training.splits import split_by_cluster

__all__ = ["SuspiciousBatch", "harden", "rethreshold"]

RECENT_SHARES = {"train": 0.5, "selection": 0.2, "calibration": 0.3}
RECENT_MASS = 0.3
RECENT_WEIGHT_LIMIT = 10.0
CALIBRATION_MASS = 0.6
CALIBRATION_TAIL = 10  # recent benign rows beyond the budget from which they get their full mass
WARM_SHARE = 0.4


class SuspiciousBatch(DataError):
    """The poisoning screen refused the recent rows as a whole."""


@dataclass(frozen=True)
class _Recent:
    train: LabelledRows
    selection: LabelledRows
    calibration: LabelledRows
    calibration_weights: NDArray[np.float64]


def harden(
    champion: Detector,
    data: TrainingData,
    recent: LabelledRows,
    *,
    recipe: HardeningSettings,
    threat: ThreatSettings,
    budget: float,
    seed: int,
    progress: Progress | None = None,
    recent_weights: NDArray[np.float64] | None = None,
    checkpoints: Path | None = None,
) -> TrainingResult:
    """Return the challenger: adversarially trained on the replayed training rows and the recent ones.

    Two candidates run, one from the champion's weights (where the recipe says so) and one from scratch; the better one
    on the selection rows under attack, at its operating point, wins. Recent rows pass the poisoning screen first; they
    weigh `RECENT_MASS` of their class, a fifth of their clusters joins the selection, three tenths the calibration,
    where the benign ones get up to `CALIBRATION_MASS` of the mass: the threshold follows benign drift, and the new
    benign calibration rows exceed the budget by at most `1 / CALIBRATION_MASS`.

    Args:
        champion: the deployed detector.
        data: rows of the bootstrap.
        recent: labelled production rows; no row of a benchmark.
        recent_weights: inverse inclusion probabilities `(n,)` of the recent rows. Alerts are always labelled, other
            rows by audit only: unweighted, false positives would look far too common. Benign rows of weight 0 were
            not drawn and set no threshold.
        checkpoints: folder in which an interrupted run finds its state again.

    Raises:
        SuspiciousBatch: the screen refused the recent rows.
        NotEnoughRows: a part lacks a class.
    """
    started = time.process_time()
    mass = np.ones(len(recent)) if recent_weights is None else np.asarray(recent_weights, dtype=np.float64)
    found = screen(recent, data.train, max_share=recipe.max_poison_share, seed=seed, space=champion.space, weights=mass)
    if found.refused:
        raise SuspiciousBatch(f"the recent labelled rows are not learnt from: {found.reason}")
    parts = _split_recent(recent.take(found.trusted), mass[found.trusted], found.kept[found.trusted], seed)
    extras = Extras(
        row_weights=_row_weights(data.train.y, parts.train.y),
        calibration_weights=_calibration_weights(
            data.calibration.y, parts.calibration.y, parts.calibration_weights, budget
        ),
        recent=parts.selection if (parts.selection.y == 1).any() else None,
        reference=_reference(champion, data, threat=threat, budget=budget, seed=seed),
        metadata=_facts(recent, found, champion),
    )
    results = []
    for name, start in _candidates(champion, recipe):
        epochs = max(4, round(WARM_SHARE * recipe.epochs)) if start is not None else recipe.epochs
        checkpoint = None if checkpoints is None else checkpoints / f"{name}.safetensors"
        result = train_detector(
            _joined(data, parts), champion.space, recipe, threat=threat, budget=budget, adversarial=True, seed=seed,
            champion=start, progress=_named(name, progress),
            extras=replace(extras, epochs=min(epochs, recipe.epochs), checkpoint=checkpoint),
        )  # fmt: skip
        results.append(result)
    return replace(max(results, key=lambda result: result.score), seconds=time.process_time() - started)


def rethreshold(
    champion: Detector, benign: LabelledRows, *, budget: float, weights: NDArray[np.float64] | None = None
) -> Detector:
    """Return the champion with its operating point moved to `budget` on the benign rows of `benign`.

    The remedy for benign drift: no weight changes, so there is nothing to learn from a poisoned row but the threshold.

    Args:
        weights: inverse inclusion probabilities `(n,)` of the rows; rows that stand for none set no threshold. Without
            them false positives, which are always labelled, would count for too many, and the threshold rise too far.

    Raises:
        NotEnoughRows: there are no benign rows.
    """
    mass = np.ones(len(benign)) if weights is None else np.asarray(weights, dtype=np.float64)
    used = (benign.y == 0) & (mass > 0)
    threshold = operating_point(champion.score_raw(benign.raw[used]).logit, budget, mass[used])
    facts = {**champion.metadata, "rethresholded_from": champion.threshold, "rethresholded_on": benign.benign.digest}
    return replace(champion, threshold=threshold, metadata=facts)


def _joined(data: TrainingData, recent: _Recent) -> TrainingData:
    """Return the rows of the bootstrap, each part followed by its share of the recent rows."""
    return TrainingData(
        train=LabelledRows.concatenate([data.train, recent.train]),
        selection=LabelledRows.concatenate([data.selection, recent.selection]),
        calibration=LabelledRows.concatenate([data.calibration, recent.calibration]),
    )


def _candidates(champion: Detector, recipe: HardeningSettings) -> list[tuple[str, Detector | None]]:
    """Return the racers by name; a champion of another shape than the recipe's cannot be the start."""
    fits = list(champion.architecture.get("hidden", [])) == list(recipe.hidden)
    scratch: list[tuple[str, Detector | None]] = [("scratch", None)]
    return [("warm", champion), *scratch] if recipe.warm_start and fits else scratch


def _split_recent(recent: LabelledRows, mass: NDArray[np.float64], learnt: NDArray[np.bool_], seed: int) -> _Recent:
    """Return the parts of the recent rows by cluster; weights travel with their rows.

    Only rows that are `learnt` `(n,)` train and select; all set the threshold, save benign rows that stand for none.
    """
    if len(np.unique(recent.cluster.astype(str))) < len(RECENT_SHARES):
        nothing = recent.take(np.zeros(len(recent), dtype=bool))
        return _Recent(recent.take(learnt), nothing, nothing, mass[:0])
    # The position of each row rides along as one more column, to find its weight again after the split.
    numbered = replace(recent, raw=np.column_stack([recent.raw, np.arange(len(recent))]))
    parts = split_by_cluster(numbered, RECENT_SHARES, seed)
    rows = {name: part.raw[:, -1].astype(int) for name, part in parts.items()}
    train, selection = (rows[name][learnt[rows[name]]] for name in ("train", "selection"))
    calibration = rows["calibration"][(recent.y[rows["calibration"]] == 1) | (mass[rows["calibration"]] > 0)]
    return _Recent(recent.take(train), recent.take(selection), recent.take(calibration), mass[calibration])


def _row_weights(old: NDArray[np.int8], new: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return weights of old and new training rows: the new ones get `RECENT_MASS` of their class, within a limit."""
    weights = np.ones(len(old) + len(new))
    for label in (0, 1):
        before, after = int((old == label).sum()), int((new == label).sum())
        if after:
            wanted = RECENT_MASS / (1 - RECENT_MASS) * before / after
            weights[len(old) :][new == label] = min(max(wanted, 1.0), RECENT_WEIGHT_LIMIT)
    return weights


def _calibration_weights(
    old: NDArray[np.int8], new: NDArray[np.int8], mass: NDArray[np.float64], budget: float
) -> NDArray[np.float64]:
    """Return weights of the calibration rows: the recent benign ones get up to `CALIBRATION_MASS`.

    They get less where they are few: a quantile at the budget needs rows beyond it, counted by the effective sample
    size of the weights (Kish, "Survey Sampling", 1965).
    """
    weights = np.ones(len(old) + len(new))
    fresh = mass[new == 0]
    if fresh.sum() <= 0:
        return weights
    effective = fresh.sum() ** 2 / (fresh**2).sum()
    share = CALIBRATION_MASS * min(1.0, effective * budget / CALIBRATION_TAIL)
    total = share / (1 - share) * int((old == 0).sum())
    weights[len(old) :][new == 0] = fresh / fresh.sum() * max(total, 1e-6)
    return weights


def _reference(
    champion: Detector, data: TrainingData, *, threat: ThreatSettings, budget: float, seed: int
) -> Reference:
    """Return the champion's detection rate on the old selection rows at the budget: what the challenger should keep."""
    judge = Judge(
        champion.space, data.selection, data.calibration,
        threat=threat, budget=budget, seed=seed, steps=1, adversarial=False,
    )  # fmt: skip
    return Reference(judge.judge(champion.network).detection_rate, data.selection)


def _named(name: str, progress: Progress | None) -> Progress | None:
    return None if progress is None else lambda message, share: progress(f"{name}: {message}", share)


def _facts(recent: LabelledRows, found: ScreenResult, champion: Detector) -> dict[str, object]:
    return {
        "recent_rows": len(recent),
        "recent_kept": int(found.kept.sum()),
        "recent_digest": recent.digest,
        "screen": found.reason,
        "champion_threshold": champion.threshold,
    }
