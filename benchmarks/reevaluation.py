"""One re-evaluation against the bare functions: what pull, window store, ledger and MLflow cost on top.

    python -m benchmarks.reevaluation                  # three windows of 50,000 rows
    python -m benchmarks.reevaluation --rows 10000 --repeats 5

Both sides start from the rows in the sample store and end with a decision on the same window, and both call the same
functions: contract, drift, rates from labels, benchmark, attack, diagnosis, decision. The jobs do so through ledger,
window store and MLflow (a database file); the bare side keeps everything in memory. Warm: a small window goes first.
The fixed costs, which do not grow with the rows, are the difference of the two sides on a second small window.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.inprocess import ask, enter_home

MONITOR = "simulator"
START = datetime(2026, 3, 2, tzinfo=UTC)
SMALL = 2_000
SEED = 0


class Clock:
    """Sums wall and CPU seconds by name."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        done = work(*arguments, **named)
        self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - wall
        self.cpu[name] = self.cpu.get(name, 0.0) + time.process_time() - cpu
        return done


def fill(loop: Any, day: int, size: int) -> None:
    """Write one day of ordinary traffic into the sample store, scored and labelled."""
    from samples.replay import LabelPolicy, replay
    from samples.simulator.traffic import TrafficSimulator

    monitor = loop.monitor(MONITOR)
    current, champion = loop.champion(MONITOR)
    simulator = TrafficSimulator(SEED)

    def score(rows: Any) -> dict[str, Any]:
        scores = champion.score(rows)
        return {"score": scores.score, "verdict": scores.verdict.astype(int)}

    frame = simulator.day(day + 30, volume=size, prevalence=0.05, families=simulator.families(0), start=START)
    replay(
        frame, features=loop.space(monitor).names, start=START + timedelta(days=day), hours=24, score=score,
        model_version=current.version, model_digest=current.digest, store=loop.labels(monitor).create(),
        seed=SEED + day, labels=LabelPolicy(audit_share=0.1), prefix=f"d{day}",
    )  # fmt: skip


def with_everything(day: int) -> tuple[Clock, Any]:
    """Return times and verdict of the jobs of the re-evaluation, in the order of its tasks."""
    from flows.jobs import window as job

    clock, as_of = Clock(), (START + timedelta(days=day + 2)).isoformat()
    window = clock("pull and contract", job.pull, MONITOR, as_of, "", seed=SEED, reason="benchmark", dry_run=False)
    found = clock("drift", job.drift, window)
    found = clock("evaluate", job.evaluate, window, found)
    found = clock("attack", job.attack, window, found)
    return clock, clock("decide", job.decide, window, found).verdict


@dataclass
class Bare:
    """The same functions with everything else in memory, opened once."""

    loop: Any

    def __post_init__(self) -> None:
        from domain.reports import EvaluationReport
        from flows.steps.baseline import BenchmarkRows
        from flows.steps.windows import BASELINE
        from registry.reports import latest_report
        from samples.contract.contract import build_contract

        self.monitor = self.loop.monitor(MONITOR)
        self.space = self.loop.space(self.monitor)
        self.head, self.champion = self.loop.champion(MONITOR)
        data = BenchmarkRows(self.loop, self.monitor)
        self.rows, self.train, self.reference = data.measured_on(), data.rows("train"), data.frame("reference")
        self.contract = build_contract(self.space)
        self.baseline = latest_report(self.loop.ledger, MONITOR, EvaluationReport, kind=BASELINE, version=1)
        self.store = self.loop.labels(self.monitor).create()

    def __call__(self, day: int) -> tuple[Clock, Any]:
        """Return times and verdict."""
        clock = Clock()
        frame, quarantined = clock("pull and contract", self.validated, day)
        drift = clock("drift", self.drift, frame)
        as_of = START + timedelta(days=day + 2)
        labelled, _ = clock("evaluate", self.measured, frame, quarantined, as_of)
        robustness = clock("attack", self.attacked, labelled)
        return clock, clock("decide", self.decided, day, labelled, drift, robustness).verdict.value

    def validated(self, day: int) -> tuple[Any, int]:
        import pandas as pd

        from samples.contract.contract import validate
        from samples.sources import Cursor, StoreSource

        good, bad = [], 0
        begin, end = START + timedelta(days=day), START + timedelta(days=day + 1, minutes=1)
        for chunk in StoreSource(self.store).read(Cursor(begin), end, 50_000):
            checked = validate(chunk, self.contract)
            good.append(checked.good)
            bad += len(checked.bad)
        return pd.concat(good, ignore_index=True), bad

    def drift(self, frame: Any) -> Any:
        from evaluation.drift import measure_drift

        limit = self.monitor.policy.drift_share_limit
        return measure_drift(self.reference, frame, space=self.space, share_limit=limit, seed=SEED)

    def measured(self, frame: Any, quarantined: int, as_of: datetime) -> tuple[Any, Any]:
        from evaluation.metrics.clean import evaluate_clean
        from evaluation.production import evaluate_production
        from samples.labels import resolve

        hours = self.monitor.policy.label_horizon_hours
        known = self.store.read_labels(frame["sample_id"].astype(str).tolist(), as_of=as_of)
        labelled = evaluate_production(
            frame, resolve(known, as_of, timedelta(hours=hours)), quarantined=quarantined, horizon_hours=hours,
            as_of=as_of, space=self.space, seed=SEED,
        )  # fmt: skip
        clean = evaluate_clean(
            self.champion, self.rows.clean, budget=self.monitor.false_positive_budget,
            prevalence=self.monitor.prevalence, daily_volume=self.monitor.daily_volume, seed=SEED,
        )  # fmt: skip
        return labelled, clean

    def attacked(self, labelled: Any) -> Any:
        from evaluation.robustness import evaluate_robustness
        from flows.steps.measuring import sample_malicious

        rows = sample_malicious(labelled.labelled, self.monitor.robust_rows, SEED)
        return evaluate_robustness(
            self.champion, rows, threat=self.monitor.threat, suite=self.monitor.suite, benign=self.rows.benign,
            seed=SEED,
        ).report  # fmt: skip

    def decided(self, day: int, labelled: Any, drift: Any, robustness: Any) -> Any:
        from evaluation.decision.decide import decide
        from evaluation.decision.diagnosis import diagnose
        from evaluation.decision.inputs import DecisionInputs

        missed = labelled.labelled.take((labelled.labelled.y == 1) & ~labelled.verdict)
        inputs = DecisionInputs(
            monitor=MONITOR, version=self.head.version, window_start=START + timedelta(days=day),
            window_end=START + timedelta(days=day + 1), budget=self.monitor.false_positive_budget,
            production=labelled.report, baseline_clean=self.baseline.clean, robustness=robustness,
            baseline_robustness=robustness, drift=drift.report,
            diagnosis=diagnose(missed, self.train, self.space, self.monitor.threat.level), mature=labelled.mature,
        )  # fmt: skip
        return decide(inputs, self.monitor.policy)


def run(rows: int, repeats: int, home: Path) -> dict[str, Any]:
    """Return the seconds of both sides on every window."""
    enter_home(home)
    import torch

    from flows.wiring import open_loop

    torch.set_num_threads(1)
    ask("bootstrap", {"monitor": MONITOR, "seed": SEED}, "bootstrap")
    loop = open_loop()
    sizes = [SMALL, SMALL] + [rows] * repeats
    bare, results = Bare(loop), []
    for day, size in enumerate(sizes):
        fill(loop, day, size)  # only now: a pull takes everything that has arrived
        full, verdict = with_everything(day)
        plain, again = bare(day)
        if verdict != again:
            print(f"day {day}: the jobs said {verdict}, the bare functions {again} (history counts for the jobs)")
        results.append({"rows": size, "full": vars(full), "bare": vars(plain)})
        print(json.dumps(results[-1]), flush=True)
    return {"windows": results}


def report(windows: list[dict[str, Any]], repeats: int) -> None:
    """Print medians by stage, ratio, and fixed costs."""
    large, small = windows[-repeats:], windows[1]
    for kind in ("wall", "cpu"):
        print(f"\n{kind} seconds, median of {repeats} windows of {large[0]['rows']:,} rows")
        print(f"  {'':20} {'jobs':>8} {'bare':>8} {'ratio':>7}")
        for stage in [*large[0]["full"][kind], "all"]:
            full, plain = (statistics.median(_seconds(one[side][kind], stage) for one in large)
                           for side in ("full", "bare"))  # fmt: skip
            print(f"  {stage:20} {full:8.2f} {plain:8.2f} {full / plain:7.2f}")
        fixed = sum(small["full"][kind].values()) - sum(small["bare"][kind].values())
        print(f"  fixed costs, warm (both sides on {small['rows']:,} rows): {fixed:.2f} s")
        print(f"  ratio without them: {(_all(large, 'full', kind) - fixed) / _all(large, 'bare', kind):.2f}")


def _seconds(stages: dict[str, float], stage: str) -> float:
    return sum(stages.values()) if stage == "all" else stages[stage]


def _all(windows: list[dict[str, Any]], side: str, kind: str) -> float:
    return statistics.median(sum(one[side][kind].values()) for one in windows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="revet-reevaluation-") as folder:
        report(run(arguments.rows, arguments.repeats, Path(folder))["windows"], arguments.repeats)


if __name__ == "__main__":
    main()
