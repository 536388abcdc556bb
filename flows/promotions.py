"""Promotion and rollback: the ledger decides, the alias follows."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, task
from pydantic import Field

from flows.jobs import promoting as job


@task(name="promote by compare-and-set", retries=2, retry_delay_seconds=[2, 10])
def move_forward(monitor: str, version: int, expected_epoch: int, approver: str) -> dict[str, Any]:
    """Move the head, then the alias."""
    return job.promote(monitor, version, expected_epoch, approver)


@task(name="roll back by compare-and-set", retries=2, retry_delay_seconds=[2, 10])
def move_back(monitor: str, to_version: int, reason: str, requested_by: str) -> dict[str, Any]:
    """Move the head back, then the alias."""
    return job.rollback(monitor, to_version, reason, requested_by)


@flow(name="promote", flow_run_name="promote-{monitor}-v{version}")
def promote(
    monitor: str,
    version: Annotated[int, Field(ge=0)] = 0,
    expected_epoch: Annotated[int, Field(ge=-1)] = -1,
    approver: str = "",
) -> dict[str, Any]:
    """Make a challenger that passed the gate the champion.

    Args:
        monitor: Name of the monitor, as in its file.
        version: Version to promote; 0 takes the last challenger that passed the gate.
        expected_epoch: Epoch that the head must be at; -1 takes the present one, provided that the champion which the
            gate compared with still reigns or this very promotion was made already.
        approver: Who approved it, where the policy asks for approval.
    """
    return move_forward(monitor, version, expected_epoch, approver)


@flow(name="rollback", flow_run_name="rollback-{monitor}")
def rollback(
    monitor: str, to_version: Annotated[int, Field(ge=0)] = 0, reason: str = "by hand", requested_by: str = "operator"
) -> dict[str, Any]:
    """Return to an earlier champion; the present one is quarantined.

    Args:
        monitor: Name of the monitor, as in its file.
        to_version: Version to return to; 0 takes the last champion that is not quarantined.
        reason: Why; stands in the history.
        requested_by: Who asked for it.
    """
    return move_back(monitor, to_version, reason, requested_by)
