"""What a sensor measures of flows of given shapes, so that every relation of the feature space holds exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samples.simulator.profiles import BENIGN, COLUMNS, PROTOCOLS, SERVICES, STATES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
HEADER_BYTES, SMALL_BYTES, FULL_BYTES = 40, 100, 1500
MAX_PACKETS = 1_000_000
MAX_DURATION_MS = 80_000_000
MAX_FLOWS = 15_000

_PROTOCOL = np.array([PROTOCOLS.index(service.protocol) for service in BENIGN])
_SERVICE = np.array([SERVICES.index(service.service) for service in BENIGN])
_PROTOCOL_NAMES = np.array(PROTOCOLS, dtype=object)
_SERVICE_NAMES = np.array(SERVICES, dtype=object)
_STATE_NAMES = np.array(STATES, dtype=object)


def measure_flows(rng: np.random.Generator, shapes: Floats, services: Ints, member: Ints) -> dict[str, NDArray[Any]]:
    """Return the feature columns of `n` flows.

    Args:
        shapes: one row a session, `(s, len(COLUMNS))`.
        services: position of each session's service in `BENIGN`, `(s,)`.
        member: session of each flow, `(n,)`.
    """
    per_flow = shapes[member]
    shape = {name: per_flow[:, index] for name, index in COLUMNS.items()}
    state = _states(rng, per_flow)
    internal = (rng.uniform(size=len(shapes)) < shapes[:, COLUMNS["internal"]]).astype(np.int64)[member]
    volumes = _volumes(rng, shape, state)
    times = _times(rng, shape, volumes["total_packets"])
    return {
        "proto": _PROTOCOL_NAMES[_PROTOCOL[services]][member],
        "service": _SERVICE_NAMES[_SERVICE[services]][member],
        "state": _STATE_NAMES[state],
        "internal": internal,
        "duration_ms": times["duration_ms"],
        **volumes,
        "gap_min_ms": times["gap_min_ms"],
        "gap_max_ms": times["gap_max_ms"],
        **_context(rng, shape, shapes, member),
    }


def _states(rng: np.random.Generator, per_flow: Floats) -> Ints:
    first = COLUMNS["complete"]
    bounds = np.cumsum(np.clip(per_flow[:, first : first + len(STATES)], 0, None), axis=1)
    pick = rng.uniform(size=len(per_flow)) * bounds[:, -1]
    state: Ints = (pick[:, None] >= bounds[:, :-1]).sum(axis=1)
    return state


def _normal(rng: np.random.Generator, mean: Floats, deviation: Floats | float) -> Floats:
    return mean + deviation * rng.standard_normal(len(mean))


def _volumes(rng: np.random.Generator, shape: dict[str, Floats], state: Ints) -> dict[str, Ints]:
    """Return packets and bytes; sums are exact, each packet has 40 to 1500 bytes."""
    packets = np.clip(np.exp(_normal(rng, shape["packets_log"], shape["packets_sd"])), 1, MAX_PACKETS)
    packets_out = packets.astype(np.int64)
    small = np.floor(packets_out * np.clip(_normal(rng, shape["small"], 0.15), 0, 1) + rng.uniform(size=len(packets)))
    small_out = np.minimum(small.astype(np.int64), packets_out)
    small_size = rng.uniform(HEADER_BYTES, SMALL_BYTES, len(packets))
    size = np.clip(shape["size"] * np.exp(0.25 * rng.standard_normal(len(packets))), SMALL_BYTES, FULL_BYTES)
    bytes_out = np.floor(small_out * small_size + (packets_out - small_out) * size).astype(np.int64)
    answers = 0.5 + packets_out * np.exp(_normal(rng, shape["answer_log"], shape["answer_sd"]))
    packets_in = np.clip(answers, 1, MAX_PACKETS).astype(np.int64)
    packets_in[state == STATES.index("no_reply")] = 0
    short = (state == STATES.index("half_open")) | (state == STATES.index("reset"))
    packets_in = np.where(short, np.minimum(packets_in, 1 + packets_in // 3), packets_in)
    answer_size = shape["answer_size"] * np.exp(0.3 * rng.standard_normal(len(packets)))
    bytes_in = np.floor(packets_in * np.clip(answer_size, HEADER_BYTES, FULL_BYTES)).astype(np.int64)
    return {
        "bytes_out": bytes_out,
        "bytes_in": bytes_in,
        "total_bytes": bytes_out + bytes_in,
        "packets_out": packets_out,
        "packets_in": packets_in,
        "total_packets": packets_out + packets_in,
        "small_packets_out": small_out,
    }


def _times(rng: np.random.Generator, shape: dict[str, Floats], total_packets: Ints) -> dict[str, Ints]:
    """Return duration and gaps: smallest gap <= mean gap <= largest gap <= duration."""
    duration = np.floor(np.clip(np.exp(_normal(rng, shape["duration_log"], shape["duration_sd"])), 0, MAX_DURATION_MS))
    duration[total_packets <= 1] = 0
    mean_gap = duration / np.maximum(total_packets - 1, 1)
    burst = np.clip(shape["burst"] * np.exp(0.5 * rng.standard_normal(len(duration))), 0, 1)
    regular = np.clip(_normal(rng, shape["regular"], 0.1), 0, 1)
    gap_max = np.minimum(np.floor(mean_gap + (duration - mean_gap) * burst), duration)
    gap_min = np.minimum(np.floor(mean_gap * regular), gap_max)
    return {
        "duration_ms": duration.astype(np.int64),
        "gap_min_ms": gap_min.astype(np.int64),
        "gap_max_ms": gap_max.astype(np.int64),
    }


def _context(
    rng: np.random.Generator, shape: dict[str, Floats], shapes: Floats, member: Ints
) -> dict[str, NDArray[Any]]:
    """Return what the client did in the two minutes before, and what is known of the server."""
    count = len(member)
    flows = np.clip(np.exp(_normal(rng, shape["flows_log"], 0.3)), 1, MAX_FLOWS).astype(np.int64)
    same = _share(rng, shape["same"], flows)
    flows_same = np.clip(same, 1, flows)
    # Every other server takes at least one of the other flows.
    distinct = np.clip(_share(rng, shape["distinct"], flows), 1, flows + 1 - flows_same)
    failed = np.minimum(_share(rng, shape["failed"], flows), flows)
    clients = np.exp(shapes[:, COLUMNS["clients_log"]])[member] * np.exp(0.15 * rng.standard_normal(count))
    age = np.clip(np.exp(shapes[:, COLUMNS["age_log"]]), 0, 3000).astype(np.int64)[member]
    entropy = np.clip(_normal(rng, shape["entropy"], 0.45), 0, 8)
    return {
        "flows_host": flows,
        "flows_same_dst": flows_same,
        "distinct_dst": distinct,
        "failed_flows": failed,
        "dst_clients": np.clip(clients, 1, 5000).astype(np.int64),
        "dst_age_days": age,
        "entropy_out": np.round(entropy, 3),
    }


def _share(rng: np.random.Generator, mean: Floats, flows: Ints) -> Ints:
    share = np.clip(mean * np.exp(0.35 * rng.standard_normal(len(mean))), 0, 1)
    return np.floor(share * flows + rng.uniform(size=len(mean))).astype(np.int64)
