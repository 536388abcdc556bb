"""The jobs behind the flows, called in this process: the loop without Prefect, MLflow on a database of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
}  # fmt: skip


def enter_home(home: Path) -> None:
    """Make `home` the workspace of this process; call it before anything else is imported."""
    home.mkdir(parents=True, exist_ok=True)
    os.environ.update(QUIET)
    os.environ.update(REVET_HOME=str(home), REVET_MLFLOW_TRACKING_URI=f"sqlite:///{home}/mlflow.db")
    os.chdir(home)


def ask(flow: str, parameters: dict[str, Any], label: str) -> str:
    """Run the jobs of `flow` in the order of its tasks; returns `label` in place of a flow run's id.

    Raises:
        ValueError: the demonstration asks for no other flow.
    """
    if flow == "bootstrap":
        _bootstrap(**parameters)
    elif flow == "reevaluate":
        _reevaluate(**parameters)
    else:
        raise ValueError(f"the demonstration asks for bootstrap and reevaluate, got {flow!r}")
    return label


def _bootstrap(monitor: str, seed: int) -> None:
    from flows.jobs import baseline as job

    run = job.open_bootstrap(monitor, seed)
    job.prepare(run)
    detector = job.train(run)
    job.register(run, detector, job.measure(run, detector))


def _reevaluate(monitor: str, as_of: str, seed: int, reason: str) -> None:
    from flows.jobs import window as job

    window = job.pull(monitor, as_of, "", seed=seed, reason=reason, dry_run=False)
    if not window.due:
        job.rest(window)
        return
    found = job.attack(window, job.evaluate(window, job.drift(window)))
    judged = job.decide(window, found)
    if judged.action:
        _harden(monitor, judged.window_start, as_of, seed, judged.kind)


def _harden(monitor: str, window_start: str, as_of: str, seed: int, reason: str) -> None:
    from flows.jobs import challenger as job
    from flows.jobs import promoting

    state = job.open_hardening(monitor, window_start, as_of, seed, reason)
    state = job.gate(job.compare(job.register(job.train(state))))
    done = job.close(state)
    print("   hardening:", *done["reasons"], sep="\n      ", flush=True)
    if state.passed:
        promoting.promote(monitor, state.version, state.epoch, "")
