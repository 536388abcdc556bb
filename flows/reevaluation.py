"""Re-evaluation: pull, contract, drift, clean and adversarial evaluation, decision, and hardening where it follows."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, task
from pydantic import Field

from flows.hardening_flow import harden
from flows.hooks import clean_up
from flows.jobs import window as job
from flows.steps.state import Judged, Measurements, WindowRun


@task(name="pull and validate", retries=2, retry_delay_seconds=[5, 20])
def pull(monitor: str, as_of: str, window_start: str, seed: int, reason: str, dry_run: bool) -> WindowRun:  # noqa: FBT001
    """Pull new samples through the data contract, and find the window that is due."""
    return job.pull(monitor, as_of, window_start, seed=seed, reason=reason, dry_run=dry_run)


@task(name="measure drift")
def drift(window: WindowRun) -> Measurements:
    """Compare the window with the frozen reference."""
    return job.drift(window)


@task(name="evaluate the champion")
def evaluate(window: WindowRun, found: Measurements) -> Measurements:
    """Measure the champion on labelled production rows and on the clean benchmark."""
    return job.evaluate(window, found)


@task(name="attack the champion")
def attack(window: WindowRun, found: Measurements) -> Measurements:
    """Run the adversarial suite on the window's malicious rows."""
    return job.attack(window, found)


@task(name="decide")
def decide(window: WindowRun, found: Measurements) -> Judged:
    """Decide, record the decision, publish it."""
    return job.decide(window, found)


@task(name="nothing is due")
def rest(window: WindowRun) -> dict[str, Any]:
    """Say why nothing was judged."""
    return job.rest(window)


@flow(
    name="reevaluate", flow_run_name="reevaluate-{monitor}",
    on_failure=[clean_up], on_cancellation=[clean_up], on_crashed=[clean_up],
)  # fmt: skip
def reevaluate(
    monitor: str,
    as_of: str = "now",
    window_start: str = "",
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0,
    reason: str = "scheduled",
    dry_run: bool = False,  # noqa: FBT001, FBT002 - Prefect makes the form from this signature
) -> dict[str, Any]:
    """Judge the oldest window that is due; harden the champion if it has degraded and policy allows.

    Args:
        monitor: Name of the monitor, as in its file.
        as_of: Pretend that it is this time: `now`, or ISO 8601 such as 2026-01-31T00:00:00+00:00.
        window_start: Judge the window that starts at this time again; empty takes the oldest that is due.
        seed: Seed of samples and attacks.
        reason: Why this run was started; stands in the reports.
        dry_run: Only measure and say what would be decided; nothing is pulled, recorded or hardened.
    """
    window = pull(monitor, as_of, window_start, seed, reason, dry_run)
    if not window.due:
        return rest(window)
    found = attack(window, evaluate(window, drift(window)))
    judged = decide(window, found)
    if judged.action:
        return harden(monitor=monitor, window_start=judged.window_start, as_of=as_of, seed=seed, reason=judged.kind)
    return judged.model_dump(mode="json")
