"""Who is running, for whom: the flow run's id, its page, and the monitor's collaborators."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from flows.wiring import Loop, open_loop


def now() -> datetime:
    """Return the time of this machine, aware and in UTC."""
    return datetime.now(UTC)


def flow_run_id() -> str:
    """Return the id of the outermost flow run that this code is part of; empty outside of Prefect."""
    from prefect.runtime import flow_run

    return str(flow_run.root_flow_run_id or flow_run.id or "")


def flow_run_url() -> str:
    """Return the page of the flow run in the Prefect UI; empty where there is none."""
    from prefect.settings import PREFECT_UI_URL

    page, identifier = PREFECT_UI_URL.value(), flow_run_id()
    return f"{page.rstrip('/')}/runs/flow-run/{identifier}" if page and identifier else ""


def opened() -> Loop:
    """Return the collaborators of the workspace that the environment names; one thread, so that a seed decides."""
    import torch

    torch.set_num_threads(int(os.environ.get("REVET_THREADS", "1")))
    return open_loop()
