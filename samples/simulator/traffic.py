"""Days of enterprise network flows: benign roles and services, sessions, threat families, drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domain.errors import ConfigError
from samples.simulator.knobs import Knobs, apply_knobs
from samples.simulator.profiles import (
    BENIGN,
    CLIENT_SIDE,
    COLUMNS,
    DRIFTED_SERVICE,
    FAMILIES,
    ROLES,
    Family,
    shape_table,
)
from samples.simulator.wire import measure_flows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DAY_SECONDS = 86_400
_SERVICE_INDEX = {service.name: index for index, service in enumerate(BENIGN)}


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """The network that is simulated.

    Attributes:
        clients: hosts, shared out over the roles.
        sensors: callers; every host is behind one of them.
        infected_share: share of hosts that malicious sessions may come from.
        flows_per_session: mean rows of a session; rows of a session resemble each other.
        client_stealth, server_stealth: the mean share (0 to 1) by which a malicious session looks like the benign
            service it rides on, in what the client controls and in what it does not.
        first_days: overrides of the day on which a family appears, by its name.
    """

    clients: int = 2000
    sensors: int = 4
    infected_share: float = 0.05
    flows_per_session: float = 6.0
    client_stealth: float = 0.05
    server_stealth: float = 0.5
    first_days: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.clients < 50 or self.sensors < 1 or self.flows_per_session < 1:
            raise ConfigError(
                "a simulated network needs 50 clients, one sensor and one flow a session, "
                f"got {self.clients}, {self.sensors}, {self.flows_per_session}"
            )
        for name in ("infected_share", "client_stealth", "server_stealth"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        known = {family.name for family in FAMILIES}
        if unknown := sorted(set(self.first_days) - known):
            raise ConfigError(f"first_days names unknown families {unknown}; known are {sorted(known)}")


@dataclass(frozen=True, slots=True)
class _Sessions:
    """Rows that belong together, before they are measured: `(s,)` each."""

    role: Ints
    service: Ints
    family: Ints  # -1 is benign
    start: Floats  # seconds of the day


class TrafficSimulator:
    """Makes days of labelled flows; the same seed, day and arguments give the same rows."""

    def __init__(self, seed: int, config: SimulatorConfig | None = None) -> None:
        self.seed = seed
        self.config = config or SimulatorConfig()
        shares = np.array([role.share for role in ROLES])
        self._host_role = np.repeat(np.arange(len(ROLES)), np.ceil(shares * self.config.clients).astype(int))
        self._hosts = np.array(
            [f"{ROLES[role].name}-{number:04d}" for number, role in enumerate(self._host_role)], dtype=object
        )
        self._sensors = np.array([f"sensor-{number + 1}" for number in range(self.config.sensors)], dtype=object)
        rng = np.random.default_rng([seed, 0])
        infected = max(1, round(self.config.infected_share * len(self._hosts)))
        self._infected = rng.choice(len(self._hosts), size=infected, replace=False)
        self._by_role = [np.flatnonzero(self._host_role == role) for role in range(len(ROLES))]

    def families(self, day: int) -> tuple[str, ...]:
        """Return the names of the threat families that exist on `day`."""
        return tuple(item.name for item in FAMILIES if self.config.first_days.get(item.name, item.first_day) <= day)

    def day(
        self,
        day: int,
        *,
        volume: int,
        start: datetime,
        prevalence: float = 0.05,
        drift: float = 0.0,
        families: Sequence[str] | None = None,
        knobs: Knobs | None = None,
    ) -> pd.DataFrame:
        """Return `volume` flows in order of time: features, event_time, subject, caller, label, family, session.

        Args:
            day: number of the day, from 0; days are independent of each other.
            volume: rows.
            start: midnight of day 0, with time zone.
            prevalence: share of malicious rows.
            drift: 0 to 1, how far benign traffic has moved: conferencing spreads, downloads grow heavier.
            families: which threat families are active; by default those that exist on `day`.
            knobs: settings that every malicious flow uses, one row each or one for all.

        Raises:
            ConfigError: an argument is outside its range or names an unknown family.
        """
        active = self._check(day, volume, start, prevalence, drift, families)
        rng = np.random.default_rng([self.seed, 1, day])
        malicious = round(volume * prevalence) if active else 0
        weekend = day_of_week(start, day) >= 5
        benign = self._benign_sessions(rng, volume - malicious, drift, weekend=weekend)
        parts = [self._rows(rng, benign, volume - malicious, drift, f"d{day}-b")]
        if malicious:
            parts.append(
                self._rows(rng, self._malicious_sessions(rng, malicious, active), malicious, drift, f"d{day}-m")
            )
        frame = pd.concat([part for part in parts if len(part)], ignore_index=True)
        if knobs is not None:
            frame = apply_knobs(frame, knobs)
        frame = frame.sort_values("_second", kind="stable", ignore_index=True)
        moment = pd.Timestamp(start.astimezone(UTC)) + pd.Timedelta(days=day)
        milliseconds = (frame.pop("_second").to_numpy() * 1000).astype(np.int64)
        frame.insert(
            list(frame.columns).index("subject"), "event_time", moment + pd.to_timedelta(milliseconds, unit="ms")
        )
        return frame

    def _check(
        self, day: int, volume: int, start: datetime, prevalence: float, drift: float, families: Sequence[str] | None
    ) -> list[Family]:
        if day < 0 or volume < 1:
            raise ConfigError(f"a day has a number from 0 and at least one flow, got day {day}, volume {volume}")
        if start.tzinfo is None:
            raise ConfigError(f"start needs a time zone, got {start!r}; write datetime(..., tzinfo=UTC)")
        if not (0 <= prevalence < 1 and 0 <= drift <= 1):
            raise ConfigError(f"prevalence lies in [0, 1) and drift in [0, 1], got {prevalence} and {drift}")
        names = self.families(day) if families is None else tuple(families)
        known = {family.name: family for family in FAMILIES}
        if unknown := sorted(set(names) - set(known)):
            raise ConfigError(f"unknown threat families {unknown}; known are {sorted(known)}")
        return [known[name] for name in names]

    def _session_count(self, rows: int) -> int:
        return max(1, round(rows / self.config.flows_per_session))

    def _benign_sessions(self, rng: np.random.Generator, rows: int, drift: float, *, weekend: bool) -> _Sessions:
        count = self._session_count(rows)
        activity = np.array([role.share * (role.weekend if weekend else 1.0) for role in ROLES])
        role = rng.choice(len(ROLES), size=count, p=activity / activity.sum())
        service = np.zeros(count, dtype=np.int64)
        start = rng.uniform(0, 1, count)
        for index, spec in enumerate(ROLES):
            rows_of = np.flatnonzero(role == index)
            weights = np.zeros(len(BENIGN))
            for name, weight in spec.mix.items():
                weights[_SERVICE_INDEX[name]] = weight
            weights[_SERVICE_INDEX[DRIFTED_SERVICE]] += drift * 0.35 * weights.sum()
            service[rows_of] = rng.choice(len(BENIGN), size=len(rows_of), p=weights / weights.sum())
            opens, closes, night = spec.hours
            awake = rng.uniform(0, 1, len(rows_of)) >= night
            # The sum of two uniforms is a day that rises to noon and falls again.
            worked = opens + (closes - opens) * 0.5 * (start[rows_of] + rng.uniform(0, 1, len(rows_of)))
            start[rows_of] = np.where(awake, worked, 24 * start[rows_of])
        return _Sessions(role, service, np.full(count, -1), start * 3600)

    def _malicious_sessions(self, rng: np.random.Generator, rows: int, active: Sequence[Family]) -> _Sessions:
        count = self._session_count(rows)
        weights = np.array([family.weight for family in active])
        chosen = rng.choice(len(active), size=count, p=weights / weights.sum())
        position = {family.name: index for index, family in enumerate(FAMILIES)}
        service = np.zeros(count, dtype=np.int64)
        night = np.zeros(count)
        for index, family in enumerate(active):
            rows_of = np.flatnonzero(chosen == index)
            rides = np.array(list(family.rides.values()))
            options = np.array([_SERVICE_INDEX[name] for name in family.rides])
            service[rows_of] = options[rng.choice(len(options), size=len(rows_of), p=rides / rides.sum())]
            night[rows_of] = family.night
        hours = np.where(rng.uniform(0, 1, count) < night, rng.uniform(0, 24, count), rng.triangular(7, 13, 20, count))
        family_of = np.array([position[family.name] for family in active])[chosen]
        return _Sessions(np.full(count, -1), service, family_of, hours * 3600)

    def _rows(
        self, rng: np.random.Generator, sessions: _Sessions, rows: int, drift: float, prefix: str
    ) -> pd.DataFrame:
        count = len(sessions.service)
        member = np.sort(rng.integers(0, count, rows))
        shape = self._session_shapes(rng, sessions, drift)
        measured = measure_flows(rng, shape, sessions.service, member)
        hosts = self._session_hosts(rng, sessions)
        names = np.array(["benign", *(family.name for family in FAMILIES)], dtype=object)
        labels = np.array([f"{prefix}{number}" for number in range(count)], dtype=object)
        second = np.minimum(sessions.start[member] + rng.exponential(120.0, rows), DAY_SECONDS - 0.001)
        columns: dict[str, NDArray[Any]] = {
            **measured,
            "subject": self._hosts[hosts][member],
            "caller": self._sensors[hosts % self.config.sensors][member],
            "label": (sessions.family[member] >= 0).astype(np.int64),
            "family": names[sessions.family + 1][member],
            "session": labels[member],
            "_second": second,
        }
        return pd.DataFrame(columns)

    def _session_hosts(self, rng: np.random.Generator, sessions: _Sessions) -> Ints:
        hosts = self._infected[rng.integers(0, len(self._infected), len(sessions.role))]
        for role, members in enumerate(self._by_role):
            rows_of = np.flatnonzero(sessions.role == role)
            hosts[rows_of] = members[rng.integers(0, len(members), len(rows_of))]
        return hosts

    def _session_shapes(self, rng: np.random.Generator, sessions: _Sessions, drift: float) -> Floats:
        """Return one shape a session, `(s, len(COLUMNS))`: service, threat family, stealth, drift and its own mood."""
        shape = shape_table(BENIGN)[sessions.service]
        shape[:, COLUMNS["answer_log"]] += 0.7 * drift
        shape[:, COLUMNS["answer_size"]] += 0.3 * drift * (1460 - shape[:, COLUMNS["answer_size"]])
        shape[:, COLUMNS["duration_log"]] += 0.3 * drift
        threats = np.flatnonzero(sessions.family >= 0)
        if len(threats):
            client = np.array([name in CLIENT_SIDE for name in COLUMNS])
            own = shape_table(FAMILIES)[sessions.family[threats]]
            mimicry = np.where(
                client,
                _stealth(rng, self.config.client_stealth, len(threats)),
                _stealth(rng, self.config.server_stealth, len(threats)),
            )
            shape[threats] = mimicry * shape[threats] + (1 - mimicry) * own
        for name, deviation in (("packets_log", 0.3), ("duration_log", 0.5), ("flows_log", 0.6), ("answer_log", 0.25),
                                ("clients_log", 0.9), ("age_log", 0.9), ("entropy", 0.5)):  # fmt: skip
            shape[:, COLUMNS[name]] += deviation * rng.standard_normal(len(shape))
        return shape


def _stealth(rng: np.random.Generator, mean: float, count: int) -> Floats:
    """Return `(count, 1)` shares with the given mean; most sessions are loud, a few are almost perfect mimics."""
    return rng.beta(3 * mean, 3 * (1 - mean), (count, 1))


def day_of_week(start: datetime, day: int) -> int:
    """Return 0 for Monday to 6 for Sunday."""
    return (start.weekday() + day) % 7
