"""The workspace that all end-to-end tests share: real servers, a real worker, a champion, and one judged day."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from domain.monitor import Monitor, load_monitor
from domain.settings import load_settings

T = TypeVar("T")
SEED = 7
VOLUME = 2_000
WAIT_SECONDS = 300.0
MONITOR = "simulator"
# MLflow 3.17: a loader strategy that SQLAlchemy 2.1 deprecates, and its own type hints. Great Expectations 1.23 and
# Evidently 0.7.21 are exercised by the tests of their own rooms.
WARNINGS = (
    "ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning",
    "ignore:.*Any type hint is inferred as AnyType:UserWarning",
)
MARKS = [pytest.mark.slow, pytest.mark.filterwarnings(*WARNINGS)]


def wait_until(look: Callable[[], T], what: str, seconds: float = WAIT_SECONDS) -> T:
    """Return the first answer of `look` that counts as true.

    Raises:
        AssertionError: there was none within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


@dataclass(frozen=True)
class Town:
    """What is up.

    Attributes:
        stack: servers and worker.
        bootstrap, first_day: ids of the flow runs that made the champion and judged the first day.
        early: copy of the ledger as it was before the first day.
    """

    stack: Any
    monitor: Monitor
    loop: Any
    bootstrap: str
    first_day: str
    early: Path

    @property
    def api(self) -> str:
        """Address of Prefect's API."""
        return str(self.stack.settings.prefect_api_url)

    @property
    def prefect(self) -> str:
        """Address of the Prefect UI."""
        return str(self.stack.prefect_ui)

    @property
    def mlflow(self) -> str:
        """Address of the MLflow UI."""
        return str(self.stack.settings.mlflow_tracking_uri)

    @property
    def monitor_path(self) -> Path:
        """The monitor's file."""
        return Path(self.stack.settings.monitors_dir) / f"{MONITOR}.yaml"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer of Prefect's API."""
        from flows.local.prefect_api import call

        status, answer = call(method, self.api, path, body)
        assert status < 400, (method, path, status, answer)
        return answer

    def start(self, flow: str, **parameters: Any) -> str:
        """Ask for a flow run as the UI does and return its id."""
        from flows.local.prefect_api import start_run

        return start_run(self.api, f"{flow}/{MONITOR}", parameters).id

    def finish(self, run: str) -> Any:
        """Return the flow run once it has ended."""
        from flows.local.prefect_api import wait_for_run

        return wait_for_run(self.api, run, WAIT_SECONDS, lambda _run: None)

    def log_of(self, run: str) -> str:
        """Return what the flow run logged, for the message of a failure."""
        body = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        return "\n".join(line["message"] for line in self.call("POST", "/logs/filter", body))

    def run(self, flow: str, **parameters: Any) -> str:
        """Run a flow to its end and return its id."""
        identifier = self.start(flow, **parameters)
        done = self.finish(identifier)
        assert done.state == "COMPLETED", (done, self.log_of(identifier))
        return identifier


def small_monitor(loop: Any) -> Monitor:
    """Return the shipped monitor, small: trained and attacked in seconds."""
    shipped: Monitor = loop.monitor(MONITOR)
    changed = {
        "threat": shipped.threat.model_copy(update={"curve": (0.0, 0.1)}),
        "hardening": shipped.hardening.model_copy(update={"epochs": 3, "hidden": (48,), "max_rows": 6_000}),
        "gate": shipped.gate.model_copy(update={"approval": "required"}),  # no test changes another one's champion
        "robust_rows": 60, "daily_volume": VOLUME, "seed": SEED,
    }  # fmt: skip
    return shipped.model_copy(update=changed)


def write_monitor(path: Path, monitor: Monitor) -> None:
    """Write the file of `monitor`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(monitor.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


@contextmanager
def other_recipe(town: Town, **changes: Any) -> Iterator[None]:
    """Change the recipe of hardening in the monitor's file for the time of the block."""
    monitor = load_monitor(town.monitor_path)
    other = monitor.model_copy(update={"hardening": monitor.hardening.model_copy(update=changes)})
    write_monitor(town.monitor_path, other)
    try:
        yield
    finally:
        write_monitor(town.monitor_path, monitor)


def copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite database that others may have open."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def judged_at(day: Any, monitor: Monitor) -> str:
    """Return the time at which the window of `day` has reached its label horizon."""
    return str((day.start + timedelta(hours=24 + monitor.policy.label_horizon_hours)).isoformat())


def ordinary_day(seed: int = SEED, volume: int = VOLUME) -> Any:
    """Return the first day of the demonstration, with less traffic."""
    import pandas as pd

    from flows.demo.days import plan_days

    return plan_days(MONITOR, "null", seed=seed, replayed=pd.DataFrame(), volume=volume)[0]


@contextmanager
def running_town(home: Path, prefect: str, mlflow: str) -> Iterator[Town]:
    """Start a worker on the given servers, make a champion and judge one ordinary day."""
    from flows.demo.world import World
    from flows.deployments import deploy
    from flows.local.environment import scrubbed
    from flows.local.stack import running_stack
    from flows.wiring import Loop

    settings = load_settings(
        home=home, ledger_url=f"sqlite:///{home / 'ledger.db'}", store_url=f"sqlite:///{home / 'samples.db'}",
        content_dir=home / "content", data_dir=home / "data", work_pool="end-to-end", prefect_api_url=prefect,
        mlflow_tracking_uri=mlflow,
    )  # fmt: skip
    monitor = small_monitor(Loop(settings))
    write_monitor(settings.monitors_dir / f"{MONITOR}.yaml", monitor)
    environ = {**scrubbed(os.environ), "PREFECT_HOME": str(home / "prefect"), "PREFECT_UI_URL": prefect[: -len("/api")]}
    environ["PREFECT_PROFILES_PATH"] = str(home / "prefect" / "profiles.toml")
    with running_stack(settings, environ, isolated=False) as stack:
        deploy(stack.settings, [monitor])
        stack.start_worker()
        loop = Loop(stack.settings)
        early = home / "early.db"
        town = Town(stack, monitor, loop, "", "", early)
        bootstrap = town.run("bootstrap", monitor=MONITOR, seed=SEED)
        copy_database(home / "ledger.db", early)
        day = ordinary_day()
        World(loop, monitor, SEED).play(0, day)
        first = town.run("reevaluate", monitor=MONITOR, as_of=judged_at(day, monitor), seed=SEED, reason="first day")
        try:
            yield Town(stack, monitor, loop, bootstrap, first, early)
        finally:
            loop.ledger.close()
