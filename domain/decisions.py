"""What was decided, and why: verdicts, criteria and gate decisions."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from domain.reports import EvaluationReport, PairedDifference, Report


class Verdict(StrEnum):
    """Whether the champion can still be trusted."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    ABSTAIN = "abstain"


class DegradationKind(StrEnum):
    """What kind of degradation it is; each has its own remedy."""

    NONE = "none"
    DATA_FAULT = "data-fault"
    BENIGN_DRIFT = "benign-drift"
    NEW_FAMILY = "new-family"
    EVASION = "evasion"
    ROBUSTNESS = "robustness"


class Remedy(StrEnum):
    """What the loop does about it."""

    NOTHING = "nothing"
    FIX_DATA = "fix-data"
    RETHRESHOLD = "rethreshold"
    HARDEN = "harden"


class Outcome(StrEnum):
    """How one criterion ended."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    WARN = "warn"
    ABSTAIN = "abstain"


class Criterion(Report):
    """One line of a verdict: what was compared with which limit, and how it ended."""

    name: str
    value: float | None
    limit: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    p_value: float | None = None
    adjusted_p: float | None = None
    outcome: Outcome
    reason: str


class Decision(Report):
    """The verdict on one window.

    Attributes:
        bad_window: this window alone fails a criterion.
        bad_windows, of_windows: how many of the last n windows were bad, this one included.
        action: what the loop may do now, after k of n, cool-down and budget.
    """

    monitor: str
    version: int
    window_start: datetime
    window_end: datetime
    verdict: Verdict
    kind: DegradationKind
    remedy: Remedy
    action: bool
    bad_window: bool
    bad_windows: int
    of_windows: int
    criteria: tuple[Criterion, ...]
    reasons: tuple[str, ...]


class GateEvidence(Report):
    """Both detectors measured on the same rows, and the paired differences between them (challenger minus other).

    Attributes:
        against_champion, against_anchor: paired differences, by name: `clean/detection_rate`,
            `robust/detection_rate`, `production/detection_rate`, `slice/<kind>/<value>/detection_rate`.
        degraded_on: names among them in which the champion degraded; there the challenger must be superior.
    """

    champion: EvaluationReport
    challenger: EvaluationReport
    anchor: EvaluationReport
    against_champion: tuple[PairedDifference, ...]
    against_anchor: tuple[PairedDifference, ...]
    degraded_on: tuple[str, ...] = ()


class GateDecision(Report):
    """Whether the challenger may be promoted; fails closed and lists every criterion."""

    monitor: str
    champion_version: int
    challenger_version: int
    passed: bool
    criteria: tuple[Criterion, ...]
    reasons: tuple[str, ...]
    evidence_digest: str


PromotionKind = Literal["bootstrap", "promotion", "rollback", "external"]
