"""`revet demo`: real servers, real flow runs on a real worker, and a world that is played against them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from domain.errors import ConfigError, RevetError
from domain.monitor import Monitor
from domain.names import deployment_name
from domain.settings import Settings, load_settings
from flows.demo.days import SCENARIOS, Day
from flows.demo.summary import Outcome, judge_outcome, print_summary

DATA_SETS = ("simulator", "nsl-kdd", "phishtank", "url-phishing")
RUN_SECONDS = 900.0
VOLUME = 12_000
FAST_VOLUME = 6_000
FAST = {"epochs": 8}
Say = Callable[[str], None]


@dataclass
class Record:
    """What the demonstration saw, for the summary and `--json`."""

    data: str
    scenario: str
    seed: int
    days: list[dict[str, Any]] = field(default_factory=list)
    flow_runs: dict[str, str] = field(default_factory=dict)
    proof: dict[str, Any] | None = None
    head: int = 0
    links: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


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
    started = time.monotonic()

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:5.0f} s[/dim]  {line}")

    settings = _fresh_workspace(home, data_dir)
    monitor = _write_monitor(settings, data, seed, fast=fast)
    record = Record(data, scenario, seed)
    with _stack(settings, say, keep=keep) as stack:
        _deploy(stack, monitor, say)
        driver = _Driver(stack, monitor, record, seed, say)
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
    from flows.wiring import Loop

    shipped = Loop(settings).monitor(data)
    changes: dict[str, Any] = {"seed": seed}
    if fast:
        changes["hardening"] = shipped.hardening.model_copy(update=FAST)
    monitor = shipped.model_copy(update=changes)
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


class _Driver:
    """Asks for flow runs as a person would, and plays the days in between."""

    def __init__(self, stack: Any, monitor: Monitor, record: Record, seed: int, say: Say) -> None:
        from flows.demo.world import World
        from flows.wiring import Loop

        self.api, self.monitor, self.record, self.seed, self.say = (
            stack.settings.prefect_api_url, monitor, record, seed, say,
        )  # fmt: skip
        self.loop = Loop(stack.settings)
        self.world = World(self.loop, monitor, seed)
        record.links = {
            "Prefect": stack.prefect_ui,
            "MLflow": stack.settings.mlflow_tracking_uri,
            "workspace": str(stack.settings.home),
        }

    def bootstrap(self) -> None:
        """Ask for the bootstrap and wait for it."""
        self.say(f"bootstrap: training and measuring the first champion on {self.record.data}")
        self._run("bootstrap", {"monitor": self.monitor.name, "seed": self.seed}, "bootstrap")

    def play(self, scenario: str, volume: int) -> None:
        """Play every day and have it judged; prove the promotion on the last one."""
        from flows.demo.days import plan_days
        from flows.steps.baseline import BenchmarkRows

        replayed = BenchmarkRows(self.loop, self.monitor).frame("replay")
        days = plan_days(self.record.data, scenario, seed=self.seed, replayed=replayed, volume=volume)  # type: ignore[arg-type]
        for number, day in enumerate(days):
            last = self._day(number, day)
        self.record.head = self.loop.head(self.monitor.name).version
        if self.record.head > 1:
            from flows.demo.proof import prove

            self.say("measuring old and new champion on the rows of the last day")
            self.record.proof = prove(
                self.loop, self.monitor, last, old=1, new=self.record.head, seed=self.seed
            ).as_dict()

    def _day(self, number: int, day: Day) -> Any:
        from registry.reports import decisions

        before = self.loop.head(self.monitor.name).version
        self.say(f"day {number + 1}: {day.title}")
        played = self.world.play(number, day)
        horizon = timedelta(hours=24 + self.monitor.policy.label_horizon_hours)
        as_of = (day.start + horizon).isoformat()
        parameters = {"monitor": self.monitor.name, "as_of": as_of, "seed": self.seed, "reason": "demo"}
        identifier = self._run("reevaluate", parameters, f"day {number + 1}")
        decision = decisions(self.loop.ledger, self.monitor.name, limit=1)[0].decision
        after = self.loop.head(self.monitor.name).version
        production = {one.name: one for one in decision.criteria}["production/detection_rate"]
        self.record.days.append(
            {
                "day": number + 1, "title": day.title, "verdict": decision.verdict.value, "kind": decision.kind.value,
                "detection_rate": production.value, "champion": before, "promoted": after if after != before else None,
                "rows": played.summary.rows, "malicious": played.summary.malicious,
                "attacked": played.summary.attacked, "reasons": list(decision.reasons), "flow_run": identifier,
            }
        )  # fmt: skip
        promoted = f", version {after} promoted" if after != before else ""
        kind = f" ({decision.kind.value})" if decision.kind.value != "none" else ""
        self.say(f"       {decision.verdict.value}{kind}{promoted}")
        return played

    def _run(self, flow: str, parameters: dict[str, Any], label: str) -> str:
        from flows.local.prefect_api import start_run, wait_for_run

        run = start_run(self.api, deployment_name(flow, self.monitor.name), parameters)
        self.record.flow_runs[label] = run.id
        done = wait_for_run(self.api, run.id, RUN_SECONDS, lambda _run: None)
        if done.state != "COMPLETED":
            raise RevetError(
                f"{flow} ended as {done.state}: {done.message}\n"
                f"its log: {self.record.links['Prefect']}/runs/flow-run/{run.id} (keep the server with --keep)"
            )
        return run.id


__all__ = ["Outcome", "Record", "run_demo"]
