"""Plays a labelled frame into the sample store as production traffic: scored, stored, labelled late.

A campaign attacks the champion that is named when the campaign starts; the rows that it stored stay as they are when
the champion changes later. Labels come as they do in life: alerts after hours, an audit stream of randomly chosen
negatives with known probability, and optionally a feed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domain.errors import DataError, SchemaMismatch
from samples.schema import MAX_LEAD_SECONDS
from samples.store import SampleStore

Scores = Mapping[str, NDArray[Any]]  # `score` in [0, 1] and `verdict` 0 or 1, each `(n,)`
Attack = Callable[[pd.DataFrame], pd.DataFrame]
INGEST_DELAY = timedelta(seconds=5)
ROWS_PER_STEP = 20_000


@dataclass(frozen=True)
class LabelPolicy:
    """Which rows get a label, and when.

    Attributes:
        alert_share: share of the alerts that an analyst labels; known probability of each.
        audit_share: probability with which a negative is drawn into the audit stream.
        feed_share: probability with which a malicious row is named by a feed; biased, so without a probability.
        *_delay_hours: mean delay; single delays vary between half and one and a half of it.
    """

    alert_share: float = 1.0
    alert_delay_hours: float = 4.0
    alert_trust: float = 0.9
    audit_share: float = 0.05
    audit_delay_hours: float = 8.0
    audit_trust: float = 1.0
    feed_share: float = 0.0
    feed_delay_hours: float = 20.0
    feed_trust: float = 0.6


@dataclass(frozen=True)
class Campaign:
    """An attack on one named champion, from `start` until `end` (None: until the end of the replay).

    Attributes:
        champion: version of the champion that is attacked; bound when the campaign starts, never followed.
        attack: takes malicious rows and returns as many, in the same order, with the attacker's changes.
        share: share of the malicious rows that belong to the campaign.
        name: stands in the summary.
    """

    champion: int
    attack: Attack
    start: datetime
    end: datetime | None = None
    share: float = 1.0
    name: str = "campaign"


@dataclass(frozen=True)
class ReplaySummary:
    """What was written.

    Attributes:
        attacked: malicious rows that a campaign changed.
        champion: the version that the campaign attacked; None without one.
        truth: sample_id, label, family, attacked, event_time of every row, for tests and demonstrations only.
    """

    rows: int
    malicious: int
    alerts: int
    labels: int
    attacked: int
    champion: int | None
    start: datetime
    end: datetime
    truth: pd.DataFrame = field(repr=False)


def replay(
    frame: pd.DataFrame,
    *,
    features: Sequence[str],
    start: datetime,
    hours: float,
    score: Callable[[pd.DataFrame], Scores],
    model_version: int,
    model_digest: str,
    store: SampleStore,
    seed: int,
    labels: LabelPolicy | None = None,
    campaign: Campaign | None = None,
    prefix: str = "replay",
) -> ReplaySummary:
    """Write the rows of `frame` as production of `[start, start + hours)` and return what was written.

    Args:
        frame: columns of `features`, `label` (1 = malicious), optionally `event_time`, `family`, `subject`, `caller`
            and `object`. With `event_time` the rows keep its order and their distances in proportion; without, they
            are spread evenly in their order.
        features: names of the features that are stored and scored.
        score: scores the rows as the deployed champion does.
        prefix: the sample ids are `<prefix>-<number>`; two replays into one store need different ones.

    Raises:
        SchemaMismatch: columns are missing.
        DataError: the campaign returned another number of rows, or the replay would end after the store's clock.
    """
    if missing := [name for name in (*features, "label") if name not in frame]:
        raise SchemaMismatch(f"replay: the frame lacks the columns {missing}")
    rng = np.random.default_rng([seed, 11])
    rows = _in_time(frame, start, hours)
    _check_past(rows, store)
    rows["sample_id"] = [f"{prefix}-{number:08d}" for number in range(len(rows))]
    rows["attacked"] = _attack(rows, campaign, rng) if campaign else False
    alerts, written = 0, 0
    for offset in range(0, len(rows), ROWS_PER_STEP):
        part = rows.iloc[offset : offset + ROWS_PER_STEP]
        scores = score(part)
        verdict = np.asarray(scores["verdict"]).astype(int)
        store.write_samples(_samples(part, features, scores, model_version, model_digest))
        labelled = draw_labels(part, verdict, labels or LabelPolicy(), rng)
        written += store.write_labels(labelled)
        alerts += int(verdict.sum())
    truth = rows[[name for name in ("sample_id", "event_time", "label", "family", "attacked") if name in rows]]
    return ReplaySummary(
        rows=len(rows), malicious=int(rows["label"].sum()), alerts=alerts, labels=written,
        attacked=int(rows["attacked"].sum()), champion=campaign.champion if campaign else None, start=start,
        end=start + timedelta(hours=hours), truth=truth.reset_index(drop=True),
    )  # fmt: skip


def draw_labels(
    rows: pd.DataFrame, verdict: NDArray[np.int64], policy: LabelPolicy, rng: np.random.Generator
) -> pd.DataFrame:
    """Return the labels that arrive for scored `rows` (columns of `SampleStore.write_labels`), in order of time.

    Alerts are labelled by analysts, negatives only when the audit stream draws them; the champion's verdict itself is
    never a label.
    """
    truth = rows["label"].to_numpy().astype(int)
    alert = (verdict == 1) & (rng.random(len(rows)) < policy.alert_share)
    audit = (verdict == 0) & (rng.random(len(rows)) < policy.audit_share)
    feed = (truth == 1) & (rng.random(len(rows)) < policy.feed_share)
    parts = []
    for kind, chosen, probability, delay, trust in (
        ("alert", alert, policy.alert_share, policy.alert_delay_hours, policy.alert_trust),
        ("audit", audit, policy.audit_share, policy.audit_delay_hours, policy.audit_trust),
        ("feed", feed, np.nan, policy.feed_delay_hours, policy.feed_trust),
    ):
        positions = np.flatnonzero(chosen)
        spread = pd.to_timedelta(delay * (0.5 + rng.random(len(positions))), unit="h").as_unit("us")
        picked = rows.iloc[positions]
        parts.append(
            pd.DataFrame(
                {
                    "sample_id": picked["sample_id"].to_numpy(),
                    "value": truth[positions],
                    "kind": kind,
                    "labeller": {"alert": "analyst", "audit": "auditor", "feed": "feed"}[kind],
                    "trust": trust,
                    "inclusion_probability": probability,
                    "time": pd.DatetimeIndex(picked["event_time"]) + spread,
                    "family": picked["family"].to_numpy() if "family" in picked else None,
                }
            )
        )
    drawn = [part for part in parts if len(part)]
    if not drawn:
        return parts[0]
    return pd.concat(drawn, ignore_index=True).sort_values("time", kind="stable", ignore_index=True)


def _in_time(frame: pd.DataFrame, start: datetime, hours: float) -> pd.DataFrame:
    rows = frame.copy()
    count = len(rows)
    if "event_time" in rows:
        rows = rows.sort_values("event_time", kind="stable")
        micros = pd.DatetimeIndex(pd.to_datetime(rows["event_time"], utc=True)).as_unit("us").asi8.astype(float)
        span = max(float(micros[-1] - micros[0]), 1.0) if count else 1.0
        place = (micros - micros[0]) / span * (1 - 1 / max(count, 2)) if count else micros
    else:
        place = np.arange(count) / max(count, 1)
    seconds = pd.to_timedelta(place * hours * 3600.0, unit="s").as_unit("us")
    rows["event_time"] = pd.Timestamp(start).as_unit("us") + seconds
    return rows.reset_index(drop=True)


def _check_past(rows: pd.DataFrame, store: SampleStore) -> None:
    """Refuse rows of days to come: the store would say that they arrive now, long before they happened."""
    latest = store.now() + timedelta(seconds=MAX_LEAD_SECONDS)
    if len(rows) and (last := rows["event_time"].max() + INGEST_DELAY) > latest:
        raise DataError(
            f"replay: the last row would arrive at {last.isoformat()}, but the store's clock says "
            f"{store.now().isoformat()}; start the replay earlier, or give the store a clock of the simulated time"
        )


def _attack(rows: pd.DataFrame, campaign: Campaign, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Replace the campaign's rows in `rows` by attacked ones; returns which rows changed, `(n,)`."""
    moment = rows["event_time"]
    inside = (moment >= campaign.start) & (rows["label"] == 1)
    if campaign.end is not None:
        inside &= moment < campaign.end
    chosen = np.flatnonzero(inside.to_numpy() & (rng.random(len(rows)) < campaign.share))
    changed = np.zeros(len(rows), dtype=bool)
    if not len(chosen):
        return changed
    victims = rows.iloc[chosen]
    attacked = campaign.attack(victims.copy())
    if len(attacked) != len(victims):
        raise DataError(
            f"campaign {campaign.name!r} took {len(victims)} rows and returned {len(attacked)}; it must return as many"
        )
    for name in attacked.columns.intersection(rows.columns).difference(["event_time", "sample_id", "label"]):
        values = rows[name].to_numpy(dtype=object, copy=True)
        values[chosen] = attacked[name].to_numpy(dtype=object)
        changed[chosen] |= values[chosen] != victims[name].to_numpy(dtype=object)
        rows[name] = pd.Series(values, index=rows.index).infer_objects()
    return changed


def _samples(
    part: pd.DataFrame, features: Sequence[str], scores: Scores, model_version: int, model_digest: str
) -> pd.DataFrame:
    records = part[list(features)].to_dict(orient="records")
    return pd.DataFrame(
        {
            "sample_id": part["sample_id"].to_numpy(),
            "event_time": part["event_time"].to_numpy(),
            "ingest_time": part["event_time"] + INGEST_DELAY,
            "caller": part["caller"].to_numpy() if "caller" in part else "replay",
            "subject": part["subject"].to_numpy() if "subject" in part else part["sample_id"].to_numpy(),
            "model_version": model_version,
            "model_digest": model_digest,
            "features": records,
            "score": np.asarray(scores["score"], dtype=float),
            "verdict": np.asarray(scores["verdict"]).astype(int),
            "object": part["object"].to_numpy() if "object" in part else None,
        }
    )
