"""Flows that are small enough to deploy and run in a test."""

import os
import time
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact


@flow(name="small")
def small(monitor: str, seed: int = 0, note: str = "default") -> str:
    """Say where we run.

    Args:
        monitor: name of the monitor.
        seed: any number.
        note: any text.
    """
    create_markdown_artifact(f"{monitor} {seed} {note} home={os.environ.get('REVET_HOME')}", key="small-note")
    return str(Path.cwd())


@flow(name="slow")
def slow(monitor: str, seconds: float = 600.0) -> None:
    """Take a while, so that a test can interrupt it."""
    del monitor
    time.sleep(seconds)
