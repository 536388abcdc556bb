"""Steps of the re-evaluation: which window is due, what was measured on it, what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pandas as pd

from domain.decisions import Decision, Verdict
from domain.errors import ConfigError, DataError
from domain.monitor import Monitor
from domain.reports import EvaluationReport, ProductionReport, RobustnessReport
from evaluation.attacks.suites import load_suite
from evaluation.decision.decide import decide
from evaluation.decision.diagnosis import diagnose
from evaluation.decision.inputs import DecisionInputs
from evaluation.detectors.detector import Detector
from evaluation.drift import DriftResult, measure_drift
from evaluation.metrics.clean import evaluate_clean
from evaluation.production import ProductionResult, evaluate_production
from evaluation.robustness import evaluate_robustness
from flows.steps.baseline import BenchmarkRows, measure_on_benchmark
from flows.steps.measuring import Progress, Rows, sample_malicious
from flows.wiring import Loop
from registry.heads import Head, history
from registry.reports import DecisionRecord, decisions, latest_report
from samples.labels import resolve
from samples.pull import PullResult, pull
from samples.windows import WindowRef, find_window, list_windows, window_frame, window_start

BASELINE = "baseline"
PRODUCTION = "production"
WINDOW_ROBUST = "window-robust"
FEWEST_ATTACKED = 20
MANY = 100_000


def parse_moment(text: str, clock: datetime) -> datetime:
    """Return the time that `text` names: `now`, or ISO 8601 (UTC where no zone is given).

    Raises:
        ConfigError: neither.
    """
    if text.strip().lower() in {"", "now"}:
        return clock
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ConfigError(f"{text!r} is no time; write `now` or ISO 8601 such as 2026-01-31T00:00:00+00:00") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def pull_samples(loop: Loop, monitor: Monitor, as_of: datetime, holder: str) -> PullResult:
    """Pull what the source has until `as_of`, exactly once, through the data contract."""
    return pull(
        loop.ledger, loop.content, loop.source(monitor), monitor=monitor, space=loop.space(monitor), as_of=as_of,
        holder=holder, base=loop.settings.monitors_dir,
    )  # fmt: skip


def due_window(loop: Loop, monitor: Monitor, as_of: datetime, wanted: str) -> WindowRef | None:
    """Return the window to judge: the one that starts at `wanted`, else the oldest due one that nobody judged.

    A window is due once it has reached the label horizon. If nothing is due but the newest grid window holds no row at
    all, that empty window is returned: silence must be noticed, too.

    Raises:
        DataError: there is no window that starts at `wanted`.
    """
    policy = monitor.policy
    if wanted.strip():
        return find_window(loop.ledger, monitor.name, parse_moment(wanted, as_of))
    complete = as_of - timedelta(hours=policy.label_horizon_hours)
    starts: dict[datetime, int] = {}
    for record in decisions(loop.ledger, monitor.name, limit=MANY):
        start = record.decision.window_start
        starts[start] = max(record.revision, starts.get(start, 0))
    known = list_windows(loop.ledger, monitor.name, until=complete)
    for ref in known:
        # A revision that late rows made is judged again; it replaces the verdict on the window and is no further one.
        if ref.revision > starts.get(ref.start, -1):
            return ref
    length = timedelta(hours=policy.window_hours)
    newest = window_start(complete, policy.window_hours) - length
    if newest in starts or not known or any(ref.start == newest for ref in known) or newest < known[-1].start:
        return None
    return WindowRef(monitor.name, newest, newest + length, 0, (), 0, 0, "empty")


@dataclass(frozen=True)
class Window:
    """One window with what is needed to measure it."""

    loop: Loop
    monitor: Monitor
    ref: WindowRef
    as_of: datetime
    head: Head

    def frame(self) -> pd.DataFrame:
        """Return the rows that the present champion scored; others say nothing about it."""
        space = self.loop.space(self.monitor)
        if self.ref.rows == 0:
            columns = ["sample_id", "event_time", "subject", "score", "verdict", "model_version", *space.names]
            return pd.DataFrame({name: pd.Series(dtype="float64") for name in columns})
        frame = window_frame(self.loop.ledger, self.loop.content, self.ref)
        return frame[frame["model_version"] == self.head.version].reset_index(drop=True)

    def production(self, seed: int) -> ProductionResult:
        """Return the champion's rates from the labels known at `as_of`."""
        frame, policy = self.frame(), self.monitor.policy
        identifiers = frame["sample_id"].astype(str).tolist()
        known = self.loop.labels(self.monitor).create().read_labels(identifiers, as_of=self.as_of)
        horizon = timedelta(hours=policy.label_horizon_hours)
        return evaluate_production(
            frame, resolve(known, self.as_of, horizon), quarantined=self.ref.quarantined,
            horizon_hours=policy.label_horizon_hours, as_of=self.as_of, space=self.loop.space(self.monitor), seed=seed,
        )  # fmt: skip

    def drift(self, seed: int) -> DriftResult:
        """Return the drift of the window against the frozen reference."""
        return measure_drift(
            BenchmarkRows(self.loop, self.monitor).frame("reference"), self.frame(),
            space=self.loop.space(self.monitor), share_limit=self.monitor.policy.drift_share_limit, seed=seed,
        )  # fmt: skip

    def trusted(self) -> datetime | None:
        """Return the start of this champion's first healthy window: what its later ones are held against."""
        ledger, name = self.loop.ledger, self.monitor.name
        earlier = decisions(ledger, name, version=self.head.version, before=self.ref.start, limit=MANY)
        healthy = [one.decision.window_start for one in earlier if one.decision.verdict is Verdict.HEALTHY]
        return min(healthy, default=None)

    def robustness(self, champion: Detector, labelled: ProductionResult, seed: int) -> RobustnessReport | None:
        """Return the suite's result on the window's labelled malicious rows; None where there are too few."""
        rows = sample_malicious(labelled.labelled, self.monitor.robust_rows, seed)
        if len(rows) < FEWEST_ATTACKED:
            return None
        benign = BenchmarkRows(self.loop, self.monitor).rows("selection").benign
        return evaluate_robustness(
            champion, rows, threat=self.monitor.threat, suite=self.monitor.suite, benign=benign, seed=seed
        ).report


def benchmark_now(
    loop: Loop, monitor: Monitor, champion: Detector, current: Head, *, seed: int, progress: Progress | None = None
) -> EvaluationReport:
    """Return the champion on the benchmark: clean always anew; attacked anew only where suite, threat or rows changed.

    The same detector, rows, suite and budgets were attacked for the baseline; repeating that says nothing new.
    """
    baseline = latest_report(loop.ledger, monitor.name, EvaluationReport, kind=BASELINE, version=current.version)
    rows = BenchmarkRows(loop, monitor).measured_on()
    if baseline is None or not _still_valid(baseline.robustness, monitor, rows):
        return measure_on_benchmark(
            loop, monitor, champion, version=current.version, digest=current.digest, seed=seed, progress=progress
        ).report
    clean = evaluate_clean(
        champion, rows.clean, budget=monitor.false_positive_budget, prevalence=monitor.prevalence,
        daily_volume=monitor.daily_volume, seed=seed,
    )  # fmt: skip
    return baseline.model_copy(update={"clean": clean.report, "benchmark_digest": rows.clean.digest})


def _still_valid(before: RobustnessReport, monitor: Monitor, rows: Rows) -> bool:
    threat = monitor.threat
    return (
        before.suite_digest == load_suite(monitor.suite).digest
        and (before.level, before.norm, before.epsilon) == (threat.level, threat.norm, threat.epsilon)
        and tuple(point.epsilon for point in before.curve) == tuple(sorted({0.0, *threat.curve, threat.epsilon}))
        and before.rows_digest == rows.attacked.malicious.digest
    )


def judge(
    window: Window,
    labelled: ProductionResult,
    *,
    drift: DriftResult,
    benchmark: EvaluationReport,
    robustness: RobustnessReport | None,
) -> Decision:
    """Return the decision on the window, from its measurements and the champion's history."""
    loop, monitor, ledger = window.loop, window.monitor, window.loop.ledger
    baseline = latest_report(ledger, monitor.name, EvaluationReport, kind=BASELINE, version=window.head.version)
    if baseline is None:
        raise DataError(f"version {window.head.version} of {monitor.name!r} has no baseline report; run `bootstrap`")
    missed = labelled.labelled.take((labelled.labelled.y == 1) & ~labelled.verdict)
    space = loop.space(monitor)
    train = BenchmarkRows(loop, monitor).rows("train")
    earlier = decisions(ledger, monitor.name, version=window.head.version, before=window.ref.start)
    now, before = _attacked(window, robustness, benchmark.robustness, baseline.robustness)
    first, version = window.trusted(), window.head.version
    trusted = None
    if first is not None:
        trusted = latest_report(
            ledger, monitor.name, ProductionReport, kind=PRODUCTION, window_start=first, version=version
        )
    return decide(
        DecisionInputs(
            monitor=monitor.name, version=window.head.version, window_start=window.ref.start,
            window_end=window.ref.end, budget=monitor.false_positive_budget, production=labelled.report,
            window_rows=window.ref.rows,
            baseline_clean=baseline.clean, baseline_production=trusted,
            robustness=now, baseline_robustness=before,
            drift=drift.report, diagnosis=diagnose(missed, train, space, monitor.threat.level),
            recent_bad=tuple(_bad(record) for record in reversed(earlier)),
            hours_since_promotion=_hours_since_promotion(window), hardenings_this_month=hardenings(window),
            mature=labelled.mature,
        ),
        monitor.policy,
    )  # fmt: skip


def _bad(record: DecisionRecord) -> bool | None:
    decision = record.decision
    return None if decision.verdict is Verdict.ABSTAIN and not decision.bad_window else decision.bad_window


def _attacked(
    window: Window, now: RobustnessReport | None, benchmark: RobustnessReport, baseline: RobustnessReport
) -> tuple[RobustnessReport, RobustnessReport]:
    """Return robustness now and what it is held against: like with like.

    Production rows are not the benchmark's rows, so a window is held against the champion's first healthy window; where
    there is none yet, the benchmark is attacked again and held against itself.
    """
    start = window.trusted()
    if now is not None and start is not None:
        before = latest_report(
            window.loop.ledger, window.monitor.name, RobustnessReport, kind=WINDOW_ROBUST, window_start=start,
            version=window.head.version,
        )  # fmt: skip
        if before is not None:
            return now, before
    return benchmark, baseline


def _hours_since_promotion(window: Window) -> float | None:
    """Return hours of production between the last judged window of an earlier champion and the end of this window.

    Production time, not wall time: a replay of a week in a minute must cool down like a week.
    """
    moved = [row for row in history(window.loop.ledger, window.monitor.name) if row.kind != "bootstrap"]
    known = decisions(window.loop.ledger, window.monitor.name, limit=MANY)
    before = [one.decision.window_end for one in known if one.decision.version != window.head.version]
    if not moved or not before:
        return None
    return max(0.0, (window.ref.end - max(before)).total_seconds() / 3600)


def hardenings(window: Window) -> int:
    """Return how many automatic hardenings the last 30 days of production saw."""
    since = window.ref.end - timedelta(days=30)
    known = decisions(window.loop.ledger, window.monitor.name, before=window.ref.start, limit=MANY)
    return sum(one.decision.action and one.decision.window_start > since for one in known)
