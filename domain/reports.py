"""What was measured: frozen, JSON-serialisable reports. A number never travels without its interval and its n."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from domain.digests import digest_json
from domain.features import Level
from domain.monitor import Norm


class Report(BaseModel):
    """Base of all reports: frozen, strict about keys, addressed by the digest of its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return digest_json(self.model_dump(mode="json"))


class Estimate(Report):
    """A rate or score with its interval.

    Attributes:
        value: point estimate; None where there is nothing to measure.
        low, high: bounds of the interval at `confidence`.
        n: rows behind it.
        weak: fewer rows than the false-positive budget asks for.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    confidence: float = 0.95
    weak: bool = False


class SliceReport(Report):
    """One family or slice: `kind` names the grouping (`family`, `day`, ...), `value` the group."""

    kind: str
    value: str
    malicious: int
    benign: int
    detection_rate: Estimate
    false_positive_rate: Estimate


class CleanReport(Report):
    """Scores of one detector on labelled rows, without attack, at the frozen operating point.

    Attributes:
        detection_rate: true-positive rate at the frozen threshold.
        realised_false_positive_rate: with a Clopper-Pearson interval.
        detection_rate_at_budget: after re-thresholding these benign rows to the budget.
        alerts_per_day: at the monitor's stated prevalence and daily volume.
        macro_detection_rate: mean over families, so that one big family does not hide the others.
    """

    rows: int
    malicious: int
    benign: int
    threshold: float
    detection_rate: Estimate
    realised_false_positive_rate: Estimate
    detection_rate_at_budget: Estimate
    threshold_at_budget: float | None
    macro_detection_rate: Estimate
    roc_auc: Estimate
    pr_auc: Estimate
    calibration_error: Estimate
    alerts_per_day: Estimate
    slices: tuple[SliceReport, ...] = ()


class AttackReport(Report):
    """One stage of the cascade.

    Attributes:
        rows: rows that were still unbroken when the stage began.
        broken: rows that it broke, every success re-verified.
        rejected: successes that it claimed and that verification refused.
        robust_detection_rate: over all rows of the suite, had this been the only attack so far in the cascade.
    """

    name: str
    parameters: dict[str, float | int | str]
    rows: int
    broken: int
    rejected: int
    robust_detection_rate: float
    cpu_seconds: float
    queries: int


class CurvePoint(Report):
    """Robust detection rate at one budget."""

    epsilon: float
    robust_detection_rate: Estimate


class SanityFlag(Report):
    """A reason not to believe a robustness number. `raised` flags make the report unreliable."""

    name: str
    raised: bool
    value: float | None
    limit: float | None
    meaning: str


class RobustnessReport(Report):
    """Worst-case detection under the suite: an upper bound on true robustness.

    Attributes:
        rows: malicious rows that were attacked (all of them, also those missed without attack).
        rows_digest: digest of these rows, so that only reports on the same rows are compared.
        infeasible_clean: rows that break their own relations; they are reported, never silently attacked.
    """

    suite: str
    suite_digest: str
    space_digest: str
    rows_digest: str
    level: Level
    norm: Norm
    epsilon: float
    rows: int
    infeasible_clean: int
    clean_detection_rate: Estimate
    robust_detection_rate: Estimate
    attacks: tuple[AttackReport, ...]
    curve: tuple[CurvePoint, ...]
    flags: tuple[SanityFlag, ...]
    reliable: bool
    seed: int
    queries: int
    cpu_seconds: float
    moved_features: dict[str, float] = {}


class ColumnDrift(Report):
    """Drift of one column."""

    column: str
    method: str
    value: float
    limit: float
    drifted: bool


class DriftReport(Report):
    """Distribution change of the features against the reference, on seeded samples of bounded size."""

    method: str
    reference_rows: int
    current_rows: int
    columns: tuple[ColumnDrift, ...]
    drifted_share: float
    share_limit: float
    drifted: bool
    note: str = ""


class ProductionReport(Report):
    """The champion on labelled production samples of one window.

    Rates are weighted by the inverse inclusion probability of the audit stream, so that missed
    intrusions among the negatives count. Without an audit stream the detection rate is not identified.
    """

    rows: int
    quarantined: int
    labelled: int
    audited: int
    malicious: int
    benign: int
    label_coverage: float
    detection_rate: Estimate
    false_positive_rate: Estimate
    identified: bool
    contradictions: int = 0
    slices: tuple[SliceReport, ...] = ()


class PairedDifference(Report):
    """Second minus first on the same rows, with a cluster-bootstrap interval.

    Attributes:
        first, second: rates of the two detectors.
        low, high: two-sided interval of the difference at `confidence`.
        n: rows compared.
        clusters: among these rows; they are drawn together in the bootstrap.
    """

    name: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    n: int
    clusters: int
    confidence: float = 0.95


class EvaluationReport(Report):
    """Everything measured on one detector: which one, on which rows, with which result."""

    monitor: str
    version: int
    detector_digest: str
    space_digest: str
    benchmark_digest: str
    clean: CleanReport
    robustness: RobustnessReport


RowSet = Literal["benchmark", "production"]
