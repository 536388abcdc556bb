"""Hardening: gather screened rows, train a challenger, measure both on the same rows, gate, promote."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, task
from pydantic import Field

from flows.hooks import clean_up
from flows.jobs import challenger as job
from flows.promotions import promote
from flows.steps.state import Challenger


@task(name="open the hardening")
def open_hardening(monitor: str, window_start: str, as_of: str, seed: int, reason: str) -> Challenger:
    """Check freeze and budget, take the lease, open the MLflow run."""
    return job.open_hardening(monitor, window_start, as_of, seed, reason)


@task(name="screen and train a challenger")
def train(state: Challenger) -> Challenger:
    """Train on replayed and recent rows; the poisoning screen may refuse them."""
    return job.train(state)


@task(name="register the challenger", retries=2, retry_delay_seconds=[2, 10])
def register(state: Challenger) -> Challenger:
    """Register it under an idempotency key; its alias is `challenger`."""
    return job.register(state)


@task(name="measure both on the same rows")
def compare(state: Challenger) -> Challenger:
    """Measure champion, challenger and anchor on the same rows, each attacked on its own."""
    return job.compare(state)


@task(name="gate")
def gate(state: Challenger) -> Challenger:
    """Judge the evidence; fails closed."""
    return job.gate(state)


@task(name="close the hardening")
def close(state: Challenger) -> dict[str, Any]:
    """Free the lease, end the MLflow run, publish how it ended."""
    return job.close(state)


@flow(
    name="harden", flow_run_name="harden-{monitor}",
    on_failure=[clean_up], on_cancellation=[clean_up], on_crashed=[clean_up],
)  # fmt: skip
def harden(
    monitor: str,
    window_start: str = "",
    as_of: str = "now",
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0,
    reason: str = "by hand",
) -> dict[str, Any]:
    """Train a challenger on screened production rows and promote it if the gate finds it proven better.

    Args:
        monitor: Name of the monitor, as in its file.
        window_start: Start of the judged window whose rows are learnt from; empty takes the last judged one.
        as_of: Labels later than this are not known yet: `now`, or ISO 8601.
        seed: Seed of the split, the training and the attacks.
        reason: Why this run was started; stands in the reports.
    """
    state = gate(compare(register(train(open_hardening(monitor, window_start, as_of, seed, reason)))))
    done = close(state)
    if state.passed:
        return promote(monitor=monitor, version=state.version, expected_epoch=state.epoch)
    return done
