"""What a verdict is made from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from domain.reports import CleanReport, DriftReport, PairedDifference, ProductionReport, RobustnessReport
from evaluation.decision.diagnosis import Diagnosis


@dataclass(frozen=True, kw_only=True)
class DecisionInputs:
    """Everything measured on one window, and what it is compared with.

    Attributes:
        budget: false-positive budget of the monitor.
        window_rows: rows of the whole window that kept the contract, whoever scored them; None where the report's rows
            are all of them.
        baseline_clean: the champion on the clean benchmark when it was promoted.
        baseline_production: a trusted window of the same champion; where it is missing, vague or not identified, the
            clean benchmark is the baseline of the detection rate.
        clean_paired: champion now minus baseline on the same rows of the clean benchmark.
        robustness, baseline_robustness: under attack, now and when promoted; same space, level, norm and budget.
        robust_paired: the same as a paired difference, where both were measured on the same rows.
        drift: warns, never degrades.
        diagnosis: what the missed rows look like.
        recent_bad: earlier windows of this champion, oldest first: bad, good, or None where it abstained.
        hours_since_promotion: None before the first promotion.
        hardenings_this_month: automatic ones.
        mature: every row reached the label horizon.
    """

    monitor: str
    version: int
    window_start: datetime
    window_end: datetime
    budget: float
    production: ProductionReport
    window_rows: int | None = None
    baseline_clean: CleanReport
    baseline_production: ProductionReport | None = None
    clean_paired: PairedDifference | None = None
    robustness: RobustnessReport | None = None
    baseline_robustness: RobustnessReport | None = None
    robust_paired: PairedDifference | None = None
    drift: DriftReport | None = None
    diagnosis: Diagnosis | None = None
    recent_bad: tuple[bool | None, ...] = ()
    hours_since_promotion: float | None = None
    hardenings_this_month: int = 0
    mature: bool = True
