"""The jobs of promotion, without servers: a ledger, aliases in a dictionary, and Prefect's calls replaced."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from domain.decisions import GateDecision
from domain.errors import ConfigError, LedgerError, PromotionConflict
from domain.monitor import BenchmarkSettings, Monitor
from domain.settings import load_settings
from flows.jobs import promoting
from flows.wiring import Loop
from registry import promotion
from registry.heads import head, history
from registry.ledger import Ledger
from registry.queues import pending_triggers, write_trigger
from registry.reports import put_gate_attempt
from registry.versions import put_monitor, record_version
from tests.registry.conftest import ListedAliases

NAME, EVIDENCE = "simulator", "e" * 64


class Aliases(ListedAliases):
    """Aliases of which one name cannot be read: MLflow raises an error of its own."""

    broken = frozenset()

    def champion_alias(self, monitor):
        if monitor in self.broken:
            raise RuntimeError("INTERNAL_ERROR: MLflow stumbled")
        return super().champion_alias(monitor)

    def alias(self, monitor, alias):
        raise RuntimeError("INTERNAL_ERROR: MLflow stumbled")


@pytest.fixture
def run(monkeypatch):
    """The flow run that the jobs believe to be part of."""
    now = SimpleNamespace(id="run-1")
    monkeypatch.setattr(promoting, "flow_run_id", lambda: now.id)
    return now


@pytest.fixture
def loop(tmp_path, monkeypatch, run):
    """Three versions of one monitor: 1 was champion, 2 is, 3 passed the gate against it."""
    monkeypatch.chdir(tmp_path)
    loop = Loop(load_settings(home=tmp_path / "home"))
    loop.__dict__["models"] = Aliases()
    monkeypatch.setattr(promoting, "opened", lambda: loop)
    monkeypatch.setattr(promoting, "markdown", lambda *_arguments: None)
    for version in (1, 2, 3):
        learn(loop.ledger, NAME, version)
    for version in (1, 2):
        crown(loop, NAME, version, version - 1)
    decision = GateDecision(
        monitor=NAME, champion_version=2, challenger_version=3, passed=True, criteria=(), reasons=(),
        evidence_digest=EVIDENCE,
    )  # fmt: skip
    put_gate_attempt(loop.ledger, decision, alpha_spent=0.0)
    yield loop
    loop.ledger.close()


def learn(ledger: Ledger, monitor: str, version: int) -> None:
    record_version(
        ledger, monitor, version=version, digest=f"{version:064x}", key=f"v{version}", model_id="", run_id=""
    )


def crown(loop: Loop, monitor: str, version: int, epoch: int) -> None:
    promotion.promote(
        loop.ledger, loop.models, monitor=monitor, version=version, digest=f"{version:064x}", expected_epoch=epoch,
        kind="promotion", key=f"{monitor}-{epoch}", evidence_digest=EVIDENCE,
    )  # fmt: skip


def back(version: int = 0) -> dict:
    return promoting.rollback(NAME, version, "by hand", "ann")


def test_a_rollback_that_is_tried_again_in_its_flow_run_moves_the_head_once(loop, run):
    crown(loop, NAME, 3, 2)
    first = back()
    assert back() == first
    assert (first["version"], first["head"], first["head_epoch"], first["promoted"]) == (2, 2, 4, True)
    run.id = "run-2"
    assert back()["head"] == 1


def test_a_rollback_whose_page_cannot_be_shown_has_still_happened(loop, monkeypatch, caplog):
    def refuse(*_arguments):
        raise RuntimeError("no artifact today")

    monkeypatch.setattr(promoting, "markdown", refuse)
    assert back()["head"] == 1
    assert "no artifact today" in caplog.text


def test_without_a_flow_run_every_rollback_is_one_of_its_own(loop, run):
    run.id = ""
    crown(loop, NAME, 3, 2)
    assert [back()["head"], back()["head"]] == [2, 1]


def test_a_promotion_is_a_success_again_as_long_as_its_version_reigns(loop):
    first = promoting.promote(NAME, 0, -1, "")
    assert (first["version"], first["head"], first["promoted"]) == (3, 3, True)
    assert promoting.promote(NAME, 0, -1, "") == first
    assert promoting.promote(NAME, 3, 2, "") == first
    assert len(history(loop.ledger, NAME)) == 3


@pytest.mark.parametrize("epoch", [-1, 2, 4])
def test_a_version_that_was_rolled_back_is_not_reported_as_promoted(loop, epoch):
    promoting.promote(NAME, 3, -1, "")
    back()
    with pytest.raises(PromotionConflict, match="the head is version 2 at epoch 4"):
        promoting.promote(NAME, 3, epoch, "")
    assert head(loop.ledger, NAME).version == 2


def test_a_monitor_that_fails_does_not_keep_the_others_from_being_reconciled(loop):
    dataset = BenchmarkSettings(dataset="simulator")
    for name in (NAME, "other"):
        put_monitor(loop.ledger, Monitor(version=1, name=name, feature_space="simulator", benchmark=dataset))
    learn(loop.ledger, "other", 1)
    crown(loop, "other", 1, 0)
    loop.models.aliases[NAME, "champion"] = 1
    loop.models.broken = {"other"}
    found = {one["monitor"]: one["action"] for one in promoting.reconcile_all("revert")}
    assert found == {"other": "failed", NAME: "reverted"}
    loop.models.broken = {"other", NAME}
    with pytest.raises(LedgerError, match=r"none of 2 monitors .*MLflow stumbled"):
        promoting.reconcile_all("revert")


def test_a_trigger_that_cannot_start_does_not_block_those_behind_it(loop, monkeypatch, caplog):
    for kind in ("gone", "slow", "harden"):
        write_trigger(loop.ledger, NAME, kind=kind, idempotency_key=kind)

    def start(trigger):
        if trigger.kind == "gone":
            raise LookupError("no such deployment")
        if trigger.kind == "slow":
            raise ConnectionError("Prefect does not answer")
        return f"run of {trigger.kind}"

    monkeypatch.setattr(promoting, "_start", start)
    monkeypatch.setattr(promoting, "_is_final", lambda error: isinstance(error, LookupError))
    assert [one["flow_run_id"] for one in promoting.dispatch()] == ["run of harden"]
    assert [one.kind for one in pending_triggers(loop.ledger)] == ["slow"]
    assert "(gone of simulator) is FAILED: no such deployment" in caplog.text
    assert promoting.dispatch() == []


@pytest.mark.slow
def test_only_what_prefect_refuses_for_good_is_final():
    import httpx
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

    def answered(status):
        request = httpx.Request("POST", "http://127.0.0.1/api")
        return PrefectHTTPStatusError("x", request=request, response=httpx.Response(status, request=request))

    assert promoting._is_final(ObjectNotFound(answered(404)))
    assert [status for status in (401, 409, 422, 429, 503) if promoting._is_final(answered(status))] == [409, 422]
    assert not promoting._is_final(httpx.ConnectError("refused"))


@pytest.mark.parametrize("name", ["../outside", "a/b", "", "Simulator", "simulator\n"])
def test_a_name_that_is_none_never_becomes_a_path(loop, name):
    with pytest.raises(ConfigError, match="a name must match"):
        loop.monitor(name)
