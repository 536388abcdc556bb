"""Two processes promote at once, with a real MLflow database; and processes die on the way, without MLflow."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry.ledger import Ledger
from registry.models import ModelRegistry
from registry.promotion import head, history, reconcile
from registry.versions import record_version
from tests.registry.conftest import MLFLOW_WARNINGS
from tests.registry.racers import FiledAliases, race

pytestmark = [pytest.mark.slow, MLFLOW_WARNINGS]
ROUNDS = 50
ROOT = Path(__file__).parents[2]


def registered(ledger: Ledger, models: ModelRegistry, files: dict[str, bytes], count: int) -> list[tuple[int, str]]:
    made = []
    for index in range(count):
        one = models.register("m", files, key=f"k{index}")
        record_version(
            ledger, "m", version=one.version, digest=one.digest, key=f"k{index}", model_id=one.model_id, run_id=""
        )
        made.append((one.version, one.digest))
    return made


def test_two_processes_that_promote_at_once_have_one_winner_each_time(
    ledger, ledger_url, mlflow_uri, tmp_path, detector_files
):
    models = ModelRegistry(mlflow_uri, tmp_path / "cache")
    versions = registered(ledger, models, detector_files, 2)
    context = multiprocessing.get_context("spawn")
    gate, out = context.Barrier(2, timeout=120), context.Queue()
    shared = (ROUNDS, ledger_url, mlflow_uri, str(tmp_path / "cache"), versions, gate, out)
    racers = [context.Process(target=race, args=(me, *shared)) for me in range(2)]
    for racer in racers:
        racer.start()
    try:
        results = [out.get(timeout=180) for _ in range(2 * ROUNDS)]
    finally:
        for racer in racers:
            racer.join(60)
            if racer.is_alive():
                racer.kill()
    for index in range(ROUNDS):
        mine = [result for result in results if result[0] == index]
        assert sorted(result[2] for result in mine) == ["lost", "won"], index
        winner = next(versions[result[1]][0] for result in mine if result[2] == "won")
        # both racers look after the race: the ledger moved by one, and MLflow's alias shows the winner
        assert {(result[3], result[4], result[5]) for result in mine} == {(index + 1, winner, winner)}, index
    assert [promotion.epoch for promotion in history(ledger, "m")] == list(range(ROUNDS, 0, -1))


@pytest.mark.parametrize(
    "failpoint",
    [
        "promotion.before_decide",
        "promotion.before_commit",
        "promotion.after_decide",
        "promotion.before_alias",
        "promotion.after_alias",
    ],
)
def test_a_promotion_that_died_on_the_way_is_completed_by_a_second_try(failpoint, ledger, ledger_url, tmp_path):
    record_version(ledger, "m", version=1, digest="a" * 64, key="k", model_id="", run_id="")
    aliases = FiledAliases(tmp_path / "aliases.json")
    command = [sys.executable, "-m", "tests.registry.racers", ledger_url, str(aliases.path), "1", "a" * 64]
    environ = {**os.environ, "REVET_FAILPOINT": failpoint}
    assert subprocess.run(command, cwd=ROOT, env=environ, check=False, timeout=120).returncode == 137
    assert (head(ledger, "m") is None) == (failpoint in {"promotion.before_decide", "promotion.before_commit"})

    if head(ledger, "m"):
        reconcile(ledger, aliases, "m")
        assert aliases.champion_alias("m") == 1
    environ.pop("REVET_FAILPOINT")
    assert subprocess.run(command, cwd=ROOT, env=environ, check=False, timeout=120).returncode == 0
    assert aliases.champion_alias("m") == 1
    assert [(promotion.epoch, promotion.state) for promotion in history(ledger, "m")] == [(1, "DONE")]
