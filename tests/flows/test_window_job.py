from datetime import UTC, datetime

import pytest

from domain.decisions import Decision
from domain.settings import load_settings
from flows.jobs.window import unless_frozen
from flows.wiring import Loop
from registry.freezing import freeze, unfreeze

DAY = datetime(2026, 1, 5, tzinfo=UTC)


def decided(*, action: bool) -> Decision:
    return Decision(
        monitor="watched", version=1, window_start=DAY, window_end=DAY.replace(day=6), verdict="degraded",
        kind="evasion", remedy="harden", action=action, bad_window=True, bad_windows=1, of_windows=3, criteria=(),
        reasons=("it is evaded",),
    )  # fmt: skip


@pytest.fixture
def loop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Loop(load_settings(home=tmp_path / "home"))


def test_a_freeze_leaves_the_verdict_and_stops_what_would_follow(loop):
    freeze(loop.ledger, reason="an incident", by="ann")
    held = unless_frozen(loop, decided(action=True))
    assert (held.verdict, held.action) == ("degraded", False)
    assert held.reasons == ("it is evaded", "Automation is frozen by ann: an incident")


def test_without_a_freeze_and_without_an_action_the_decision_stays_as_it_is(loop):
    freeze(loop.ledger, scope="other", reason="not ours", by="ann")
    assert unless_frozen(loop, decided(action=True)) == decided(action=True)
    freeze(loop.ledger, scope="watched", reason="ours", by="ann")
    assert unless_frozen(loop, decided(action=False)) == decided(action=False)
    unfreeze(loop.ledger, scope="watched", by="ann")
    assert unless_frozen(loop, decided(action=True)).action
