"""What one run of a flow carries from task to task: names, times and digests, never rows."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class State(BaseModel):
    """Base: frozen, so that a task can only answer with a new value."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Run(State):
    """One run of a flow for one monitor.

    Attributes:
        run_key: what makes the run idempotent in the ledger.
        mlflow_run_id: the parent run that everything is logged under; empty in a dry run.
    """

    monitor: str
    kind: str
    run_key: str
    flow_run_id: str
    mlflow_run_id: str
    seed: int
    reason: str
    dry_run: bool = False


class WindowRun(State):
    """The window that a re-evaluation judges; `due` is False when there is none.

    Attributes:
        version, epoch: of the champion that is judged; if another reigns before the end, the run is refused.
    """

    run: Run
    due: bool
    as_of: datetime
    start: datetime | None = None
    end: datetime | None = None
    revision: int = 0
    rows: int = 0
    quarantined: int = 0
    pulled: int = 0
    version: int = 0
    epoch: int = 0


class Measurements(State):
    """Addresses of everything that was measured on one window."""

    version: int
    drift: str = ""
    production: str = ""
    benchmark: str = ""
    window_robustness: str = ""
    labelled: str = ""


class Judged(State):
    """How a re-evaluation ended."""

    monitor: str
    window_start: str
    verdict: str
    kind: str
    remedy: str
    action: bool
    reasons: tuple[str, ...]
    decision: str


class Challenger(State):
    """A challenger on its way: address of its files, version once it is registered, address of its evidence."""

    run: Run
    lease_token: int
    remedy: str
    window_start: str
    epoch: int
    champion_version: int
    as_of: datetime
    detector: str = ""
    version: int = 0
    digest: str = ""
    evidence: str = ""
    passed: bool = False
    reasons: tuple[str, ...] = ()
