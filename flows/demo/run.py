"""`revet demo`: real servers, real flow runs on a real worker, and a world that is played against them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from domain.errors import ConfigError, RevetError
from domain.monitor import Monitor
from domain.names import deployment_name
from domain.settings import Settings, load_settings
from flows.demo.days import SCENARIOS
from flows.demo.driver import FAST_VOLUME, VOLUME, Ask, Driver, Record, Say, preset
from flows.demo.summary import Outcome, judge_outcome, print_summary
from flows.wiring import Loop
from registry.client import TRAINING_PAGES

DATA_SETS = ("simulator", "nsl-kdd", "phishtank", "url-phishing")
LOG_WIDTH = 110
RUN_SECONDS = 900.0


def run_demo(
    *,
    home: Path,
    data_dir: str | Path | None,
    data: str,
    scenario: str,
    seed: int,
    fast: bool,
    keep: bool,
    as_json: bool,
) -> int:
    """Play `scenario` on `data` in the workspace `home` and return the exit code: 0 if the loop did what it should.

    Raises:
        ConfigError: data set or scenario is unknown.
    """
    if data not in DATA_SETS or scenario not in SCENARIOS:
        raise ConfigError(
            f"--data must be one of {list(DATA_SETS)} and --scenario one of {list(SCENARIOS)}, "
            f"got {data!r} and {scenario!r}"
        )
    console = Console(stderr=as_json, highlight=False)
    if not console.is_terminal:
        console.width = LOG_WIDTH  # a log file has no width; eighty columns would fold the tables
    started = time.monotonic()

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:5.0f} s[/dim]  {line}")

    settings = _fresh_workspace(home, data_dir)
    monitor = _write_monitor(settings, data, seed, fast=fast)
    record = Record(data, scenario, seed)
    with _stack(settings, say, keep=keep) as stack:
        _deploy(stack, monitor, say)
        record.links = {
            "Prefect": stack.prefect_ui,
            "MLflow": f"{stack.settings.mlflow_tracking_uri}/#/experiments{TRAINING_PAGES}",
            "workspace": str(stack.settings.home),
        }  # fmt: skip
        driver = Driver(Loop(stack.settings), monitor, record, _asking(stack, monitor), say)
        driver.bootstrap()
        driver.play(scenario, FAST_VOLUME if fast else VOLUME)
        record.seconds = time.monotonic() - started
        outcome = judge_outcome(record)
        if as_json:
            print(json.dumps({**vars(record), "outcome": vars(outcome)}, indent=1, default=str))  # noqa: T201 - asked for
        else:
            print_summary(console, record, outcome, kept=keep)
    return 0 if outcome.passed else 1


def _fresh_workspace(home: Path, data_dir: str | Path | None) -> Settings:
    """Return the settings of an empty workspace at `home`; what an earlier demonstration left there goes away."""
    from flows.local.stack import stop_kept

    settings = load_settings(
        home=home, ledger_url=f"sqlite:///{home / 'ledger.db'}", store_url=f"sqlite:///{home / 'samples.db'}",
        content_dir=home / "content", data_dir=data_dir, prefect_api_url="", mlflow_tracking_uri="",
    )  # fmt: skip
    if home.exists():
        if any(home.iterdir()) and not (home / MARKER).exists():
            raise ConfigError(f"{home} is not empty and no demonstration made it; choose another --home")
        stop_kept(settings)
        shutil.rmtree(home)
    home.mkdir(parents=True)
    (home / MARKER).write_text("made by `revet demo`, removed by the next one\n", encoding="utf-8")
    return settings


MARKER = ".revet-demo"


def _write_monitor(settings: Settings, data: str, seed: int, *, fast: bool) -> Monitor:
    """Write the shipped monitor into the workspace, where a person can read and change it."""
    shipped = Loop(settings).monitor(data)
    monitor = preset(shipped, seed, fast=fast)
    path = settings.monitors_dir / f"{monitor.name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(monitor.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    return monitor


@contextmanager
def _stack(settings: Settings, say: Say, *, keep: bool) -> Iterator[Any]:
    """Give servers of our own; ambient Prefect and MLflow settings do not reach them, nor this process."""
    from flows.local.environment import enter
    from flows.local.stack import running_stack

    with ExitStack() as scope:
        stack = scope.enter_context(running_stack(settings, isolated=True, progress=say))
        enter(stack.environ)
        yield stack
        if keep:
            stack.keep()


def _deploy(stack: Any, monitor: Monitor, say: Say) -> None:
    from flows.deployments import deploy

    say("deploying the flows and starting a worker")
    deploy(stack.settings, [monitor])
    stack.start_worker()


def _asking(stack: Any, monitor: Monitor) -> Ask:
    """Return what starts a flow run through the Prefect API and waits for it."""
    from flows.local.prefect_api import start_run, wait_for_run

    def ask(flow: str, parameters: dict[str, Any], label: str) -> str:
        del label
        run = start_run(stack.settings.prefect_api_url, deployment_name(flow, monitor.name), parameters)
        done = wait_for_run(stack.settings.prefect_api_url, run.id, RUN_SECONDS, lambda _run: None)
        if done.state != "COMPLETED":
            raise RevetError(
                f"{flow} ended as {done.state}: {done.message}\n"
                f"its log: {stack.prefect_ui}/runs/flow-run/{run.id} (keep the server with --keep)"
            )
        return run.id

    return ask


__all__ = ["Outcome", "Record", "run_demo"]
