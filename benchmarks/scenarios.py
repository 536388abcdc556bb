"""Does the loop do the right thing, again and again: the scenarios of `revet demo` over many seeds, fast preset.

    python -m benchmarks.scenarios                                     # all five scenarios, 3 seeds each
    python -m benchmarks.scenarios --scenario null --seeds 20 --jobs 2

The same days, campaigns and labels as the demonstration, the same jobs as its flow runs, without Prefect and with
MLflow on a database file. Each run is a process with a workspace of its own. "Wrong" is a run that did not end as the
scenario asks for; its share is printed with the exact upper bound (Clopper and Pearson, one-sided, 95 %), because
never in n runs is not never.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scipy.stats import beta

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = ("standard", "null", "label-outage", "poison", "benign-drift")


def play(scenarios: list[str], seed: int, home: Path, *, fast: bool) -> Iterator[dict[str, Any]]:
    """Yield what the run of each scenario saw, how it is judged, and its CPU seconds.

    The bootstrap does not know the scenario: it runs once, and each scenario goes on from a copy of its workspace.
    """
    from benchmarks.inprocess import ask, enter_home

    base = home / "bootstrap"
    enter_home(base)
    started = time.process_time()
    import torch
    import yaml

    from flows.demo.driver import FAST_VOLUME, VOLUME, Driver, Record, preset
    from flows.demo.summary import judge_outcome
    from flows.wiring import open_loop

    torch.set_num_threads(1)

    def say(line: str) -> None:
        print(f"{time.process_time() - started:6.0f} CPU s  {line}", flush=True)

    loop = open_loop()
    monitor = preset(loop.monitor("simulator"), seed, fast=fast)
    path = loop.monitor_path(monitor.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(monitor.model_dump(mode="json")), encoding="utf-8")
    Driver(loop, monitor, Record("simulator", "bootstrap", seed), ask, say).bootstrap()
    loop.ledger.close()
    first = time.process_time() - started
    for scenario in scenarios:
        started, wall = time.process_time(), time.perf_counter()
        shutil.copytree(base, home / scenario, ignore=shutil.ignore_patterns("*-shm"))
        enter_home(home / scenario)
        record = Record("simulator", scenario, seed)
        Driver(open_loop(), monitor, record, ask, say).play(scenario, FAST_VOLUME if fast else VOLUME)
        record.seconds = time.perf_counter() - wall
        cpu = {"bootstrap": first, "cpu": time.process_time() - started}
        yield {**vars(record), "outcome": vars(judge_outcome(record)), **cpu}


def upper_bound(wrong: int, runs: int, confidence: float = 0.95) -> float:
    """Return the exact one-sided upper bound of the share behind `wrong` of `runs`."""
    return 1.0 if wrong == runs else float(beta.ppf(confidence, wrong + 1, runs - wrong))


def show(result: dict[str, Any]) -> None:
    """Print verdicts, kinds, promotion and reasons of one run."""
    days = [
        day["verdict"]
        + (f"/{day['kind']}" if day["kind"] != "none" else "")
        + (f" -> v{day['promoted']}" if day["promoted"] else "")
        for day in result["days"]
    ]
    mark = "ok   " if result["outcome"]["passed"] else "WRONG"
    cpu = f"{result['bootstrap']:3.0f} + {result['cpu']:3.0f} CPU s"
    print(f"{mark} {result['scenario']:12} seed {result['seed']:<3} {cpu}  {' | '.join(days)}")
    for day in result["days"]:
        if day["gate"] and not day["promoted"]:
            print(f"        gate, day {day['day']}: {'; '.join(day['gate'])}")
    if proof := result["proof"]:
        pairs = [f"{name} {proof[name]['first']:.3f} -> {proof[name]['second']:.3f}" for name in ("stored", "robust")]
        rates = " -> ".join(f"{proof[name]['value']:.4f}" for name in ("old_false_positives", "new_false_positives"))
        print(f"        proof: {', '.join(pairs)}, false positives {rates}")
    if not result["outcome"]["passed"]:
        print(f"        {result['outcome']['reason']}")
        for day in result["days"]:
            print(f"        day {day['day']}: {'; '.join(day['reasons'])}")
    sys.stdout.flush()


def totals(results: list[dict[str, Any]]) -> None:
    """Print per scenario how many runs went wrong or promoted, and what that proves."""
    names = ("scenario", "runs", "wrong", "wrong at most", "promoted", "CPU s, mean", "most")
    print("\n{:14} {:>4} {:>5} {:>13} {:>8} {:>11} {:>5}".format(*names))
    for scenario in SCENARIOS:
        own = [one for one in results if one["scenario"] == scenario]
        if not own:
            continue
        wrong = sum(not one["outcome"]["passed"] for one in own)
        cpu = [one["bootstrap"] + one["cpu"] for one in own]
        print(
            f"{scenario:14} {len(own):>4} {wrong:>5} {upper_bound(wrong, len(own)):>12.1%} "
            f"{sum(one['head'] > 1 for one in own):>9} {sum(cpu) / len(cpu):>11.0f} {max(cpu):>5.0f}"
        )


def _one(seed: int, scenarios: list[str], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the results of a process of its own, shown and kept as they come; its last words where it failed."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.scenarios",
        "--one",
        str(seed),
        *(["--full"] if arguments.full else []),
    ]
    for scenario in scenarios:
        command += ["--scenario", scenario]
    results = []
    with tempfile.TemporaryDirectory(prefix="revet-scenarios-") as folder, tempfile.TemporaryFile("w+") as errors:
        home = arguments.keep.resolve() / str(seed) if arguments.keep else Path(folder)
        command += ["--home", str(home)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            for line in process.stdout or ():
                if not line.startswith("{"):
                    continue
                results.append(json.loads(line))
                show(results[-1])
                if arguments.json:
                    with arguments.json.open("a", encoding="utf-8") as file:
                        file.write(line)
        if process.returncode:
            errors.seek(0)
            print(f"FAILED seed {seed}:\n{errors.read()[-3000:]}", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="may be repeated; all by default")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--full", action="store_true", help="days and training of `revet demo` without --fast")
    parser.add_argument("--keep", type=Path, help="folder that keeps the workspaces")
    parser.add_argument("--json", type=Path, help="file that every result is appended to")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    scenarios = list(arguments.scenario or SCENARIOS)
    if arguments.one is not None:
        for result in play(scenarios, arguments.one, arguments.home.resolve(), fast=not arguments.full):
            print(json.dumps(result, default=str), flush=True)
        return
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        results = [one for own in pool.map(lambda seed: _one(seed, scenarios, arguments), seeds) for one in own]
    totals(results)
    if missing := len(seeds) * len(scenarios) - len(results):
        raise SystemExit(f"{missing} runs failed")


if __name__ == "__main__":
    main()
