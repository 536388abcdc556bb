"""Robust detection rate: worst feasible attack of a suite against a detector at its operating point, over budgets."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.errors import AttackError, NotEnoughRows
from domain.monitor import ThreatSettings
from domain.reports import AttackReport, CurvePoint, Estimate, RobustnessReport
from evaluation.attacks.cascade import Broken, Clock, Stage, Target, run_cascade
from evaluation.attacks.intervals import clustered_rate
from evaluation.attacks.problem import Attack
from evaluation.attacks.suites import load_suite
from evaluation.constraints.ball import Ball
from evaluation.constraints.compiled import CompiledSpace
from evaluation.detectors.detector import Detector
from evaluation.rows import LabelledRows
from evaluation.sanity import Outcome, sanity_flags
from evaluation.urls.features import URL_FEATURES

Progress = Callable[[str, float], None]
DEFAULT_SECONDS = 600.0
MOVED = 1e-9


@dataclass(frozen=True)
class RobustnessResult:
    """The report with what it was computed from, aligned with the n malicious rows.

    Attributes:
        detected: robustly detected at the threat's budget, `(n,)`.
        clean_detected: detected without attack, `(n,)`.
        adversarial_raw: verified adversarial rows `(n, d)` at that budget; the clean row where nothing broke it.
        attacked: rows that satisfy their own relations, `(n,)`; the rates of the report are over these. A row that
            breaks its relations is never attacked and keeps its clean verdict in `detected`.
        adversarial_objects: edited raw objects `(n,)` where objects were attacked; else None.
    """

    report: RobustnessReport
    detected: NDArray[np.bool_]
    clean_detected: NDArray[np.bool_]
    adversarial_raw: NDArray[np.float64]
    attacked: NDArray[np.bool_]
    adversarial_objects: NDArray[Any] | None = None


@dataclass(frozen=True)
class _Sweep:
    """Broken rows per budget, and the stages at the threat's budget."""

    broken: dict[float, Broken]
    stages: list[Stage]
    from_below: NDArray[np.bool_]
    queries: int
    complete: bool


def evaluate_robustness(
    detector: Detector,
    rows: LabelledRows,
    *,
    threat: ThreatSettings,
    suite: str,
    benign: LabelledRows,
    seed: int,
    progress: Progress | None = None,
    max_seconds: float = DEFAULT_SECONDS,
    clock: Clock = time.process_time,
) -> RobustnessResult:
    """Attack the malicious rows of `rows` with a suite, at the threat's budget and over its curve.

    Args:
        benign: benign rows (others are ignored) that searches start toward.
        max_seconds: seconds on `clock` after which no further attack starts; the report is then unreliable.
        clock: CPU seconds of this process by default.

    Raises:
        NotEnoughRows: no malicious row, or none that satisfies its own relations.
        AttackError: the suite is unknown, or has nothing for this threat.
    """
    begin = clock()
    malicious = rows.malicious
    target, attacked = _target(detector, malicious, benign, threat)
    part = malicious.take(attacked)
    chosen = load_suite(suite)
    attacks = chosen.for_threat(
        threat.norm, white_box=threat.knowledge == "white-box", objects=target.objects is not None
    )
    detected = detector.score_raw(part.raw).verdict
    sweep = _sweep(target, attacks, threat, detected, seed, clock, begin + max_seconds, progress)
    outcome = Outcome(
        detected=detected, broken=sweep.broken[threat.epsilon], from_below=sweep.from_below,
        white_box=any(attack.needs_gradient for attack in attacks), complete=sweep.complete,
    )  # fmt: skip
    flags = sanity_flags(target, outcome, Ball(threat.norm, threat.epsilon), seed)
    robust = detected & ~outcome.broken.mask
    report = RobustnessReport(
        suite=suite, suite_digest=chosen.digest, space_digest=detector.space.digest, rows_digest=malicious.digest,
        level=threat.level, norm=threat.norm, epsilon=threat.epsilon, rows=int(attacked.sum()),
        infeasible_clean=int((~attacked).sum()), clean_detection_rate=clustered_rate(detected, part.cluster, seed),
        robust_detection_rate=clustered_rate(robust, part.cluster, seed), attacks=_attack_reports(sweep, detected),
        curve=_curve(sweep, threat, detected, part.cluster, seed), flags=flags,
        reliable=not any(flag.raised for flag in flags), seed=seed, queries=sweep.queries,
        cpu_seconds=clock() - begin, moved_features=_moved(target, outcome.broken, detected),
    )  # fmt: skip
    _assert_consistent(report)
    return _aligned(report, malicious, attacked, robust, outcome.broken, detector)


def _target(
    detector: Detector, malicious: LabelledRows, benign: LabelledRows, threat: ThreatSettings
) -> tuple[Target, NDArray[np.bool_]]:
    """Return the rows to be attacked, and which of the malicious rows these are, `(n,)`."""
    if not len(malicious):
        raise NotEnoughRows("robustness is measured on malicious rows, and there are none among the rows given")
    compiled = CompiledSpace(detector.space, threat.level)
    attacked = np.asarray(compiled.check(malicious.raw, malicious.raw).ok, dtype=bool)
    if not attacked.any():
        raise NotEnoughRows(
            f"all {len(malicious)} malicious rows break the bounds or relations of space {detector.space.name!r}; "
            "mend the rows or the relations first"
        )
    part = malicious.take(attacked)
    x, starts = compiled.encode(part.raw), compiled.encode(benign.benign.raw)
    objects = part.objects if _attacks_objects(detector, part) else None
    return Target(detector, compiled, part.raw, x, starts, objects), attacked


def _assert_consistent(report: RobustnessReport) -> None:
    """Refuse a report that contradicts itself: only a defect of the evaluation can make one.

    Raises:
        AttackError: more robust than under one of its attacks, a rising curve, or not the clean rate at budget 0.
    """
    rates = [point.robust_detection_rate.value or 0.0 for point in report.curve]
    robust = report.robust_detection_rate.value or 0.0
    if any(robust > attack.robust_detection_rate + 1e-12 for attack in report.attacks):
        raise AttackError("the cascade reports more robustness than one of its attacks: a defect of the evaluation")
    if any(later > earlier + 1e-12 for earlier, later in itertools.pairwise(rates)):
        raise AttackError(f"the robustness curve rises with the budget: {rates}: a defect of the evaluation")
    if rates[0] != report.clean_detection_rate.value:
        raise AttackError("the curve at budget 0 is not the clean detection rate: a defect of the evaluation")


def _attacks_objects(detector: Detector, rows: LabelledRows) -> bool:
    if rows.objects is None:
        return False
    return tuple(detector.space.names) == tuple(URL_FEATURES)


def _sweep(
    target: Target,
    attacks: Sequence[Attack],
    threat: ThreatSettings,
    detected: NDArray[np.bool_],
    seed: int,
    clock: Clock,
    deadline: float,
    progress: Progress | None,
) -> _Sweep:
    """Attack at the threat's budget first, then downward, then upward, and carry every success to larger budgets.

    Downward the full suite meets the rows that broke at the next larger budget; the others meet the first attack only,
    since a success there would show that the larger budget was searched badly (flag `not-monotone`).
    """
    budgets = sorted({epsilon for epsilon in threat.curve if epsilon > 0} | {threat.epsilon})
    central = threat.epsilon
    state = {epsilon: Broken.none_of(target) for epsilon in budgets}
    rows, queries, complete = np.flatnonzero(detected), 0, True
    done: dict[float, bool] = {}

    def attack(epsilon: float, chosen: Sequence[Attack], which: NDArray[np.intp]) -> list[Stage]:
        nonlocal queries
        stages, finished = run_cascade(
            target, chosen, Ball(threat.norm, epsilon), which, state[epsilon],
            seed=seed, clock=clock, deadline=deadline, progress=progress,
        )  # fmt: skip
        queries += sum(stage.queries for stage in stages)
        done[epsilon] = done.get(epsilon, True) and finished
        return stages

    stages = attack(central, attacks, rows)
    alone = state[central].mask.copy()
    larger = central
    for epsilon in reversed([budget for budget in budgets if budget < central]):
        attack(epsilon, attacks, rows[state[larger].mask[rows]])
        if len(attacks) > 1:
            attack(epsilon, attacks[:1], rows[~state[larger].mask[rows]])
        larger = epsilon
    for smaller, epsilon in itertools.pairwise(budgets):
        _carry(state[smaller], state[epsilon])
        if epsilon > central:
            attack(epsilon, attacks, rows[~state[epsilon].mask[rows]])
    complete = all(done.values())
    return _Sweep(state, stages, state[central].mask & ~alone, queries, complete)


def _carry(smaller: Broken, larger: Broken) -> None:
    """A success within a smaller budget is one within every larger budget."""
    new = smaller.mask & ~larger.mask
    larger.mask[new], larger.raw[new] = True, smaller.raw[new]
    if smaller.objects is not None and larger.objects is not None:
        larger.objects[new] = smaller.objects[new]


def _attack_reports(sweep: _Sweep, detected: NDArray[np.bool_]) -> tuple[AttackReport, ...]:
    return tuple(
        AttackReport(
            name=stage.attack.name,
            parameters=dict(stage.attack.parameters),
            rows=stage.rows,
            broken=int(stage.broken.size),
            rejected=stage.rejected,
            robust_detection_rate=float(detected.sum() - stage.broken.size) / detected.size,
            cpu_seconds=stage.cpu_seconds,
            queries=stage.queries,
        )
        for stage in sweep.stages
    )


def _curve(
    sweep: _Sweep, threat: ThreatSettings, detected: NDArray[np.bool_], clusters: NDArray[Any], seed: int
) -> tuple[CurvePoint, ...]:
    points: list[CurvePoint] = []
    for epsilon in sorted({0.0, *threat.curve, threat.epsilon}):
        robust = detected if epsilon == 0 else detected & ~sweep.broken[epsilon].mask
        estimate: Estimate = clustered_rate(robust, clusters, seed)
        points.append(CurvePoint(epsilon=epsilon, robust_detection_rate=estimate))
    return tuple(points)


def _moved(target: Target, broken: Broken, detected: NDArray[np.bool_]) -> dict[str, float]:
    """Return per feature the share of successes that moved it, most moved first."""
    won = broken.mask & detected
    if not won.any():
        return {}
    share = (np.abs(broken.raw[won] - target.raw[won]) > MOVED).mean(axis=0)
    order = np.argsort(-share, kind="stable")
    return {target.compiled.space.names[index]: float(share[index]) for index in order if share[index] > 0}


def _aligned(
    report: RobustnessReport,
    malicious: LabelledRows,
    attacked: NDArray[np.bool_],
    robust: NDArray[np.bool_],
    broken: Broken,
    detector: Detector,
) -> RobustnessResult:
    clean = detector.score_raw(malicious.raw).verdict
    detected, raw = clean.copy(), malicious.raw.copy()
    detected[attacked], raw[attacked] = robust, broken.raw
    objects = None
    if broken.objects is not None and malicious.objects is not None:
        objects = malicious.objects.copy()
        objects[attacked] = broken.objects
    return RobustnessResult(report, detected, clean, raw, attacked, objects)
