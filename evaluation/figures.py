"""Figures for reports, as PNG bytes: titles say what is seen, axes carry units."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.decisions import Criterion, GateDecision, Outcome
from domain.reports import Estimate, RobustnessReport

BENIGN, MALICIOUS, NEUTRAL, GOOD = "#4477aa", "#cc3311", "#777777", "#228833"
COLOURS = ("#4477aa", "#cc3311", "#228833", "#ccbb44", "#aa3377", "#66ccee")
OUTCOME_COLOURS = {Outcome.PASS: GOOD, Outcome.FAIL: MALICIOUS, Outcome.WARN: "#ee7733", Outcome.ABSTAIN: NEUTRAL}
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
}


def _figure(width: float = 7.0, height: float = 4.0) -> tuple[Any, Any]:
    # The object interface: no pyplot state, safe in threads, no window system.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
    return figure, axes


def _png(figure: Any) -> bytes:
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context(STYLE):
        # Without the software's version the same numbers give the same bytes.
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _title(axes: Any, text: str) -> None:
    axes.set_title(text, loc="left", weight="bold", size=11)


def _percent(axis: Any) -> None:
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=None))


def score_histogram(logit: NDArray[np.float64], y: NDArray[Any], threshold: float) -> bytes:
    """Return the distribution of logits `(n,)` by class with the operating point."""
    figure, axes = _figure()
    finite = logit[np.isfinite(logit)]
    low, high = np.quantile(finite, [0.001, 0.999]) if finite.size else (-1.0, 1.0)
    edges = np.linspace(min(low, threshold), max(high, threshold) + 1e-9, 61)
    clipped = np.clip(logit, edges[0], edges[-1])
    for label, name, colour in ((0, "benign", BENIGN), (1, "malicious", MALICIOUS)):
        rows = clipped[y == label]
        if rows.size:
            axes.hist(
                rows, bins=edges, weights=np.full(rows.size, 1 / rows.size), color=colour, alpha=0.55,
                label=f"{name} ({rows.size:,} rows)",
            )  # fmt: skip
    axes.axvline(threshold, color="black", linewidth=1.2, linestyle="--", label=f"threshold {threshold:.2f}")
    detected = float((logit[y == 1] >= threshold).mean()) if (y == 1).any() else float("nan")
    alarmed = float((logit[y == 0] >= threshold).mean()) if (y == 0).any() else float("nan")
    _title(axes, f"{detected:.1%} of malicious and {alarmed:.2%} of benign rows reach the threshold")
    axes.set_xlabel("malicious logit")
    axes.set_ylabel("share of the class per bin")
    _percent(axes.yaxis)
    axes.legend(frameon=False)
    return _png(figure)


def roc_figure(logit: NDArray[np.float64], y: NDArray[Any], *, threshold: float, budget: float) -> bytes:
    """Return the ROC curve on a logarithmic axis, where the false-positive budget lives."""
    figure, axes = _figure()
    benign, malicious = np.sort(logit[y == 0]), np.sort(logit[y == 1])
    cuts = np.unique(logit)[::-1]
    false = 1 - np.searchsorted(benign, cuts, side="left") / max(1, benign.size)
    true = 1 - np.searchsorted(malicious, cuts, side="left") / max(1, malicious.size)
    floor = 0.5 / max(1, benign.size)
    axes.plot(np.maximum(false, floor), true, color=BENIGN, linewidth=1.8, label="detector", drawstyle="steps-post")
    chance = np.geomspace(floor, 1, 100)
    axes.plot(chance, chance, color=NEUTRAL, linewidth=1, linestyle=":", label="chance")
    axes.axvline(budget, color="black", linewidth=1, linestyle="--", label=f"budget {budget:g}")
    here = float((benign >= threshold).mean()), float((malicious >= threshold).mean())
    axes.plot(max(here[0], floor), here[1], "o", color=MALICIOUS, markersize=8, label="operating point")
    axes.set_xscale("log")
    axes.set_xlim(floor, 1)
    axes.set_ylim(0, 1.02)
    _title(axes, f"Detects {here[1]:.1%} at a realised false-positive rate of {here[0]:.2%}")
    axes.set_xlabel("false-positive rate (logarithmic)")
    axes.set_ylabel("detection rate")
    _percent(axes.yaxis)
    axes.legend(frameon=False, loc="upper left")
    return _png(figure)


def robustness_curve(reports: Mapping[str, RobustnessReport]) -> bytes:
    """Return the robust detection rate over the attacker's budget, one line per named detector, with intervals."""
    figure, axes = _figure()
    for colour, (name, report) in zip(_cycle(len(reports)), reports.items(), strict=True):
        points = sorted(report.curve, key=lambda point: point.epsilon)
        points = [point for point in points if point.robust_detection_rate.value is not None]
        budgets = [point.epsilon for point in points]
        axes.plot(
            budgets, [point.robust_detection_rate.value for point in points], "o-", color=colour, linewidth=1.8,
            label=name if report.reliable else f"{name} (unreliable)",
        )  # fmt: skip
        low = [_or(point.robust_detection_rate.low, point.robust_detection_rate) for point in points]
        high = [_or(point.robust_detection_rate.high, point.robust_detection_rate) for point in points]
        axes.fill_between(budgets, low, high, color=colour, alpha=0.15, linewidth=0)
    first = next(iter(reports.values()), None)
    if first is not None:
        axes.axvline(first.epsilon, color=NEUTRAL, linestyle=":", linewidth=1.2, label="budget that decides")
        axes.set_xlabel(f"attacker's budget ({first.norm} in model space, {first.level} attacker)")
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("malicious rows still detected")
    _title(axes, "Detection under the strongest attack of the suite")
    _percent(axes.yaxis)
    axes.legend(frameon=False, loc="best")
    return _png(figure)


def survivors_figure(report: RobustnessReport) -> bytes:
    """Return how many malicious rows are still detected after each attack of the cascade."""
    names = ["no attack", *(attack.name for attack in report.attacks)]
    clean = report.clean_detection_rate.value or 0.0
    rates = [clean, *(attack.robust_detection_rate for attack in report.attacks)]
    figure, axes = _figure(height=1.4 + 0.42 * len(names))
    lost = [0.0, *(max(0.0, before - after) for before, after in itertools.pairwise(rates))]
    axes.barh(names, rates, color=BENIGN, height=0.62, label="still detected")
    axes.barh(names, lost, left=rates, color=MALICIOUS, alpha=0.45, height=0.62, label="lost to this attack")
    for position, rate in enumerate(rates):
        axes.text(rate + lost[position] + 0.01, position, f"{rate:.1%}", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1.12)
    axes.set_xlabel(f"share of {report.rows:,} malicious rows")
    _title(axes, f"{rates[-1]:.1%} survive suite {report.suite} at budget {report.epsilon:g}")
    _percent(axes.xaxis)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
    return _png(figure)


def gate_figure(decision: GateDecision) -> bytes:
    """Return each criterion's value and interval relative to its limit: what failed, and by how much."""
    shown = [one for one in decision.criteria if one.value is not None and one.limit is not None]
    figure, axes = _figure(width=8.0, height=1.5 + 0.4 * max(1, len(shown)))
    for position, one in enumerate(shown):
        _criterion_line(axes, position, one)
    axes.axvline(0, color="black", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(shown)), [one.name for one in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    verdict = "Passed" if decision.passed else "Refused"
    _title(axes, f"{verdict}: version {decision.challenger_version} against {decision.champion_version}")
    axes.set_xlabel("value minus limit (percentage points)")
    return _png(figure)


def _criterion_line(axes: Any, position: int, one: Criterion) -> None:
    value, limit = one.value or 0.0, one.limit or 0.0
    colour = OUTCOME_COLOURS[one.outcome]
    if one.low is not None and one.high is not None:
        axes.plot([100 * (one.low - limit), 100 * (one.high - limit)], [position] * 2, color=colour, linewidth=2.4)
    axes.plot(100 * (value - limit), position, "o", color=colour, markersize=7)
    axes.annotate(
        one.outcome.value, (1.01, position), xycoords=("axes fraction", "data"), color=colour, va="center", fontsize=9
    )


def _or(bound: float | None, estimate: Estimate) -> float:
    return bound if bound is not None else (estimate.value or 0.0)


def _cycle(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]
