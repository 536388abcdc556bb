"""Bootstrap: from a labelled data set to the first champion, its baseline and its anchor."""

from __future__ import annotations

from typing import Any

from prefect import flow, task

from flows.hooks import clean_up
from flows.jobs import baseline as job
from flows.steps.state import Run


@task(name="open the run")
def open_run(monitor: str, seed: int) -> Run:
    """Record the monitor file and open the MLflow run."""
    return job.open_bootstrap(monitor, seed)


@task(name="prepare the benchmark", retries=1, retry_delay_seconds=5)
def prepare(run: Run) -> dict[str, str]:
    """Split the data set by cluster and store every part under its digest."""
    return job.prepare(run)


@task(name="train the first detector")
def train(run: Run, parts: dict[str, str]) -> str:
    """Train on the stored parts (named, so that it waits for them); returns the address of the detector's files."""
    del parts
    return job.train(run)


@task(name="measure the baseline")
def measure(run: Run, detector: str) -> str:
    """Measure it clean and under attack; returns the address of the report."""
    return job.measure(run, detector)


@task(name="register and make it champion", retries=2, retry_delay_seconds=[2, 10])
def register(run: Run, detector: str, report: str) -> dict[str, Any]:
    """Register version 1, make it champion and anchor, publish what was measured."""
    return job.register(run, detector, report)


@flow(
    name="bootstrap", flow_run_name="bootstrap-{monitor}",
    on_failure=[clean_up], on_cancellation=[clean_up], on_crashed=[clean_up],
)  # fmt: skip
def bootstrap(monitor: str, seed: int = 0) -> dict[str, Any]:
    """Train, measure and promote the first champion of a monitor. A second run changes nothing.

    Args:
        monitor: Name of the monitor, as in its file.
        seed: Seed of the split, the training and the attacks.
    """
    run = open_run(monitor, seed)
    parts = prepare(run)
    detector = train(run, parts)
    report = measure(run, detector)
    return register(run, detector, report)
