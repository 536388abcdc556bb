"""Reconcile: let MLflow's aliases show the ledger's heads, and start what triggers ask for."""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow, task

from flows.jobs import promoting as job


@task(name="show the heads", retries=2, retry_delay_seconds=[2, 10])
def show_heads(policy: str) -> list[dict[str, Any]]:
    """Compare every alias with its head."""
    return job.reconcile_all(policy)


@task(name="start what is waiting")
def dispatch() -> list[dict[str, Any]]:
    """Start the flow run of every waiting trigger row, once."""
    return job.dispatch()


@flow(name="reconcile", flow_run_name="reconcile")
def reconcile(policy: Literal["revert", "adopt"] = "revert") -> dict[str, Any]:
    """Repair aliases that do not show the ledger's champion, and dispatch waiting triggers.

    Args:
        policy: What to do with an alias that somebody moved by hand: put it back, or adopt it as a promotion.
    """
    started = dispatch()  # first, for it needs no MLflow: what is waiting starts even if no alias can be read
    return {"aliases": show_heads(policy), "started": started}
