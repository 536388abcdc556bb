"""What the promotion was worth: old and new champion on the same rows of the window after it, with the truth known."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.monitor import Monitor
from domain.reports import Estimate, PairedDifference
from evaluation.detectors.detector import Detector
from evaluation.robustness import evaluate_robustness
from evaluation.rows import LabelledRows
from evaluation.statistics.intervals import clopper_pearson
from evaluation.statistics.paired import paired_difference
from flows.demo.world import Played, labelled
from flows.steps.baseline import BenchmarkRows
from flows.steps.measuring import sample_malicious
from flows.wiring import Loop
from registry.versions import versions


@dataclass(frozen=True)
class Proof:
    """Old against new champion.

    Attributes:
        stored: detection rate on the stored malicious rows, as the campaign left them.
        robust: robust detection rate on the source rows, each detector attacked by its own run of the suite.
        old_false_positives, new_false_positives: realised rates on the benign rows.
        distinct: malicious rows after duplicates were removed.
    """

    old: int
    new: int
    stored: PairedDifference
    robust: PairedDifference
    old_false_positives: Estimate
    new_false_positives: Estimate
    distinct: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        plain = asdict(self)
        for name in ("stored", "robust", "old_false_positives", "new_false_positives"):
            plain[name] = getattr(self, name).model_dump(mode="json")
        return plain


def prove(loop: Loop, monitor: Monitor, played: Played, *, old: int, new: int, seed: int) -> Proof:
    """Return how versions `old` and `new` do on the rows of `played`."""
    before, after = (_detector(loop, monitor, version) for version in (old, new))
    stored, source = labelled(played.stored, monitor, loop), labelled(played.source, monitor, loop)
    bad = _distinct(stored.malicious)
    good = stored.benign
    rates = []
    for detector in (before, after):
        alerts = detector.score_raw(good.raw).verdict
        rates.append(clopper_pearson(int(alerts.sum()), len(good)))
    return Proof(
        old=old,
        new=new,
        stored=paired_difference(
            "stored/detection_rate", before.score_raw(bad.raw).verdict, after.score_raw(bad.raw).verdict, bad.cluster,
            seed=seed,
        ),
        robust=_robust(loop, monitor, before, after, _distinct(source.malicious), seed),
        old_false_positives=rates[0],
        new_false_positives=rates[1],
        distinct=len(bad),
    )  # fmt: skip


def _robust(
    loop: Loop, monitor: Monitor, before: Detector, after: Detector, rows: LabelledRows, seed: int
) -> PairedDifference:
    chosen = sample_malicious(rows, monitor.robust_rows, seed)
    benign = BenchmarkRows(loop, monitor).rows("selection").benign
    threat = monitor.threat.model_copy(update={"curve": ()})  # one budget is compared, the curve would only cost
    detected: list[NDArray[np.bool_]] = [
        evaluate_robustness(detector, chosen, threat=threat, suite=monitor.suite, benign=benign, seed=seed).detected
        for detector in (before, after)
    ]
    return paired_difference("robust/detection_rate", detected[0], detected[1], chosen.cluster, seed=seed)


def _distinct(rows: LabelledRows) -> LabelledRows:
    """Return the rows without repetitions of the same values."""
    first = np.unique(rows.raw, axis=0, return_index=True)[1]
    return rows.take(np.sort(first))


def _detector(loop: Loop, monitor: Monitor, version: int) -> Detector:
    known = next(one for one in versions(loop.ledger, monitor.name) if one.version == version)
    return loop.detector(monitor.name, version, known.digest)
