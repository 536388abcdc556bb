"""What one turn of the loop is worth on real data: old against new champion on the window after the promotion.

    REVET_DATA_DIR=/path/to/data python -m benchmarks.real_data --data nsl-kdd --data phishtank --seeds 5

The same driver as `revet demo --data NAME`, in process: bootstrap, a healthy window, a window with shift and campaign,
hardening, gate, promotion, the next window. Reported per seed on the rows of that next window, repetitions removed:
detection rate on the stored rows, robust detection rate on the source rows (each detector attacked by its own run of
the suite), realised false-positive rates; differences with 95 % cluster-bootstrap intervals.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = ("nsl-kdd", "phishtank", "url-phishing")


def play(data: str, seed: int, home: Path) -> dict[str, Any]:
    """Return what one run saw; leaves the workspace in `home`."""
    from benchmarks.inprocess import ask, enter_home

    enter_home(home)
    import torch
    import yaml

    from flows.demo.driver import VOLUME, Driver, Record, preset
    from flows.demo.summary import judge_outcome
    from flows.wiring import open_loop

    torch.set_num_threads(1)
    started = time.process_time()
    loop = open_loop()
    monitor = preset(loop.monitor(data), seed, fast=False)
    path = loop.monitor_path(monitor.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(monitor.model_dump(mode="json")), encoding="utf-8")
    record = Record(data, "standard", seed)
    driver = Driver(loop, monitor, record, ask, lambda line: print(line, file=sys.stderr, flush=True))
    driver.bootstrap()
    driver.play("standard", VOLUME)
    record.seconds = time.process_time() - started
    return {**vars(record), "outcome": vars(judge_outcome(record))}


def show(result: dict[str, Any]) -> None:
    """Print one run in two or three lines."""
    days = " | ".join(
        f"{day['verdict']}/{day['kind']}" + (f" -> v{day['promoted']}" if day["promoted"] else "")
        for day in result["days"]
    )
    print(f"{result['data']:13} seed {result['seed']}  {result['seconds']:4.0f} CPU s  {days}")
    for day in result["days"]:
        if day.get("gate") and not day["promoted"]:
            print(f"      gate, day {day['day']}: {'; '.join(day['gate'])}")
    if proof := result["proof"]:
        for name in ("stored", "robust"):
            one = proof[name]
            print(
                f"      {name:7} {one['first']:.3f} -> {one['second']:.3f}  "
                f"{one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f}), n = {one['n']}"
            )
        old, new = proof["old_false_positives"], proof["new_false_positives"]
        print(f"      realised false positives {old['value']:.4f} -> {new['value']:.4f}, n = {new['n']}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", choices=DATA, help="may be repeated; all by default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--json", type=Path, help="file that every result is appended to")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(play(arguments.one[0], int(arguments.one[1]), arguments.home.resolve()), default=str))
        return
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        for data in arguments.data or DATA:
            with tempfile.TemporaryDirectory(prefix="revet-real-") as home:
                command = [sys.executable, "-m", "benchmarks.real_data", "--one", data, str(seed), "--home", home]
                done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
            if done.returncode:
                print(f"FAILED {data} seed {seed}:\n{done.stderr[-1500:]}", flush=True)
                continue
            result = json.loads(done.stdout.splitlines()[-1])
            show(result)
            if arguments.json:
                with arguments.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
