"""Processes that promote, for the race and the crash tests; started with spawn or as a module."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from domain.errors import PromotionConflict
from registry.ledger import Ledger
from registry.models import ModelRegistry
from registry.promotion import head, promote


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


class FiledAliases:
    """An alias registry in a JSON file: survives the death of its process and starts at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def champion_alias(self, monitor: str) -> int | None:
        return self._read().get(f"{monitor}/champion")

    def set_alias(self, monitor: str, alias: str, version: int) -> None:
        self.path.write_text(json.dumps({**self._read(), f"{monitor}/{alias}": version}))

    def set_tags(self, monitor: str, version: int, tags: dict[str, str]) -> None:
        pass

    def _read(self) -> dict[str, int]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}


def main(ledger_url: str, aliases: str, version: str, digest: str) -> None:
    """Promote one version; `REVET_FAILPOINT` may end the process on the way."""
    ledger = Ledger(ledger_url)
    promote(
        ledger, FiledAliases(Path(aliases)), monitor="m", version=int(version), digest=digest, kind="promotion",
        key=f"to-{version}", expected_epoch=0, evidence_digest="e" * 64,
    )  # fmt: skip
    ledger.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
