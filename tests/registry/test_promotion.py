from __future__ import annotations

import threading
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from domain.decisions import GateDecision
from domain.errors import ArtifactMissing, ArtifactTampered, Frozen, LedgerError, PromotionConflict
from registry import audit
from registry.freezing import freeze, unfreeze
from registry.ledger import Ledger
from registry.ledger.tables import audit as audit_table
from registry.ledger.tables import model_version, outbox
from registry.promotion import Head, head, history, promote, reconcile, rollback
from registry.reports import put_gate_attempt
from registry.versions import record_version
from tests.registry.conftest import ListedAliases

EVIDENCE, POLICY = "e" * 64, "p" * 64


def digest(version: int) -> str:
    return f"{version:064x}"


def know(ledger: Ledger, *versions: int, monitor: str = "m") -> None:
    for version in versions:
        record_version(
            ledger, monitor, version=version, digest=digest(version), key=f"v{version}", model_id="m-1", run_id=""
        )


def move(ledger, aliases, version, epoch, *, key=None, monitor="m", kind="promotion", **more):
    return promote(
        ledger,
        aliases,
        monitor=monitor,
        version=version,
        digest=digest(version),
        expected_epoch=epoch,
        kind=kind,
        key=key or f"to-{version}-at-{epoch}",
        evidence_digest=EVIDENCE,
        policy_digest=POLICY,
        **more,
    )


def test_the_first_promotion_makes_the_head_and_the_alias(ledger, aliases):
    know(ledger, 1)
    made = move(ledger, aliases, 1, 0, kind="bootstrap")
    assert (made.state, made.epoch, made.from_version) == ("DONE", 1, None)
    assert head(ledger, "m") == Head(1, 1, digest(1))
    assert aliases.champion_alias("m") == 1
    assert aliases.tags["m", 1]["revet.epoch"] == "1"


def test_a_promotion_on_evidence_against_an_older_head_conflicts(ledger, aliases):
    know(ledger, 1, 2, 3)
    move(ledger, aliases, 1, 0)
    move(ledger, aliases, 2, 1)
    with pytest.raises(PromotionConflict, match="epoch 2"):
        move(ledger, aliases, 3, 1)
    with pytest.raises(PromotionConflict):
        move(ledger, aliases, 3, 0)
    assert head(ledger, "m") == Head(2, 2, digest(2))
    assert aliases.aliases["m", "previous"] == 1


def test_an_epoch_that_never_was_conflicts_before_the_first_promotion(ledger, aliases):
    know(ledger, 1)
    with pytest.raises(PromotionConflict):
        move(ledger, aliases, 1, 3)
    assert (head(ledger, "m"), aliases.champion_alias("m")) == (None, None)


def test_the_same_key_promotes_once_and_never_another_version(ledger, aliases):
    know(ledger, 1, 2)
    first = move(ledger, aliases, 1, 0, key="k")
    assert move(ledger, aliases, 1, 0, key="k") == first
    with pytest.raises(PromotionConflict, match="new key"):
        move(ledger, aliases, 2, 1, key="k")
    assert len(history(ledger, "m")) == 1


def test_equal_keys_of_two_monitors_are_two_promotions(ledger, aliases):
    know(ledger, 1)
    know(ledger, 1, monitor="other")
    move(ledger, aliases, 1, 0, key="k")
    move(ledger, aliases, 1, 0, key="k", monitor="other")
    assert head(ledger, "other") == Head(1, 1, digest(1))


def test_only_what_the_ledger_recorded_is_promoted(ledger, aliases):
    know(ledger, 1)
    with pytest.raises(ArtifactMissing, match="version 2"):
        move(ledger, aliases, 2, 0)
    with pytest.raises(ArtifactTampered, match="digest"):
        promote(
            ledger, aliases, monitor="m", version=1, digest="0" * 64, expected_epoch=0, kind="promotion", key="k",
            evidence_digest=EVIDENCE,
        )  # fmt: skip
    assert head(ledger, "m") is None


def test_a_freeze_stops_promotions_that_no_person_approved(ledger, aliases):
    know(ledger, 1, 2)
    freeze(ledger, reason="incident", by="ann")
    with pytest.raises(Frozen, match="incident"):
        move(ledger, aliases, 1, 0)
    assert move(ledger, aliases, 1, 0, approver="ann").state == "DONE"
    unfreeze(ledger, by="ann")
    freeze(ledger, scope="other", reason="x", by="ann")
    assert move(ledger, aliases, 2, 1).state == "DONE"


def test_a_promotion_stands_while_mlflow_is_down_and_reconcile_shows_it_later(ledger, aliases):
    know(ledger, 1, 2)
    move(ledger, aliases, 1, 0)
    aliases.down = True
    assert move(ledger, aliases, 2, 1).state == "DECIDED"
    aliases.down = False
    assert aliases.champion_alias("m") == 1
    done = reconcile(ledger, aliases, "m")
    assert (done.action, aliases.champion_alias("m")) == ("projected", 2)
    assert {promotion.state for promotion in history(ledger, "m")} == {"DONE"}
    assert reconcile(ledger, aliases, "m").action == "none"


def judge(ledger, version, *, passed, evidence=EVIDENCE):
    decision = GateDecision(
        monitor="m", champion_version=1, challenger_version=version, passed=passed, criteria=(), reasons=(),
        evidence_digest=evidence,
    )  # fmt: skip
    put_gate_attempt(ledger, decision, alpha_spent=0.0)


def test_a_retry_is_a_success_and_a_repetition_after_the_head_moved_on_a_conflict(ledger, aliases):
    know(ledger, 1, 2)
    move(ledger, aliases, 1, 0)
    first = move(ledger, aliases, 2, 1, key="k")
    assert move(ledger, aliases, 2, 1, key="k") == first
    rollback(ledger, aliases, monitor="m", expected_epoch=2, key="r", approver="ann")
    with pytest.raises(PromotionConflict, match="at epoch 2 already, but the head is version 1 at epoch 3"):
        move(ledger, aliases, 2, 1, key="k")
    assert (head(ledger, "m"), aliases.champion_alias("m")) == (Head(1, 3, digest(1)), 1)


def test_a_hand_moved_alias_of_a_version_that_never_passed_the_gate_is_set_back(ledger, aliases):
    know(ledger, 1, 2)
    move(ledger, aliases, 1, 0)
    for _ in range(2):
        aliases.set_alias("m", "champion", 2)
        done = reconcile(ledger, aliases, "m", "adopt")
        assert (done.action, done.head) == ("reverted", Head(1, 1, digest(1)))
        assert "neither passed the gate nor was champion" in done.reason
        judge(ledger, 2, passed=False)


def test_a_freeze_stops_that_a_hand_moved_alias_is_adopted(ledger, aliases):
    know(ledger, 1, 2)
    move(ledger, aliases, 1, 0)
    judge(ledger, 2, passed=True)
    freeze(ledger, reason="incident", by="ann")
    aliases.set_alias("m", "champion", 2)
    done = reconcile(ledger, aliases, "m", "adopt")
    assert (done.action, aliases.champion_alias("m")) == ("reverted", 1)
    assert "frozen by 'ann'" in done.reason


def test_an_earlier_champion_is_adopted_unless_it_is_quarantined(ledger, aliases):
    know(ledger, 1, 2)
    move(ledger, aliases, 1, 0)
    move(ledger, aliases, 2, 1)
    aliases.set_alias("m", "champion", 1)
    assert reconcile(ledger, aliases, "m", "adopt").head == Head(1, 3, digest(1))
    rollback(ledger, aliases, monitor="m", expected_epoch=3, key="r", approver="ann")
    aliases.set_alias("m", "champion", 1)
    done = reconcile(ledger, aliases, "m", "adopt")
    assert (done.action, done.head) == ("reverted", Head(2, 4, digest(2)))
    assert "quarantined" in done.reason


def test_a_hand_moved_alias_is_set_back_or_adopted_by_policy(ledger, aliases):
    know(ledger, 1, 2)
    judge(ledger, 2, passed=True)
    move(ledger, aliases, 1, 0)
    aliases.set_alias("m", "champion", 2)
    assert reconcile(ledger, aliases, "m").action == "reverted"
    assert aliases.champion_alias("m") == 1
    aliases.set_alias("m", "champion", 2)
    assert reconcile(ledger, aliases, "m", "adopt").action == "adopted"
    assert head(ledger, "m") == Head(2, 2, digest(2))
    assert history(ledger, "m")[0].kind == "external"


def test_a_version_that_the_ledger_does_not_know_is_never_adopted(ledger, aliases):
    know(ledger, 1)
    move(ledger, aliases, 1, 0)
    aliases.set_alias("m", "champion", 9)
    assert reconcile(ledger, aliases, "m", "adopt").action == "reverted"
    assert aliases.champion_alias("m") == 1


def test_reconcile_of_a_monitor_without_champion_does_nothing(ledger, aliases):
    assert reconcile(ledger, aliases, "m").action == "no-head"


def test_a_rollback_returns_to_the_last_good_champion_and_quarantines_the_bad_one(ledger, aliases):
    know(ledger, 1, 2, 3)
    for version in (1, 2, 3):
        move(ledger, aliases, version, version - 1)
    back = rollback(ledger, aliases, monitor="m", expected_epoch=3, key="r1", approver="ann")
    assert (back.to_version, back.epoch, back.kind) == (2, 4, "rollback")
    assert aliases.champion_alias("m") == 2
    with pytest.raises(ArtifactTampered, match="quarantined"):
        move(ledger, aliases, 3, 4)
    assert rollback(ledger, aliases, monitor="m", expected_epoch=3, key="r1").epoch == 4
    assert rollback(ledger, aliases, monitor="m", expected_epoch=4, key="r2").to_version == 1
    with pytest.raises(LedgerError, match="no other past champion"):
        rollback(ledger, aliases, monitor="m", expected_epoch=5, key="r3")


def test_a_rollback_of_nothing_says_so(ledger, aliases):
    with pytest.raises(LedgerError, match="no champion yet"):
        rollback(ledger, aliases, monitor="m", expected_epoch=0, key="r")


def test_each_promotion_leaves_a_message_and_an_audit_entry(ledger, aliases):
    know(ledger, 1, 2)
    move(ledger, aliases, 1, 0)
    move(ledger, aliases, 2, 1)
    with ledger.read() as connection:
        assert connection.execute(select(outbox.c.key)).scalars().all() == ["promotion:1", "promotion:2"]
    assert audit.verify(ledger) == 2


def test_a_changed_audit_entry_is_found(ledger, aliases):
    know(ledger, 1, 2)
    move(ledger, aliases, 1, 0)
    move(ledger, aliases, 2, 1)
    with ledger.begin() as connection:
        connection.execute(update(audit_table).where(audit_table.c.seq == 1).values(actor="mallory"))
    with pytest.raises(LedgerError, match="entry 1"):
        audit.verify(ledger)


def test_threads_that_promote_at_once_have_one_winner(ledger, aliases):
    versions = range(1, 6)
    know(ledger, *versions)
    won, lost, start = [], [], threading.Barrier(5)

    def race(version):
        start.wait()
        try:
            won.append(move(ledger, aliases, version, 0))
        except PromotionConflict as error:
            lost.append(error)

    threads = [threading.Thread(target=race, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 4)
    assert aliases.champion_alias("m") == head(ledger, "m").version == won[0].to_version


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5), st.booleans()), max_size=12))
@settings(max_examples=20, deadline=None)
def test_whatever_happens_epochs_have_no_gap_and_the_alias_ends_at_the_head(tmp_path_factory, attempts):
    ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}")
    ledger.upgrade()
    aliases = ListedAliases()
    know(ledger, 1, 2, 3, 4)
    for version, epoch, aliases.down in attempts:
        try:
            move(ledger, aliases, version, epoch)
        except PromotionConflict:
            assert (head(ledger, "m") or Head(0, 0, "")).epoch != epoch
    aliases.down = False
    reconcile(ledger, aliases, "m")
    moves = history(ledger, "m")[::-1]
    assert [made.epoch for made in moves] == list(range(1, len(moves) + 1))
    assert all(after.from_version == before.to_version for before, after in pairwise(moves))
    now = head(ledger, "m")
    assert aliases.champion_alias("m") == (now.version if now else None)
    ledger.close()


def test_a_version_is_recorded_once_and_never_changed(ledger):
    know(ledger, 1)
    know(ledger, 1)
    with pytest.raises(ArtifactTampered):
        record_version(ledger, "m", version=1, digest="0" * 64, key="v1", model_id="", run_id="")
    with pytest.raises(ArtifactTampered):
        record_version(ledger, "m", version=2, digest=digest(2), key="v1", model_id="", run_id="")
    with ledger.read() as connection:
        assert len(connection.execute(select(model_version)).all()) == 1
