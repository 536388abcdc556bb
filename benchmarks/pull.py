"""How pull and contract grow with the rows: seconds, ratio to linear, peak memory, for 10^4 and 10^5 rows.

    python -m benchmarks.pull            # 10^4 and 10^5
    python -m benchmarks.pull --million  # and 10^6, some minutes

Each size runs in a process of its own, so that peak memory is its own; imports and the contract's set-up are warmed
up by a pull of 1,000 rows and not counted.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from domain.features import load_feature_space
from domain.monitor import Monitor
from registry.content import ContentStore
from registry.ledger.engine import Ledger
from samples.contract.contract import build_contract, validate
from samples.pull import pull
from samples.simulator.traffic import TrafficSimulator
from samples.sources import StoreSource
from samples.store import SampleStore

START = datetime(2026, 1, 5, tzinfo=UTC)
SPACE = load_feature_space("simulator")
PART = 20_000


def production(count: int):
    """Yield stored samples of at most 20,000 rows, spread over ten days, one in a thousand malformed."""
    simulator = TrafficSimulator(0)
    for number, offset in enumerate(range(0, count, PART)):
        size = min(PART, count - offset)
        frame = simulator.day(number, volume=size, start=START)
        texts = [json.dumps(record) for record in frame[list(SPACE.names)].to_dict(orient="records")]
        texts[::1000] = ["{broken"] * len(texts[::1000])
        seconds = (offset + np.arange(size)) / count * 864_000
        times = pd.Timestamp(START).as_unit("us") + pd.to_timedelta(seconds, unit="s").as_unit("us")
        yield pd.DataFrame(
            {"sample_id": [f"r{offset + row}" for row in range(size)], "event_time": times, "ingest_time": times,
             "subject": frame["subject"], "model_version": 1, "features": texts, "score": 0.1, "verdict": 0}
        )  # fmt: skip


def measure(count: int) -> dict[str, float]:
    """Return seconds of one pull of `count` rows, of validating one chunk alone, and peak memory in MiB."""
    monitor = Monitor.model_validate(
        {"version": 1, "name": "bench", "feature_space": "simulator", "benchmark": {"dataset": "simulator"}}
    )
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(f"sqlite:///{folder}/ledger.db")
        ledger.upgrade()
        store = SampleStore(f"sqlite:///{folder}/store.db").create()
        warm = next(production(1000))
        validate(warm, build_contract(SPACE))
        for frame in production(count):
            store.write_samples(frame)
        content = ContentStore(Path(folder) / "content")
        before = time.perf_counter()
        cpu = time.process_time()
        result = pull(
            ledger, content, StoreSource(store), monitor=monitor, space=SPACE, as_of=START + timedelta(days=20),
            holder="benchmark",
        )  # fmt: skip
        seconds, cpu = time.perf_counter() - before, time.process_time() - cpu
        before = time.perf_counter()
        again = pull(
            ledger, content, StoreSource(store), monitor=monitor, space=SPACE, as_of=START + timedelta(days=20),
            holder="benchmark",
        )  # fmt: skip
        repeat = time.perf_counter() - before
        if result.rows + result.quarantined != count or again.rows:
            raise SystemExit(f"{result.rows} + {result.quarantined} rows of {count}, {again.rows} again")
        ledger.close()
        store.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": count, "seconds": seconds, "cpu": cpu, "repeat": repeat, "quarantined": result.quarantined,
            "peak": peak}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--million", action="store_true", help="also 10^6 rows")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    sizes = [10_000, 100_000, *([1_000_000] if arguments.million else [])]
    first = None
    print(f"{'rows':>9} {'seconds':>9} {'CPU s':>8} {'x linear':>9} {'again s':>8} {'quarantined':>11} {'peak MiB':>9}")
    for size in sizes:
        command = [sys.executable, "-m", "benchmarks.pull", "--one", str(size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        first = first or found
        linear = found["cpu"] / (first["cpu"] * size / first["rows"])
        print(
            f"{size:>9,} {found['seconds']:>9.1f} {found['cpu']:>8.1f} {linear:>9.2f} {found['repeat']:>8.1f} "
            f"{found['quarantined']:>11,} {found['peak']:>9.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
