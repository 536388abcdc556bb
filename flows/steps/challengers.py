"""Steps of the hardening: gather rows, train, measure against champion and anchor on the same rows, judge."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from domain.decisions import Decision, GateEvidence, Remedy
from domain.monitor import Monitor
from domain.reports import PairedDifference
from evaluation.decision.criteria import CLEAN, DETECTION, FALSE_POSITIVES, ROBUST
from evaluation.detectors.detector import Detector
from evaluation.rows import LabelledRows
from evaluation.statistics.paired import paired_difference
from flows.steps.baseline import BenchmarkRows
from flows.steps.measuring import Measured, Rows, measure, sample_malicious
from flows.steps.windows import Window
from flows.wiring import Loop
from registry.heads import Head
from registry.versions import get_anchor
from samples.windows import list_windows
from training.data import TrainingData
from training.hardening import SuspiciousBatch, harden, rethreshold
from training.screening import screen
from training.splits import split_by_cluster

FRESH_SHARE = 0.4
RECENT_WINDOWS = 3
TRUE_NEGATIVES = "production/true_negative_rate"
SUPERIOR_ON = {DETECTION: DETECTION, ROBUST: ROBUST, CLEAN: CLEAN, FALSE_POSITIVES: TRUE_NEGATIVES}


@dataclass(frozen=True)
class Recent:
    """Labelled production rows, split by cluster: some to learn from, the fresh ones for the gate only.

    Attributes:
        weights, fresh_weights: inverse inclusion probabilities, aligned.
    """

    learn: LabelledRows
    weights: NDArray[np.float64]
    fresh: LabelledRows
    fresh_weights: NDArray[np.float64]


def gather_recent(loop: Loop, monitor: Monitor, head: Head, start: datetime, as_of: datetime, seed: int) -> Recent:
    """Return the labelled rows of the window that starts at `start` and of the windows before it.

    The fresh rows come from the judged window alone and share no cluster with anything that is learnt from.
    """
    refs = [ref for ref in list_windows(loop.ledger, monitor.name) if ref.start <= start][-RECENT_WINDOWS:]
    results = [Window(loop, monitor, ref, as_of, head).production(seed) for ref in refs]
    judged = results[-1]
    numbered = np.arange(len(judged.labelled))
    parts = split_by_cluster(
        _with_position(judged.labelled, numbered), {"learn": 1 - FRESH_SHARE, "fresh": FRESH_SHARE}, seed
    )
    picked = {name: part.raw[:, -1].astype(int) for name, part in parts.items()}
    fresh = judged.labelled.take(picked["fresh"])
    held_back = set(fresh.cluster.astype(str))
    # A flood of equal rows under many subjects must not be learnt from and judged on at once.
    learnt = picked["learn"][~_repeats(judged.labelled.raw[picked["learn"]], fresh.raw)]
    earlier = [result for result in results[:-1] if len(result.labelled)]
    kept = [
        ~np.isin(result.labelled.cluster.astype(str), list(held_back)) & ~_repeats(result.labelled.raw, fresh.raw)
        for result in earlier
    ]
    return Recent(
        learn=LabelledRows.concatenate(
            [judged.labelled.take(learnt)]
            + [result.labelled.take(mask) for result, mask in zip(earlier, kept, strict=True)]
        ),
        weights=np.concatenate(
            [judged.weights[learnt]] + [result.weights[mask] for result, mask in zip(earlier, kept, strict=True)]
        ),
        fresh=fresh,
        fresh_weights=judged.weights[picked["fresh"]],
    )


def _repeats(rows: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which of `rows` `(n, d)` equal one of `others` `(m, d)`."""
    known = {row.tobytes() for row in np.ascontiguousarray(others)}
    return np.array([row.tobytes() in known for row in np.ascontiguousarray(rows)], dtype=bool)


def _with_position(rows: LabelledRows, position: NDArray[np.int64]) -> LabelledRows:
    return LabelledRows(np.column_stack([rows.raw, position]), rows.y, rows.cluster, rows.family, rows.objects)


def train_challenger(
    loop: Loop, monitor: Monitor, champion: Detector, recent: Recent, *, remedy: Remedy, seed: int
) -> Detector:
    """Return the challenger: hardened, or the champion at another operating point.

    Raises:
        SuspiciousBatch: the poisoning screen refused the recent rows, also as a source of a threshold.
    """
    parts = BenchmarkRows(loop, monitor)
    data = TrainingData(
        train=parts.rows("train"), selection=parts.rows("selection"), calibration=parts.rows("calibration")
    )
    if remedy is Remedy.RETHRESHOLD:
        found = screen(
            recent.learn, data.train, max_share=monitor.hardening.max_poison_share, seed=seed, space=champion.space,
            weights=recent.weights,
        )  # fmt: skip
        if found.refused:
            raise SuspiciousBatch(f"the recent labelled rows set no threshold: {found.reason}")
        usable, weights = recent.learn.take(found.trusted), recent.weights[found.trusted]
        return rethreshold(champion, usable, budget=monitor.false_positive_budget, weights=weights)
    return harden(
        champion,
        data,
        recent.learn,
        recipe=monitor.hardening,
        threat=monitor.threat,
        budget=monitor.false_positive_budget,
        seed=seed,
        recent_weights=recent.weights,
    ).detector


@dataclass(frozen=True)
class Contender:
    """One detector in the comparison."""

    detector: Detector
    version: int
    digest: str


def compare(
    loop: Loop, monitor: Monitor, contenders: dict[str, Contender], recent: Recent, decision: Decision | None, seed: int
) -> GateEvidence:
    """Return the evidence for the gate: champion, challenger and anchor, each attacked by its own run of the suite.

    Args:
        contenders: by role `champion`, `challenger`, `anchor`.
        decision: why this hardening was started; the challenger must be superior on what failed there.
    """
    data = BenchmarkRows(loop, monitor)
    own = data.measured_on()
    attacked = LabelledRows.concatenate([own.attacked, sample_malicious(recent.fresh, monitor.robust_rows // 2, seed)])
    rows = Rows(clean=own.clean, attacked=attacked, benign=own.benign)
    measured: dict[str, Measured] = {}
    for role, one in contenders.items():
        same = [done for done, other in contenders.items() if done in measured and other.digest == one.digest]
        measured[role] = measured[same[0]] if same else measure(
            one.detector, rows, monitor=monitor, version=one.version, digest=one.digest, seed=seed
        )  # fmt: skip
    pairs = _Pairs(contenders, measured, rows, recent, data.rows("golden"), monitor, seed)
    failed = () if decision is None else tuple(one.name for one in decision.criteria if one.outcome == "fail")
    return GateEvidence(
        champion=measured["champion"].report,
        challenger=measured["challenger"].report,
        anchor=measured["anchor"].report,
        against_champion=pairs.against("champion"),
        against_anchor=pairs.against("anchor"),
        # Where nothing degraded a challenger must still be better than the champion at something: under attack.
        degraded_on=tuple(SUPERIOR_ON[name] for name in failed if name in SUPERIOR_ON) or (ROBUST,),
    )


@dataclass(frozen=True)
class _Pairs:
    contenders: dict[str, Contender]
    measured: dict[str, Measured]
    rows: Rows
    recent: Recent
    golden: LabelledRows
    monitor: Monitor
    seed: int

    def against(self, other: str) -> tuple[PairedDifference, ...]:
        """Return all paired differences, challenger minus `other`."""
        first, second = self.measured[other], self.measured["challenger"]
        clean, fresh = self.rows.clean, self.recent.fresh
        bad = clean.y == 1
        found = [
            self._pair("clean/detection_rate", first.verdict[bad], second.verdict[bad], clean.cluster[bad]),
            self._pair("robust/detection_rate", first.robust, second.robust, self.rows.attacked.cluster),
        ]
        found += self._fresh(other, fresh.y == 1, DETECTION) + self._fresh(other, fresh.y == 0, TRUE_NEGATIVES)
        sealed = self.golden.malicious
        if len(sealed):
            then, now = (self._verdict(role, sealed) for role in (other, "challenger"))
            found.append(self._pair("golden/detection_rate", then, now, sealed.cluster))
        for family in np.unique(clean.family[bad].astype(str)):
            part = bad & (clean.family.astype(str) == family)
            name = f"slice/family/{family}/detection_rate"
            found.append(self._pair(name, first.verdict[part], second.verdict[part], clean.cluster[part]))
        return tuple(found)

    def _fresh(self, other: str, mask: NDArray[np.bool_], name: str) -> list[PairedDifference]:
        mask = mask & (self.recent.fresh_weights > 0)
        if not mask.any():
            return []
        rows, weights = self.recent.fresh.take(mask), self.recent.fresh_weights[mask]
        then, now = (self._verdict(role, rows) for role in (other, "challenger"))
        if name == TRUE_NEGATIVES:
            then, now = ~then, ~now
        return [self._pair(name, then, now, rows.cluster, weights)]

    def _verdict(self, role: str, rows: LabelledRows) -> NDArray[np.bool_]:
        return self.contenders[role].detector.score_raw(rows.raw).verdict

    def _pair(
        self,
        name: str,
        first: NDArray[np.bool_],
        second: NDArray[np.bool_],
        clusters: NDArray[np.object_],
        weights: NDArray[np.float64] | None = None,
    ) -> PairedDifference:
        return paired_difference(
            name, first, second, clusters, seed=self.seed, confidence=1 - 2 * self.monitor.gate.alpha, weights=weights
        )


def contenders_of(loop: Loop, monitor: Monitor, head: Head, challenger: Contender) -> dict[str, Contender]:
    """Return champion, challenger and anchor, the registered ones verified before they are parsed."""
    anchor = get_anchor(loop.ledger, monitor.name)
    champion = Contender(loop.detector(monitor.name, head.version, head.digest), head.version, head.digest)
    frozen = champion
    if anchor is not None and anchor.version != head.version:
        frozen = Contender(loop.detector(monitor.name, anchor.version, anchor.digest), anchor.version, anchor.digest)
    return {"champion": champion, "challenger": challenger, "anchor": frozen}
