from __future__ import annotations

import pytest

from domain.decisions import Criterion, GateDecision, Outcome
from domain.monitor import PolicySettings
from domain.reports import Estimate, EvaluationReport, SanityFlag
from evaluation.decision.decide import decide
from evaluation.figures import gate_figure, robustness_curve, roc_figure, score_histogram, survivors_figure
from evaluation.rendering import criteria_table, estimate_text, gate_markdown, report_markdown, verdict_markdown
from tests.evaluation.toys import clean, inputs, production, robust, toy_detector, toy_rows

PNG = b"\x89PNG"


def gate(*, passed: bool = False) -> GateDecision:
    criteria = (
        Criterion(
            name="slice/family/a|b/detection_rate", value=0.1, limit=0.05, low=0.02, high=0.2, n=40,
            outcome=Outcome.FAIL, reason="worse <b>by far</b>",
        ),
        Criterion(name="clean/detection_rate", value=None, limit=0.0, outcome=Outcome.ABSTAIN, reason="none"),
    )  # fmt: skip
    return GateDecision(
        monitor="toy", champion_version=3, challenger_version=4, passed=passed, criteria=criteria,
        reasons=("too weak",), evidence_digest="e" * 64,
    )  # fmt: skip


def test_a_verdict_page_starts_with_the_answer_and_links_on():
    decision = decide(inputs(production=production(detected=100)), PolicySettings())
    page = verdict_markdown(decision, {"Run": "http://127.0.0.1/run"})
    assert page.startswith("# ✗ Degraded: a new family of threats")
    assert "[Run](http://127.0.0.1/run)" in page
    assert "adversarial retraining (now)" in page


def test_a_gate_page_names_both_versions_and_every_criterion():
    page = gate_markdown(gate())
    assert "version 3 stays" in page
    assert "clean/detection_rate" in page
    assert gate_markdown(gate(passed=True)).startswith("# ✓ Passed: version 4")


def test_names_from_outside_cannot_break_the_table():
    rows = [line for line in gate_markdown(gate()).splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
    assert "<b>" not in "".join(rows)


def test_a_report_page_says_when_it_is_unreliable():
    flag = SanityFlag(name="masking", raised=True, value=1.0, limit=0.1, meaning="gradients lie")
    report = EvaluationReport(
        monitor="toy", version=1, detector_digest="d" * 64, space_digest="b" * 64, benchmark_digest="f" * 64,
        clean=clean(), robustness=robust(reliable=False, flags=(flag,)),
    )  # fmt: skip
    page = report_markdown(report)
    assert "**unreliable**" in page
    assert "gradients lie" in page


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(value=None), "not measured"),
        (Estimate(value=0.932, low=0.91, high=0.951), "93.2 % (91.0 to 95.1)"),
        (Estimate(value=0.0012), "0.12 %"),
        (Estimate(value=0.5, weak=True), "50.0 % *weak*"),
    ],
)
def test_estimates_read_as_percent_with_interval(estimate, text):
    assert estimate_text(estimate) == text


def test_the_criteria_table_holds_text_in_every_cell():
    rows = criteria_table(decide(inputs(), PolicySettings()).criteria)
    assert rows[0]["criterion"] == "data/quarantined_share"
    assert all(isinstance(cell, str) and cell for row in rows for cell in row.values())


@pytest.mark.slow
def test_every_figure_is_a_png_that_does_not_change():
    rows = toy_rows()
    logit = toy_detector().score_raw(rows.raw).logit
    for draw in (
        lambda: score_histogram(logit, rows.y, 0.0),
        lambda: roc_figure(logit, rows.y, threshold=0.0, budget=0.01),
        lambda: robustness_curve({"champion": robust(), "challenger": robust(0.9)}),
        lambda: survivors_figure(robust()),
        lambda: gate_figure(gate()),
    ):
        first = draw()
        assert first.startswith(PNG)
        assert first == draw()
