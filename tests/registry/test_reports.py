from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from sqlalchemy import update

from domain.decisions import Decision, DegradationKind, GateDecision, Remedy, Verdict
from domain.errors import CorruptFile, Frozen, LedgerError, UnknownMonitor
from domain.monitor import parse_monitor
from domain.reports import ColumnDrift, DriftReport
from registry import audit, freezing, queues, reports, versions
from registry.ledger import Ledger
from registry.ledger.tables import report as report_table

DAY = datetime(2026, 3, 1, tzinfo=UTC)
MONITOR = "version: 1\nname: web\nfeature_space: nsl-kdd\nbenchmark: {dataset: nsl-kdd}\n"


def drift(share: float) -> DriftReport:
    column = ColumnDrift(column="a", method="ks", value=share, limit=0.1, drifted=share > 0.1)
    return DriftReport(
        method="ks", reference_rows=10, current_rows=10, columns=(column,), drifted_share=share, share_limit=0.3,
        drifted=False,
    )  # fmt: skip


def decided(day: int, *, version: int = 1, verdict: Verdict = Verdict.HEALTHY, bad: bool = False) -> Decision:
    start = DAY + timedelta(days=day)
    return Decision(
        monitor="m", version=version, window_start=start, window_end=start + timedelta(days=1), verdict=verdict,
        kind=DegradationKind.NONE, remedy=Remedy.NOTHING, action=False, bad_window=bad, bad_windows=int(bad),
        of_windows=3, criteria=(), reasons=("x",),
    )  # fmt: skip


def test_a_report_comes_back_by_digest_and_is_kept_once(ledger):
    digest = reports.put_report(ledger, "m", drift(0.5), kind="drift", window_start=DAY, version=1)
    assert reports.put_report(ledger, "m", drift(0.5), kind="drift", window_start=DAY, version=1) == digest
    assert reports.get_report(ledger, "m", digest, DriftReport) == drift(0.5)
    with pytest.raises(LedgerError, match="'other'"):
        reports.get_report(ledger, "other", digest, DriftReport)


def test_equal_reports_on_two_windows_are_found_for_both(ledger):
    for day in range(2):
        start = DAY + timedelta(days=day)
        reports.put_report(ledger, "m", drift(0.5), kind="drift", window_start=start)
        assert reports.latest_report(ledger, "m", DriftReport, kind="drift", window_start=start) == drift(0.5)


def test_the_latest_report_is_the_newest_that_fits(ledger):
    assert reports.latest_report(ledger, "m", DriftReport, kind="drift") is None
    for version, share in ((1, 0.1), (2, 0.2)):
        reports.put_report(ledger, "m", drift(share), kind="drift", window_start=DAY, version=version)
    assert reports.latest_report(ledger, "m", DriftReport, kind="drift") == drift(0.2)
    assert reports.latest_report(ledger, "m", DriftReport, kind="drift", version=1) == drift(0.1)
    assert reports.latest_report(ledger, "m", DriftReport, kind="other") is None


def test_a_report_that_was_changed_in_the_database_is_refused(ledger):
    digest = reports.put_report(ledger, "m", drift(0.5), kind="drift")
    with ledger.begin() as connection:
        connection.execute(update(report_table).values(content=drift(0.0).model_dump(mode="json")))
    with pytest.raises(CorruptFile, match="was changed"):
        reports.get_report(ledger, "m", digest, DriftReport)


def test_decisions_come_newest_window_first_in_their_latest_revision(ledger):
    for day in range(3):
        reports.put_decision(ledger, decided(day))
    reports.put_decision(ledger, decided(1, verdict=Verdict.DEGRADED, bad=True), revision=1)
    reports.put_decision(ledger, decided(9), dry_run=True)
    found = reports.decisions(ledger, "m")
    assert [(each.decision.window_start.day, each.revision) for each in found] == [(3, 0), (2, 1), (1, 0)]
    assert found[1].decision.bad_window
    assert len(reports.decisions(ledger, "m", limit=2)) == 2
    assert len(reports.decisions(ledger, "m", before=DAY + timedelta(days=1))) == 1
    assert reports.decisions(ledger, "m", version=2) == []


def test_a_repeated_decision_replaces_the_first(ledger):
    reports.put_decision(ledger, decided(0), flow_run_id="a")
    reports.put_decision(ledger, decided(0, verdict=Verdict.ABSTAIN), flow_run_id="b")
    (only,) = reports.decisions(ledger, "m")
    assert (only.decision.verdict, only.flow_run_id) == (Verdict.ABSTAIN, "b")


def test_gate_attempts_are_kept_once_and_their_alpha_is_summed(ledger):
    gate = GateDecision(
        monitor="m", champion_version=1, challenger_version=2, passed=False, criteria=(), reasons=("no",),
        evidence_digest="e" * 64,
    )  # fmt: skip
    for _ in range(2):
        reports.put_gate_attempt(ledger, gate, alpha_spent=0.05)
    reports.put_gate_attempt(ledger, gate.model_copy(update={"evidence_digest": "f" * 64}), alpha_spent=0.01)
    assert reports.alpha_spent(ledger, "m", DAY - timedelta(days=9999)) == pytest.approx(0.06)
    assert reports.alpha_spent(ledger, "m", datetime.now(UTC) + timedelta(days=1)) == 0.0
    assert reports.gate_attempts(ledger, "m", challenger_version=2)[-1].decision == gate
    assert audit.verify(ledger) == 2


def test_the_newest_benchmark_of_a_kind_is_found(ledger_url):
    ticks = count()
    ledger = Ledger(ledger_url, clock=lambda: DAY + timedelta(seconds=next(ticks)))
    ledger.upgrade()
    for digest in ("a" * 64, "b" * 64, "a" * 64):
        reports.put_benchmark(ledger, "m", digest=digest, kind="clean", uri="content:x", rows=5)
    found = reports.get_benchmark(ledger, "m", kind="clean")
    assert found is not None
    assert (found.digest, found.rows) == ("b" * 64, 5)
    assert reports.get_benchmark(ledger, "m", kind="golden") is None
    ledger.close()


def test_a_trigger_of_one_key_is_written_once_a_monitor(ledger):
    first = queues.write_trigger(ledger, "m", kind="harden", idempotency_key="k", payload={"window": 1})
    assert queues.write_trigger(ledger, "m", kind="harden", idempotency_key="k") == first
    queues.write_trigger(ledger, "other", kind="harden", idempotency_key="k")
    assert len(queues.pending_triggers(ledger)) == 2
    second = queues.write_trigger(ledger, "m", kind="harden", idempotency_key="k2")
    assert second.id != first.id
    queues.mark_trigger(ledger, second.id, state="FAILED")
    queues.mark_trigger(ledger, first.id, state="DISPATCHED", flow_run_id="r")
    queues.mark_trigger(ledger, first.id, state="DONE")
    assert queues.pending_triggers(ledger, "m") == []
    assert queues.write_trigger(ledger, "m", kind="harden", idempotency_key="k").flow_run_id == "r"


def test_a_message_waits_until_it_is_delivered(ledger):
    with ledger.begin() as connection:
        for _ in range(2):
            queues.post(connection, "m", topic="verdict", key="k", payload={"a": 1}, at=DAY)
    (message,) = queues.unsent(ledger, "m")
    queues.mark_sent(ledger, message.id, delivered=False)
    assert queues.unsent(ledger)[0].attempts == 1
    queues.mark_sent(ledger, message.id, delivered=True)
    assert queues.unsent(ledger) == []


def test_a_step_is_updated_in_place_and_a_cancelled_run_leaves_it_aborted(ledger):
    queues.put_step(ledger, "m", "run", "train", state="RUNNING", flow_run_id="f", mlflow_run_id="r")
    assert queues.abort_steps(ledger, flow_run_id="f") == 1
    found = queues.get_step(ledger, "m", "run", "train")
    assert (found.state, found.mlflow_run_id) == ("ABORTED", "r")
    queues.put_step(ledger, "m", "run", "train", state="DONE", output_digest="d", detail={"rows": 3})
    assert queues.get_step(ledger, "m", "run", "train").detail == {"rows": 3}
    assert queues.get_step(ledger, "m", "run", "other") is None
    assert queues.abort_steps(ledger, flow_run_id="f") == 0


def test_a_freeze_of_one_monitor_or_of_all_stops_what_asks(ledger):
    freezing.require_unfrozen(ledger, "m")
    freezing.freeze(ledger, scope="m", reason="a", by="ann")
    freezing.freeze(ledger, scope="m", reason="b", by="bob")
    with pytest.raises(Frozen, match=r"'bob'.*: b.*revet freeze m --off"):
        freezing.require_unfrozen(ledger, "m")
    freezing.require_unfrozen(ledger, "other")
    freezing.freeze(ledger, reason="all", by="ann")
    with pytest.raises(Frozen):
        freezing.require_unfrozen(ledger, "other")
    assert [each.scope for each in freezing.freezes(ledger)] == ["*", "m"]
    assert freezing.unfreeze(ledger, by="ann")
    assert not freezing.unfreeze(ledger, by="ann")
    freezing.require_unfrozen(ledger, "other")
    assert audit.verify(ledger) == 4


def test_a_monitor_is_recorded_and_a_changed_file_replaces_it(ledger):
    with pytest.raises(UnknownMonitor, match="web"):
        versions.get_monitor(ledger, "web")
    first = parse_monitor(MONITOR, "x")
    versions.put_monitor(ledger, first)
    versions.put_monitor(ledger, first)
    assert audit.verify(ledger) == 1
    second = parse_monitor(MONITOR + "seed: 7\n", "x")
    versions.put_monitor(ledger, second)
    assert versions.get_monitor(ledger, "web") == second
    assert versions.list_monitors(ledger) == ["web"]


def test_the_anchor_is_never_re_based(ledger):
    assert versions.get_anchor(ledger, "m") is None
    versions.set_anchor(ledger, "m", version=1, digest="a" * 64, reference_digest="r")
    again = versions.set_anchor(ledger, "m", version=2, digest="b" * 64, reference_digest="s")
    assert (again.version, again.digest) == (1, "a" * 64)


def test_an_approval_counts_for_its_evidence_only_and_a_refusal_outweighs_it(ledger):
    ask = {"version": 2, "evidence_digest": "e" * 64}
    assert versions.approver_of(ledger, "m", **ask) == ""
    versions.approve(ledger, "m", **ask, approver="ann", granted=True)
    assert versions.approver_of(ledger, "m", **ask) == "ann"
    assert versions.approver_of(ledger, "m", version=2, evidence_digest="f" * 64) == ""
    versions.approve(ledger, "m", **ask, approver="bob", granted=False)
    assert versions.approver_of(ledger, "m", **ask) == ""
    versions.approve(ledger, "m", **ask, approver="bob", granted=True)
    assert versions.approver_of(ledger, "m", **ask) == "ann"
