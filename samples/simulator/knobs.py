"""The attacker's knobs: padding, pacing, splitting and decoys change a flow the way re-running it would."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from samples.simulator.wire import FULL_BYTES, HEADER_BYTES, SMALL_BYTES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Caps = dict[str, Floats]

# What no sensor counts beyond; the bounds of the feature space.
LIMITS = {
    "duration_ms": 1e8, "gap_min_ms": 1e8, "gap_max_ms": 1e8, "bytes_out": 4e9, "total_bytes": 8e9,
    "packets_out": 4e6, "total_packets": 8e6, "small_packets_out": 4e6,
    "flows_host": 2e4, "flows_same_dst": 2e4, "distinct_dst": 2e4,
}  # fmt: skip


@dataclass(frozen=True)
class Knobs:
    """Settings of the attacker, one value for all malicious flows or `(m,)` with one each.

    Attributes:
        fill: share of the room in packets sent that is filled with padding, 0 to 1.
        extra_packets: padding packets per packet sent.
        extra_size: bytes of each padding packet, 40 to 1500.
        slow: factor on the duration and on all gaps, at least 1.
        even: share of `slow` (on a logarithmic scale) that the smallest gap follows, 0 to 1.
        pause_ms: one long pause at the end.
        split: number of flows over which one transfer is spread; needs a strong attacker.
        decoys: additional flows to other servers; needs a strong attacker.
    """

    fill: Floats | float = 0.0
    extra_packets: Floats | float = 0.0
    extra_size: Floats | float = 800.0
    slow: Floats | float = 1.0
    even: Floats | float = 1.0
    pause_ms: Floats | float = 0.0
    split: Floats | float = 1.0
    decoys: Floats | float = 0.0

    def spread(self, count: int) -> Self:
        """Return the same settings with `(count,)` values each."""
        return type(self)(
            **{
                item.name: np.broadcast_to(np.asarray(getattr(self, item.name), float), (count,))
                for item in fields(self)
            }
        )


def apply_knobs(flows: pd.DataFrame, knobs: Knobs, caps: Caps | None = None) -> pd.DataFrame:
    """Return `flows` with its malicious rows (`label` 1) run again under `knobs`; all relations keep holding.

    Args:
        flows: features and `label`.
        knobs: one value for all, or one for each malicious row.
        caps: highest value of each row that a feature may reach, `(m,)` each; nothing exceeds them.
    """
    rows = np.flatnonzero(flows["label"].to_numpy() == 1)
    values = {name: flows[name].to_numpy()[rows].astype(np.int64) for name in (*LIMITS, "bytes_in", "packets_in")}
    setting = knobs.spread(len(rows))
    limit = {name: np.full(len(rows), high) for name, high in LIMITS.items()} if caps is None else caps
    _split(values, setting)
    _pad(values, setting, limit)
    _pace(values, setting, limit)
    _decoy(values, setting, limit)
    result = flows.copy()
    for name, column in values.items():
        merged = result[name].to_numpy().copy()
        merged[rows] = column
        result[name] = merged
    return result


def _split(values: dict[str, Ints], knobs: Knobs) -> None:
    parts = np.maximum(np.floor(np.asarray(knobs.split)), 1).astype(np.int64)
    parts = np.minimum(parts, values["packets_out"])
    if not (parts > 1).any():
        return
    out, small = values["packets_out"] // parts, values["small_packets_out"] // parts
    small = np.minimum(small, out)
    values["bytes_out"] = np.clip(
        values["bytes_out"] // parts,
        SMALL_BYTES * out - (SMALL_BYTES - HEADER_BYTES) * small,
        FULL_BYTES * out - (FULL_BYTES - SMALL_BYTES) * small,
    )
    answers = values["packets_in"] // parts
    values["bytes_in"] = np.clip(values["bytes_in"] // parts, HEADER_BYTES * answers, FULL_BYTES * answers)
    values["packets_out"], values["small_packets_out"], values["packets_in"] = out, small, answers
    values["duration_ms"] = values["duration_ms"] // parts
    alone = out + answers <= 1
    values["duration_ms"][alone] = 0
    for name in ("gap_max_ms", "gap_min_ms"):
        values[name] = np.minimum(values[name], values["duration_ms"])
    room = np.minimum(LIMITS["flows_host"] - values["flows_host"], parts - 1).astype(np.int64)
    values["flows_host"] = values["flows_host"] + room
    values["flows_same_dst"] = values["flows_same_dst"] + room
    _total(values)


def _pad(values: dict[str, Ints], knobs: Knobs, limit: Caps) -> None:
    out, small = values["packets_out"], values["small_packets_out"]
    size = np.clip(np.floor(np.asarray(knobs.extra_size)), HEADER_BYTES, FULL_BYTES).astype(np.int64)
    # A packet of less than 100 bytes is small; of exactly 100 it may be either, and counts as one of the others.
    is_small = size < SMALL_BYTES
    wanted = np.floor(np.asarray(knobs.extra_packets) * out)
    rooms = [
        limit["packets_out"] - out,
        limit["total_packets"] - values["total_packets"],
        (limit["bytes_out"] - values["bytes_out"]) / size,
        (limit["total_bytes"] - values["total_bytes"]) / size,
        np.where(is_small, limit["small_packets_out"] - small, np.inf),
    ]
    extra = np.floor(np.clip(np.minimum(wanted, np.min(rooms, axis=0)), 0, None)).astype(np.int64)
    values["packets_out"] = out + extra
    values["small_packets_out"] = small + np.where(is_small, extra, 0)
    values["bytes_out"] = values["bytes_out"] + extra * size
    _total(values)
    highest = FULL_BYTES * values["packets_out"] - (FULL_BYTES - SMALL_BYTES) * values["small_packets_out"]
    room = np.minimum.reduce([
        np.asarray(knobs.fill) * (highest - values["bytes_out"]),
        limit["bytes_out"] - values["bytes_out"],
        limit["total_bytes"] - values["total_bytes"],
    ])  # fmt: skip
    values["bytes_out"] = values["bytes_out"] + np.floor(np.clip(room, 0, None)).astype(np.int64)
    _total(values)


def _total(values: dict[str, Ints]) -> None:
    values["total_bytes"] = values["bytes_out"] + values["bytes_in"]
    values["total_packets"] = values["packets_out"] + values["packets_in"]


def _pace(values: dict[str, Ints], knobs: Knobs, limit: Caps) -> None:
    several = values["total_packets"] > 1
    slow = np.maximum(np.asarray(knobs.slow), 1.0)
    gap_high = np.minimum(limit["gap_max_ms"], limit["duration_ms"])
    pause = np.where(several, np.floor(np.minimum(np.asarray(knobs.pause_ms), gap_high)), 0)
    longest = np.maximum(np.minimum(np.floor(values["gap_max_ms"] * slow), gap_high), pause)
    longest = np.maximum(longest, values["gap_max_ms"])
    # Added to the scaled duration, but never past the cap and never below the longest gap.
    duration = np.minimum(np.floor(values["duration_ms"] * slow) + pause, limit["duration_ms"])
    duration = np.maximum(duration, np.maximum(values["duration_ms"], longest))
    even = slow ** np.clip(np.asarray(knobs.even), 0, 1)
    shortest = np.minimum(np.floor(values["gap_min_ms"] * even), np.minimum(limit["gap_min_ms"], longest))
    values["gap_min_ms"] = np.maximum(shortest, values["gap_min_ms"]).astype(np.int64)
    values["gap_max_ms"] = longest.astype(np.int64)
    values["duration_ms"] = duration.astype(np.int64)


def _decoy(values: dict[str, Ints], knobs: Knobs, limit: Caps) -> None:
    rooms = [limit[name] - values[name] for name in ("flows_host", "distinct_dst")]
    decoys = np.minimum(np.floor(np.asarray(knobs.decoys)), np.min(rooms, axis=0))
    added = np.clip(decoys, 0, None).astype(np.int64)
    values["flows_host"] = values["flows_host"] + added
    values["distinct_dst"] = values["distinct_dst"] + added
