"""Rows a second of the traffic simulator, as a ratio to making the random numbers alone (both in this run)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np

from samples.simulator.traffic import TrafficSimulator

ROWS = 100_000
START = datetime(2026, 1, 5, tzinfo=UTC)
REQUIRED_PER_MINUTE = 500_000
DRAWS_PER_ROW = 20


def seconds(call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> None:
    simulator = TrafficSimulator(seed=1)
    made = seconds(lambda: simulator.day(0, volume=ROWS, start=START))
    drawn = seconds(lambda: np.random.default_rng(1).standard_normal((DRAWS_PER_ROW, ROWS)))
    per_minute = 60 * ROWS / made
    print(f"simulator: {ROWS / made:,.0f} flows a second, {per_minute:,.0f} a minute (median of 5, one process)")
    print(f"ratio to {DRAWS_PER_ROW} normal draws a flow alone: {made / drawn:.1f}")
    print(f"ratio to the required {REQUIRED_PER_MINUTE:,} a minute: {per_minute / REQUIRED_PER_MINUTE:.0f}")


if __name__ == "__main__":
    main()
