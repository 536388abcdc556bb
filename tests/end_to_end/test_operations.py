"""What happens to ledger, MLflow run and lease when a flow run is cancelled in the UI, or its process is killed."""

from __future__ import annotations

import os
import signal
import uuid
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.end_to_end.town import MARKS, MONITOR, SEED, other_recipe, wait_until

pytestmark = MARKS
ENDLESS = {"epochs": 1000}
TRAINING = "screen and train a challenger"


def step_of(town, run):
    """Return the ledger's step of a flow run, or None."""
    from sqlalchemy import select

    from registry.ledger.tables import step

    with town.loop.ledger.read() as connection:
        return connection.execute(select(step).where(step.c.flow_run_id == run)).one_or_none()


def is_training(town, run):
    wanted = {"flow_runs": {"id": {"any_": [run]}}, "task_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    return any(one["name"].startswith(TRAINING) for one in town.call("POST", "/task_runs/filter", wanted))


def harden_for_long(town):
    """Start a hardening that would take an hour, and return its flow run's id once it trains."""
    run = town.start("harden", monitor=MONITOR, seed=SEED, reason="a long one")
    wait_until(lambda: is_training(town, run), "training")
    assert step_of(town, run).state == "RUNNING"
    assert is_lease_held(town, run)
    return run


def is_lease_held(town, run):
    from sqlalchemy import select

    from registry.ledger.engine import database_time
    from registry.ledger.tables import lease

    with town.loop.ledger.read() as connection:
        now = database_time(connection)
        held = (lease.c.holder == run) & (lease.c.expires_at > now)
        return connection.execute(select(lease).where(held)).first() is not None


def mlflow_runs(town, run):
    """Return status by kind of the MLflow runs that a flow run opened, nested ones included."""
    client = town.loop.tracker.client
    parent = step_of(town, run).mlflow_run_id
    experiment = client.get_run(parent).info.experiment_id
    nested = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    return [client.get_run(parent).info.status, *(one.info.status for one in nested)]


def settled(town, run, status):
    """Wait until nothing of the flow run is open any more."""
    wait_until(lambda: step_of(town, run).state == "ABORTED", "the ledger's step is aborted")
    wait_until(lambda: not is_lease_held(town, run), "the lease is free")
    wait_until(lambda: set(mlflow_runs(town, run)) == {status}, f"its MLflow runs are {status}")


def process_of(run):
    """Return the process of a flow run, which the worker started."""
    wanted = f"PREFECT__FLOW_RUN_ID={run}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    return int(entry.name)
    return None


def test_cancelling_a_hardening_aborts_its_step_ends_its_mlflow_run_and_frees_its_lease(town):
    with other_recipe(town, **ENDLESS):
        run = harden_for_long(town)
        state = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": False}  # what the UI's button sends
        town.call("POST", f"/flow_runs/{run}/set_state", state)
        assert town.finish(run).state == "CANCELLED", town.log_of(run)
        settled(town, run, "KILLED")
    assert process_of(run) is None


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the process of a flow run through /proc")
def test_after_kill_9_in_the_middle_of_a_hardening_the_next_one_proceeds(town):
    with other_recipe(town, **ENDLESS):
        run = harden_for_long(town)
        os.kill(wait_until(lambda: process_of(run), "its process"), signal.SIGKILL)
        assert town.finish(run).state == "CRASHED", town.log_of(run)
        settled(town, run, "FAILED")
    following = town.run("harden", monitor=MONITOR, seed=SEED, reason="after the crash")
    assert step_of(town, following).state == "DONE"
    assert town.loop.head(MONITOR).version == 1  # a person must approve in this monitor


def test_the_hook_finds_the_workspace_of_a_run_in_a_worker_that_does_not_know_it(town, tmp_path, monkeypatch):
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect.states import Cancelled

    from flows.hooks import clean_up
    from registry import leases
    from registry.queues import put_step

    run = str(uuid.uuid4())
    put_step(town.loop.ledger, MONITOR, run, "harden", state="RUNNING", flow_run_id=run)
    leases.acquire(town.loop.ledger, MONITOR, "test", run, 600)
    for key in [name for name in os.environ if name.startswith("REVET_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("REVET_MLFLOW_TRACKING_URI", town.mlflow)
    monkeypatch.chdir(tmp_path)
    deployment = town.call("GET", f"/deployments/name/harden/{MONITOR}")["id"]
    seen = SimpleNamespace(id=run, deployment_id=deployment, parameters={"monitor": MONITOR})
    with temporary_settings({PREFECT_API_URL: town.api}):
        clean_up(SimpleNamespace(name="harden"), seen, Cancelled())
    assert step_of(town, run).state == "ABORTED"
    assert not is_lease_held(town, run)
    assert list(tmp_path.iterdir()) == []
