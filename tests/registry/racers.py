"""Processes that promote, for the race and the crash tests; started with spawn or as a module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from domain.errors import PromotionConflict
from registry.ledger import Ledger
from registry.models import ModelRegistry
from registry.promotion import head, history, promote


def race(
    me: int,
    rounds: int,
    ledger_url: str,
    mlflow_uri: str,
    cache: str,
    versions: list[tuple[int, str]],
    gate: Any,
    out: Any,
) -> None:
    """Promote the own version in every round, at the same moment as the other racer; report what came of it."""
    ledger, models = Ledger(ledger_url), ModelRegistry(mlflow_uri, Path(cache))
    models.champion_alias("m")  # opens the client before the race
    version, digest = versions[me]
    for index in range(rounds):
        gate.wait()
        now = head(ledger, "m")
        epoch = now.epoch if now else 0
        gate.wait()
        try:
            promote(
                ledger, models, monitor="m", version=version, digest=digest, expected_epoch=epoch, kind="promotion",
                key=f"{me}-{index}", evidence_digest="e" * 64,
            )  # fmt: skip
            outcome = "won"
        except PromotionConflict:
            outcome = "lost"
        gate.wait()
        now = head(ledger, "m")
        out.put((index, me, outcome, now.epoch if now else 0, now.version if now else 0, models.champion_alias("m")))
    ledger.close()


def main(ledger_url: str, mlflow_uri: str, cache: str, version: str, digest: str) -> None:
    """Promote one version; `REVET_FAILPOINT` may end the process on the way."""
    ledger, models = Ledger(ledger_url), ModelRegistry(mlflow_uri, Path(cache))
    now = head(ledger, "m")
    done = {promotion.key for promotion in history(ledger, "m")}
    promote(
        ledger, models, monitor="m", version=int(version), digest=digest, kind="promotion", key=f"to-{version}",
        expected_epoch=now.epoch - (f"to-{version}" in done) if now else 0, evidence_digest="e" * 64,
    )  # fmt: skip
    ledger.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
