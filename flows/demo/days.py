"""What happens to the traffic on each day of a scenario, for the simulator and for real data sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import pandas as pd

from domain.errors import ConfigError
from samples.replay import LabelPolicy
from samples.simulator.traffic import SimulatorConfig, TrafficSimulator

Scenario = Literal["standard", "null", "label-outage", "poison", "benign-drift"]
SCENARIOS: tuple[Scenario, ...] = ("standard", "null", "label-outage", "poison", "benign-drift")
START = datetime(2026, 3, 2, tzinfo=UTC)
FIRST_DAY = 30  # far from the days that the simulator's benchmark is made of
LABELS = LabelPolicy(audit_share=0.5)
NO_LABELS = LabelPolicy(alert_share=0.0, audit_share=0.0)
PREVALENCE = 0.12
INFECTED_SHARE = 0.15  # decisions count hosts, not rows: a campaign from a handful of hosts proves nothing in a day
POISONED_SHARE = 0.6
DRIFT = 0.35


@dataclass(frozen=True)
class Day:
    """One window of production.

    Attributes:
        title: what a person is told that happens.
        frame: labelled rows, before any campaign.
        campaign: a campaign runs on this day.
        labels: which rows are labelled.
        poison: share of the malicious labels that somebody flips to benign.
    """

    title: str
    start: datetime
    frame: pd.DataFrame
    campaign: bool = False
    labels: LabelPolicy = field(default_factory=lambda: LABELS)
    poison: float = 0.0


@dataclass(frozen=True)
class _Plan:
    title: str
    drift: float = 0.0
    campaign: bool = False
    labels: LabelPolicy = LABELS
    poison: float = 0.0


_PLANS: dict[str, tuple[_Plan, ...]] = {
    "standard": (
        _Plan("ordinary traffic"),
        _Plan("drift, and a campaign against the champion", drift=DRIFT / 2, campaign=True),
        _Plan("the campaign goes on", drift=DRIFT / 2, campaign=True),
    ),
    "null": (_Plan("ordinary traffic"), _Plan("ordinary traffic"), _Plan("ordinary traffic")),
    "label-outage": (
        _Plan("ordinary traffic"),
        _Plan("a campaign, and nobody labels", campaign=True, labels=NO_LABELS),
        _Plan("a campaign, and still nobody labels", campaign=True, labels=NO_LABELS),
    ),
    "poison": (
        _Plan("ordinary traffic"),
        _Plan("labels are poisoned: malicious rows called benign", poison=POISONED_SHARE),
        _Plan("ordinary traffic"),
    ),
    "benign-drift": (
        _Plan("ordinary traffic"),
        _Plan("benign traffic changes", drift=1.0),
        _Plan("benign traffic stays changed", drift=1.0),
    ),
}


def plan_days(data: str, scenario: str, *, seed: int, replayed: pd.DataFrame, volume: int) -> list[Day]:
    """Return the days of `scenario`: simulated ones, or consecutive stretches of the rows kept for replay.

    Raises:
        ConfigError: the scenario is unknown, or does not exist for this data set.
    """
    if scenario not in _PLANS:
        raise ConfigError(f"scenario must be one of {list(SCENARIOS)}, got {scenario!r}")
    plans = _PLANS[scenario]
    if data == "simulator":
        return [_simulated(plan, number, seed, volume) for number, plan in enumerate(plans)]
    if scenario == "benign-drift":
        raise ConfigError(f"scenario {scenario!r} needs the simulator: a data set cannot be told to drift")
    stretches = _STRETCHES.get(data, _in_order)(replayed, len(plans), volume, seed)
    return [
        Day(plan.title, START + timedelta(days=number), frame, plan.campaign, plan.labels, plan.poison)
        for number, (plan, frame) in enumerate(zip(plans, stretches, strict=True))
    ]


def _simulated(plan: _Plan, number: int, seed: int, volume: int) -> Day:
    made = TrafficSimulator(seed, SimulatorConfig(infected_share=INFECTED_SHARE))
    frame = made.day(
        FIRST_DAY + number,
        volume=volume,
        prevalence=PREVALENCE,
        drift=plan.drift,
        families=made.families(0),
        start=START,
    )
    return Day(plan.title, START + timedelta(days=number), frame, plan.campaign, plan.labels, plan.poison)


def _in_order(rows: pd.DataFrame, days: int, volume: int, seed: int) -> list[pd.DataFrame]:
    del seed
    size = min(volume, len(rows) // days)
    return [rows.iloc[number * size : (number + 1) * size] for number in range(days)]


def _nsl_kdd(rows: pd.DataFrame, days: int, volume: int, seed: int) -> list[pd.DataFrame]:
    """Return held-back training rows on the first day, the shifted test part on the later ones."""
    early, later = rows[rows["phase"] == "early"], rows[rows["phase"] != "early"]
    order = np.random.default_rng([seed, 41]).permutation(len(later))
    parts = np.array_split(order, days - 1)
    return [early.iloc[:volume], *(later.iloc[part[:volume]] for part in parts)]


def _phishtank(rows: pd.DataFrame, days: int, volume: int, seed: int) -> list[pd.DataFrame]:
    """Return stretches in order of time: the earliest, then the latest ones."""
    del seed
    ordered = rows.sort_values("event_time", kind="stable")
    size = min(volume, len(ordered) // (days + 2))
    last = len(ordered) - size * (days - 1)
    later = [ordered.iloc[last + number * size : last + (number + 1) * size] for number in range(days - 1)]
    return [ordered.iloc[:size], *later]


_STRETCHES: dict[str, Callable[[pd.DataFrame, int, int, int], list[pd.DataFrame]]] = {
    "nsl-kdd": _nsl_kdd,
    "phishtank": _phishtank,
}
