"""Production as the demonstration plays it: traffic scored by the deployed champion, labels, campaigns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domain.monitor import Monitor
from evaluation.detectors.detector import Detector
from evaluation.robustness import evaluate_robustness
from evaluation.rows import LabelledRows
from flows.demo.days import Day
from flows.steps.baseline import BenchmarkRows
from flows.wiring import Loop
from registry.heads import Head
from samples.replay import Campaign, ReplaySummary, replay
from samples.simulator.campaign import evade

OBJECT = "object"
HOURS = 24.0
MOST_VICTIMS = 800  # rows a day that a suite attacks: its searches cost seconds for each hundred
CAMPAIGN_FACTOR = 1.5  # the simulated attacker spends more than the threat model expects


@dataclass(frozen=True)
class Played:
    """A day that was played.

    Attributes:
        source: its rows before the campaign.
        stored: its rows as they were scored and stored.
    """

    day: Day
    summary: ReplaySummary
    source: pd.DataFrame
    stored: pd.DataFrame


class World:
    """Plays days against whoever is champion; a campaign attacks the champion of the day it began."""

    def __init__(self, loop: Loop, monitor: Monitor, seed: int) -> None:
        self.loop, self.monitor, self.seed = loop, monitor, seed
        self.space = loop.space(monitor)
        self._target: tuple[Head, Detector] | None = None

    def play(self, number: int, day: Day) -> Played:
        """Score and store the rows of `day`, and the labels that will arrive."""
        current, champion = self.loop.champion(self.monitor.name)
        frame = day.frame.sort_values("event_time", kind="stable") if "event_time" in day.frame else day.frame
        frame = frame.reset_index(drop=True)
        stored: list[pd.DataFrame] = []

        def score(rows: pd.DataFrame) -> dict[str, NDArray[Any]]:
            stored.append(rows)
            scores = champion.score(rows)
            return {"score": scores.score, "verdict": scores.verdict.astype(np.int64)}

        store = self.loop.labels(self.monitor).create()
        summary = replay(
            frame, features=self.space.names, start=day.start, hours=HOURS, score=score, model_version=current.version,
            model_digest=current.digest, store=store, seed=self.seed + number, labels=day.labels,
            campaign=self._campaign(day) if day.campaign else None, prefix=f"day{number}",
        )  # fmt: skip
        if day.poison:
            self._poison(summary, day.poison, number)
        return Played(day, summary, frame, pd.concat(stored, ignore_index=True))

    def _campaign(self, day: Day) -> Campaign:
        if self._target is None:
            self._target = self.loop.champion(self.monitor.name)
        head, detector = self._target
        simulated = self.monitor.name == "simulator"
        attack = self._knobs(detector) if simulated else self._suite(detector)
        victims = int(day.frame["label"].sum())
        share = 1.0 if simulated else min(1.0, MOST_VICTIMS / max(victims, 1))
        end = day.start + timedelta(hours=HOURS)
        return Campaign(champion=head.version, attack=attack, start=day.start, end=end, share=share)

    def _knobs(self, detector: Detector) -> Callable[[pd.DataFrame], pd.DataFrame]:
        """Return the attacker of the simulator: he sends the same flows with other knobs."""
        rng = np.random.default_rng([self.seed, 51])

        def attack(rows: pd.DataFrame) -> pd.DataFrame:
            return evade(
                rows, lambda frame: detector.score(frame).logit - detector.threshold, rng=rng, rounds=24,
                level=self.monitor.threat.level, epsilon=CAMPAIGN_FACTOR * self.monitor.threat.epsilon,
            )  # fmt: skip

        return attack

    def _suite(self, detector: Detector) -> Callable[[pd.DataFrame], pd.DataFrame]:
        """Return an attacker who has the monitor's suite: every success is feasible by construction."""
        benign = BenchmarkRows(self.loop, self.monitor).rows("selection").benign

        def attack(rows: pd.DataFrame) -> pd.DataFrame:
            named = rows.assign(__label=1)
            objects = OBJECT if OBJECT in rows else ""
            victims = LabelledRows.from_frame(named, self.space, label="__label", objects=objects)
            found = evaluate_robustness(
                detector, victims, threat=self.monitor.threat, suite=self.monitor.suite, benign=benign,
                seed=self.seed + 97,
            )  # fmt: skip
            return self._as_frame(rows, found.adversarial_raw, found.adversarial_objects)

        return attack

    def _as_frame(self, rows: pd.DataFrame, raw: NDArray[np.float64], objects: NDArray[Any] | None) -> pd.DataFrame:
        moved = rows.copy()
        for index, feature in enumerate(self.space.features):
            if feature.kind != "categorical":
                moved[feature.name] = raw[:, index]
        if objects is not None:
            moved[OBJECT] = objects
        return moved

    def _poison(self, summary: ReplaySummary, share: float, number: int) -> None:
        """Write later labels of the same trust that call malicious rows benign."""
        rng = np.random.default_rng([self.seed, 61, number])
        bad = summary.truth[summary.truth["label"] == 1]
        store = self.loop.labels(self.monitor)
        known = store.read_labels(bad["sample_id"].astype(str).tolist())
        chosen = known[rng.random(len(known)) < share]
        if len(chosen):
            store.write_labels(
                chosen.assign(value=0, labeller="intruder", time=chosen["time"] + pd.Timedelta(minutes=1))
            )


def labelled(frame: pd.DataFrame, monitor: Monitor, loop: Loop) -> LabelledRows:
    """Return played rows with their true labels; rows of one subject, or equal rows, form a cluster."""
    family = "family" if "family" in frame else ""
    cluster = "cluster" if "cluster" in frame else "session" if "session" in frame else ""
    objects = OBJECT if OBJECT in frame else ""
    return LabelledRows.from_frame(
        frame, loop.space(monitor), label="label", family=family, cluster=cluster, objects=objects
    )
