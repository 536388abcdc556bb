"""An evasion campaign: every malicious flow is run again with the attacker's knobs until the detector lets it pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domain.errors import AttackError
from domain.features import Feature, FeatureSpace, Level, load_feature_space
from samples.simulator.knobs import LIMITS, Caps, Knobs, apply_knobs

Floats = NDArray[np.float64]
ScoreMargin = Callable[[pd.DataFrame], Floats]


@dataclass(frozen=True, slots=True)
class KnobRanges:
    """How far the attacker turns each knob at full strength; `extra_packets` to `decoys` are searched logarithmically.

    Attributes:
        fill: highest share of the room in sent packets that padding fills.
        extra_packets: most padding packets per packet sent.
        slow: largest factor on duration and gaps.
        pause_ms: longest pause.
        split: most flows per transfer; used by a strong attacker only.
        decoys: most flows to other servers; used by a strong attacker only.
    """

    fill: float = 1.0
    extra_packets: float = 60.0
    slow: float = 40.0
    pause_ms: float = 120_000.0
    split: float = 12.0
    decoys: float = 200.0


@dataclass(frozen=True, slots=True)
class CampaignReport:
    """What a campaign reached, as shares of its malicious flows.

    Attributes:
        flows: malicious flows.
        detected_before, detected_after: share with a margin of at least 0.
        inside_ball: share whose change stays within `epsilon` in every feature of model space.
        by_family: detected share after the campaign, by family.
    """

    flows: int
    detected_before: float
    detected_after: float
    inside_ball: float
    by_family: dict[str, float]


def evade(
    flows: pd.DataFrame,
    score_margin: ScoreMargin,
    *,
    rng: np.random.Generator,
    rounds: int = 12,
    ranges: KnobRanges | None = None,
    strength: float = 1.0,
    level: Level = "expected",
    epsilon: float | None = 0.1,
) -> pd.DataFrame:
    """Return `flows` in which every malicious flow that is detected uses the first knobs that evade, else the best.

    The change of a flow is one that level `level` of the simulator's feature space allows, and all relations hold.
    From the second half of the rounds on, settings are searched around the best ones so far.

    Args:
        flows: rows of `TrafficSimulator.day`; benign ones stay as they are.
        score_margin: margin of each row of a frame, `(n,)`; negative means evaded.
        rng: source of the settings that are tried.
        rounds: settings tried for each flow, at most.
        ranges: how far the knobs turn.
        strength: 0 to 1, scales the ranges; 0 changes nothing.
        level: attacker level; padding at `weak`, pacing too at `expected`, splitting and decoys too at `strong`.
        epsilon: no feature moves further than this in model space, so that the campaign compares with an attack in
            the linf ball of that radius; `None` is without bound. Splitting is not bounded.

    Raises:
        AttackError: rounds or strength are out of range, or the margins do not fit the rows.
    """
    if rounds < 1 or not 0 <= strength <= 1 or (epsilon is not None and epsilon <= 0):
        raise AttackError(
            "a campaign needs at least one round, a strength from 0 to 1 and an epsilon above 0, "
            f"got {rounds}, {strength}, {epsilon}"
        )
    malicious = np.flatnonzero(flows["label"].to_numpy() == 1)
    if not len(malicious) or strength == 0:
        return flows.copy()
    clean = flows.iloc[malicious].reset_index(drop=True)
    caps = move_caps(clean, epsilon, load_feature_space("simulator"))
    best, best_margin = clean.copy(), _margins(score_margin, clean)
    units = np.zeros((len(clean), len(_UNITS)))
    for attempt in range(rounds):
        alive = np.flatnonzero(best_margin >= 0)
        if not len(alive):
            break
        tried = _propose(rng, units[alive], local=attempt >= max(1, rounds // 2))
        knobs = _knobs(tried, ranges or KnobRanges(), strength, level)
        subset = clean.iloc[alive].reset_index(drop=True)
        moved = apply_knobs(subset, knobs, {name: values[alive] for name, values in caps.items()})
        margin = _margins(score_margin, moved)
        better = np.flatnonzero(margin < best_margin[alive])
        rows = alive[better]
        units[rows], best_margin[rows] = tried[better], margin[better]
        for name in (*LIMITS, "bytes_in", "packets_in"):
            column = best[name].to_numpy().copy()
            column[rows] = moved[name].to_numpy()[better]
            best[name] = column
    return _merge(flows, best, malicious)


def move_caps(flows: pd.DataFrame, epsilon: float | None, space: FeatureSpace) -> Caps:
    """Return the highest value that each movable feature of each row may reach, `(n,)` each."""
    if epsilon is None:
        return {name: np.full(len(flows), high) for name, high in LIMITS.items()}
    caps: Caps = {}
    for feature in space.features:
        if feature.name in LIMITS:
            value = flows[feature.name].to_numpy().astype(np.float64)
            reach = np.expm1(np.log1p(value) + epsilon * _span(feature))
            # Slightly inside, so that rounding in another implementation cannot put the row outside.
            caps[feature.name] = np.maximum(np.minimum(np.floor(reach * (1 - 1e-9)), LIMITS[feature.name]), value)
    return caps


def inside_ball(clean: pd.DataFrame, moved: pd.DataFrame, epsilon: float, space: FeatureSpace) -> NDArray[np.bool_]:
    """Return which rows moved by at most `epsilon` in every feature of model space, `(n,)`."""
    inside = np.ones(len(clean), dtype=bool)
    for feature in space.features:
        before, after = clean[feature.name].to_numpy(), moved[feature.name].to_numpy()
        if feature.kind == "categorical":
            inside &= before == after
        else:
            log = feature.transform == "log1p"
            change = np.log1p(after) - np.log1p(before) if log else after.astype(float) - before
            inside &= np.abs(change) <= epsilon * _span(feature) + 1e-12
    return inside


def summarise(clean: pd.DataFrame, moved: pd.DataFrame, score_margin: ScoreMargin, *, epsilon: float) -> CampaignReport:
    """Return what the campaign that turned `clean` into `moved` reached; only malicious rows count.

    Raises:
        AttackError: there is no malicious row.
    """
    rows = np.flatnonzero(clean["label"].to_numpy() == 1)
    if not len(rows):
        raise AttackError("a campaign is judged on its malicious flows, and there is none (label 1)")
    before, after = clean.iloc[rows], moved.iloc[rows]
    caught = _margins(score_margin, after) >= 0
    family = before["family"].to_numpy()
    return CampaignReport(
        flows=len(rows),
        detected_before=float(np.mean(_margins(score_margin, before) >= 0)),
        detected_after=float(caught.mean()),
        inside_ball=float(inside_ball(before, after, epsilon, load_feature_space("simulator")).mean()),
        by_family={str(name): float(caught[family == name].mean()) for name in np.unique(family)},
    )


_UNITS = ("fill", "extra_packets", "extra_size", "slow", "even", "pause_ms", "split", "decoys")


def _propose(rng: np.random.Generator, best: Floats, *, local: bool) -> Floats:
    """Return settings in `[0, 1]`, `(n, len(_UNITS))`: anywhere (some knobs left at 0), or near the best so far."""
    if local:
        near: Floats = np.clip(best + 0.25 * rng.standard_normal(best.shape), 0, 1)
        return near
    anywhere: Floats = rng.uniform(size=best.shape) * (rng.uniform(size=best.shape) < 0.7)
    return anywhere


def _knobs(units: Floats, ranges: KnobRanges, strength: float, level: Level) -> Knobs:
    unit = dict(zip(_UNITS, units.T, strict=True))

    def log_scaled(name: str, high: float) -> Floats:
        scaled: Floats = np.expm1(unit[name] * np.log1p(high * strength))
        return scaled

    paced, strong = level != "weak", level == "strong"
    return Knobs(
        fill=unit["fill"] * ranges.fill * strength,
        extra_packets=log_scaled("extra_packets", ranges.extra_packets),
        extra_size=40 + 1460 * unit["extra_size"] ** 2,
        slow=1 + log_scaled("slow", ranges.slow - 1) * paced,
        even=unit["even"],
        pause_ms=log_scaled("pause_ms", ranges.pause_ms) * paced,
        split=1 + log_scaled("split", ranges.split - 1) * strong,
        decoys=log_scaled("decoys", ranges.decoys) * strong,
    )


def _margins(score_margin: ScoreMargin, frame: pd.DataFrame) -> Floats:
    margins = np.asarray(score_margin(frame), dtype=np.float64)
    if margins.shape != (len(frame),) or not np.isfinite(margins).all():
        raise AttackError(f"score_margin must return one finite number a row ({len(frame)}), got shape {margins.shape}")
    return margins


def _span(feature: Feature) -> float:
    if feature.transform == "log1p":
        return float(np.log1p(feature.high) - np.log1p(feature.low))
    return feature.high - feature.low


def _merge(flows: pd.DataFrame, moved: pd.DataFrame, rows: NDArray[np.int64]) -> pd.DataFrame:
    result = flows.copy()
    for name in (*LIMITS, "bytes_in", "packets_in"):
        column = result[name].to_numpy().copy()
        column[rows] = moved[name].to_numpy()
        result[name] = column
    return result
