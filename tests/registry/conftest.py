"""Ledgers on both databases, and registries that stand in for MLflow or are it."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from domain.errors import ServiceUnavailable
from registry.ledger import Ledger

# MLflow 3.17 uses a loader strategy that SQLAlchemy 2.1 deprecates, and warns of its own type hints when imported.
MLFLOW_WARNINGS = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning",
    "ignore:.*Any type hint is inferred as AnyType:UserWarning",
)


class ListedAliases:
    """An alias registry in a dictionary; `down` makes it refuse to answer."""

    def __init__(self) -> None:
        self.aliases: dict[tuple[str, str], int] = {}
        self.tags: dict[tuple[str, int], dict[str, str]] = {}
        self.down = False

    def champion_alias(self, monitor: str) -> int | None:
        self._answer()
        return self.aliases.get((monitor, "champion"))

    def set_alias(self, monitor: str, alias: str, version: int) -> None:
        self._answer()
        self.aliases[monitor, alias] = version

    def set_tags(self, monitor: str, version: int, tags: dict[str, str]) -> None:
        self._answer()
        self.tags.setdefault((monitor, version), {}).update(tags)

    def _answer(self) -> None:
        if self.down:
            raise ServiceUnavailable("MLflow is down")


def fresh_postgres(url: str) -> str:
    """Return a URL that sees an empty schema of its own on the server of `url`; much quicker than a new database."""
    name = f"ledger_{uuid.uuid4().hex}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE ROLE "{name}" LOGIN'))
        connection.execute(text(f'CREATE SCHEMA "{name}" AUTHORIZATION "{name}"'))  # first in its owner's search path
    engine.dispose()
    return make_url(url).set(username=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return fresh_postgres(request.getfixturevalue("postgres_url"))


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    opened = Ledger(ledger_url)
    opened.upgrade()
    yield opened
    opened.close()


@pytest.fixture
def aliases() -> ListedAliases:
    return ListedAliases()


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, made once because that takes seconds."""
    from registry.client import open_client

    path = tmp_path_factory.mktemp("mlflow-template") / "mlflow.db"
    open_client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_uri(mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a fresh MLflow database of this test; no server."""
    path = tmp_path / "mlflow.db"
    shutil.copy(mlflow_template, path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def detector_files() -> dict[str, bytes]:
    """A small real detector with one real, one integer and one categorical feature."""
    import torch

    from domain.features import load_feature_space
    from evaluation.detectors.detector import Detector
    from evaluation.detectors.portable import Encoding, build_network

    space = load_feature_space("nsl-kdd")
    encoding = Encoding([feature.model_dump(mode="json") for feature in space.features])
    architecture: dict[str, Any] = {"kind": "mlp", "width": encoding.width, "hidden": [4]}
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = build_network(architecture).eval()
    return Detector(architecture, network, space, 0.25).to_files()
