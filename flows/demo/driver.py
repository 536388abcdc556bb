"""The course of a demonstration: bootstrap, then day after day played and judged; who runs the flows is an argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from domain.monitor import Monitor
from flows.demo.days import Day, plan_days
from flows.demo.proof import prove
from flows.demo.world import Played, World
from flows.steps.baseline import BenchmarkRows
from flows.wiring import Loop
from registry.reports import decisions, gate_attempts

VOLUME = 12_000
FAST_VOLUME = 6_000
FAST = {"epochs": 8}
Say = Callable[[str], None]
Ask = Callable[[str, dict[str, Any], str], str]  # flow, parameters, label: runs it to its end and returns the run's id


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


def preset(shipped: Monitor, seed: int, *, fast: bool) -> Monitor:
    """Return the monitor that a demonstration watches: the shipped one with its seed, trained shorter when `fast`."""
    changes: dict[str, Any] = {"seed": seed}
    if fast:
        changes["hardening"] = shipped.hardening.model_copy(update=FAST)
    return shipped.model_copy(update=changes)


class Driver:
    """Asks for flow runs as a person would, and plays the days in between."""

    def __init__(self, loop: Loop, monitor: Monitor, record: Record, ask: Ask, say: Say) -> None:
        self.loop, self.monitor, self.record, self.say = loop, monitor, record, say
        self.seed = record.seed
        self._ask = ask
        self.world = World(loop, monitor, record.seed)

    def bootstrap(self) -> None:
        """Ask for the bootstrap and wait for it."""
        self.say(f"bootstrap: training and measuring the first champion on {self.record.data}")
        self._run("bootstrap", {"monitor": self.monitor.name, "seed": self.seed}, "bootstrap")

    def play(self, scenario: str, volume: int) -> None:
        """Play every day and have it judged; prove the promotion on the last one."""
        replayed = BenchmarkRows(self.loop, self.monitor).frame("replay")
        days = plan_days(self.record.data, scenario, seed=self.seed, replayed=replayed, volume=volume)
        for number, day in enumerate(days):
            last = self._day(number, day)
        self.record.head = self.loop.head(self.monitor.name).version
        # Whoever was promoted on the last day has learnt from its rows; who reigned on it has not.
        reigned = self.record.days[-1]["champion"]
        if reigned > 1:
            self.say("measuring old and new champion on the rows of the last day")
            self.record.proof = prove(self.loop, self.monitor, last, old=1, new=reigned, seed=self.seed).as_dict()

    def _day(self, number: int, day: Day) -> Played:
        before = self.loop.head(self.monitor.name).version
        judged = len(gate_attempts(self.loop.ledger, self.monitor.name))
        self.say(f"day {number + 1}: {day.title}")
        played = self.world.play(number, day)
        horizon = timedelta(hours=24 + self.monitor.policy.label_horizon_hours)
        as_of = (day.start + horizon).isoformat()
        parameters = {"monitor": self.monitor.name, "as_of": as_of, "seed": self.seed, "reason": "demo"}
        identifier = self._run("reevaluate", parameters, f"day {number + 1}")
        decision = decisions(self.loop.ledger, self.monitor.name, limit=1)[0].decision
        after = self.loop.head(self.monitor.name).version
        attempts = gate_attempts(self.loop.ledger, self.monitor.name)
        gate = list(attempts[0].decision.reasons) if len(attempts) > judged else []
        production = {one.name: one for one in decision.criteria}["production/detection_rate"]
        self.record.days.append(
            {
                "day": number + 1, "title": day.title, "verdict": decision.verdict.value, "kind": decision.kind.value,
                "detection_rate": production.value, "champion": before, "promoted": after if after != before else None,
                "rows": played.summary.rows, "malicious": played.summary.malicious,
                "attacked": played.summary.attacked, "reasons": list(decision.reasons), "gate": gate,
                "flow_run": identifier,
            }
        )  # fmt: skip
        promoted = f", version {after} promoted" if after != before else ""
        kind = f" ({decision.kind.value})" if decision.kind.value != "none" else ""
        self.say(f"       {decision.verdict.value}{kind}{promoted}")
        return played

    def _run(self, flow: str, parameters: dict[str, Any], label: str) -> str:
        identifier = self._ask(flow, parameters, label)
        self.record.flow_runs[label] = identifier
        return identifier
