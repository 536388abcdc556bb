"""Deployments: make what is missing on the Prefect server, and carry over what people changed there.

Schedules, pauses and parameters belong to whoever edits them in the UI; the entry point, the form and the addresses
belong to the code. `deploy` therefore reads the server first and updates only the latter.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

import yaml

from domain.errors import ConfigError, ServiceUnavailable
from domain.monitor import Monitor, ScheduleSettings
from domain.names import deployment_name
from domain.settings import Settings
from flows.local.environment import QUIET, SAFE, settings_environment
from flows.local.work_pools import ensure_work_pool

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.deployments.runner import RunnerDeployment

MONITOR_FLOWS = (
    "flows.bootstrapping.bootstrap",
    "flows.reevaluation.reevaluate",
    "flows.hardening_flow.harden",
    "flows.promotions.promote",
    "flows.promotions.rollback",
)
RECONCILE = "flows.reconciliation.reconcile"
ALL_MONITORS = "all"
EVERY_QUARTER = ScheduleSettings(flow="reconcile", cron="*/15 * * * *", timezone="UTC")

Outcome = Literal["created", "updated", "unchanged", "reset"]


@dataclass(frozen=True)
class Target:
    """One deployment as the monitor file wants it."""

    flow: Flow[..., Any]
    monitor: str
    parameters: dict[str, Any]
    schedules: tuple[ScheduleSettings, ...] = ()

    @property
    def name(self) -> str:
        """`<flow>/<monitor>`."""
        return deployment_name(self.flow.name, self.monitor)


@dataclass(frozen=True)
class Deployed:
    """What happened to one deployment."""

    name: str
    id: str
    outcome: Outcome
    schedules: tuple[str, ...]
    paused: bool


def import_flow(entrypoint: str) -> Flow[..., Any]:
    """Return the flow at a module path such as `flows.reevaluation.reevaluate`."""
    module, _, name = entrypoint.rpartition(".")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def targets_of(monitors: Sequence[Monitor]) -> list[Target]:
    """Return the deployments of `monitors`: every flow for each, and one `reconcile/all`.

    Raises:
        ConfigError: two monitors bear the same name, or one is called `all`.
    """
    names = [monitor.name for monitor in monitors]
    for name in names:
        if names.count(name) > 1 or name == ALL_MONITORS:
            raise ConfigError(f"monitor name {name!r} is taken; names are unique and not {ALL_MONITORS!r}: rename it")
    targets = []
    for entrypoint in MONITOR_FLOWS:
        flow = import_flow(entrypoint)
        for monitor in monitors:
            known = {"monitor": monitor.name, "seed": monitor.seed}
            accepted = inspect.signature(flow.fn).parameters
            schedules = tuple(schedule for schedule in monitor.schedules if schedule.flow == flow.name)
            chosen = {key: value for key, value in known.items() if key in accepted}
            targets.append(Target(flow, monitor.name, chosen, schedules))
    wished = [schedule for monitor in monitors for schedule in monitor.schedules if schedule.flow == "reconcile"]
    return [
        *targets,
        Target(import_flow(RECONCILE), ALL_MONITORS, {}, tuple(dict.fromkeys(wished)) or (EVERY_QUARTER,)),
    ]


def deploy(
    settings: Settings,
    monitors: Sequence[Monitor] = (),
    *,
    reset_schedules: bool = False,
    targets: Sequence[Target] | None = None,
) -> list[Deployed]:
    """Bring the deployments of `monitors` (or exactly `targets`) to the server, and return what was done.

    Args:
        settings: names the server and the work pool; its addresses are handed to the flow runs.
        monitors: monitors to deploy.
        reset_schedules: put schedules, pauses and parameters back to the monitor file's.
        targets: deployments to bring instead of those of `monitors`.

    Raises:
        ConfigError: no server is configured.
        ServiceUnavailable: the server does not answer.
    """
    if not settings.prefect_api_url:
        raise ConfigError("no Prefect server is configured; start one with `revet up` or set REVET_PREFECT_API_URL")
    ensure_work_pool(settings.prefect_api_url, settings.work_pool)
    with _server(settings):
        wanted = targets_of(monitors) if targets is None else targets
        return [_bring(target, settings, reset_schedules=reset_schedules) for target in wanted]


def export_yaml(
    settings: Settings, monitors: Sequence[Monitor] = (), *, targets: Sequence[Target] | None = None
) -> str:
    """Return the same deployments as a `prefect.yaml`, for those who deploy with `prefect deploy --all`."""
    wanted = targets_of(monitors) if targets is None else targets
    deployments = []
    for target in wanted:
        made = _runner_deployment(target, settings)
        deployments.append(
            {
                "name": made.name,
                "version": made.version,
                "tags": made.tags,
                "description": made.description or "",
                "entrypoint": made.entrypoint,
                "parameters": target.parameters,
                "schedules": [
                    {"cron": one.cron, "timezone": one.timezone, "active": one.active} for one in target.schedules
                ],
                "work_pool": {"name": settings.work_pool, "job_variables": made.job_variables},
            }
        )
    content = {"name": "revet", "pull": [], "deployments": deployments}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


@contextmanager
def _server(settings: Settings) -> Iterator[None]:
    """Point Prefect's clients at the workspace's server for the time of the block."""
    import httpx
    from prefect.settings import PREFECT_API_URL, temporary_settings

    try:
        with temporary_settings({PREFECT_API_URL: settings.prefect_api_url}):
            yield
    except httpx.HTTPError as error:
        raise ServiceUnavailable(f"Prefect at {settings.prefect_api_url} did not take a deployment: {error}") from error


def _code_version() -> str:
    try:
        return version("revet")
    except PackageNotFoundError:
        return "0"


def job_environment(settings: Settings) -> dict[str, str]:
    """Return the variables of a flow run: absolute addresses, telemetry off, no secrets.

    The addresses of the two servers are the worker's to know, and are left out: they move when a local one starts anew.
    """
    own = settings_environment(settings)
    for key in ("REVET_PREFECT_API_URL", "REVET_MLFLOW_TRACKING_URI"):
        own.pop(key, None)
    return {**QUIET, **SAFE, **own}


def _runner_deployment(target: Target, settings: Settings) -> RunnerDeployment:
    from prefect.schedules import Cron
    from prefect.types.entrypoint import EntrypointType

    return target.flow.to_deployment(  # type: ignore[return-value]
        name=target.monitor,
        entrypoint_type=EntrypointType.MODULE_PATH,
        parameters=target.parameters,
        schedules=[Cron(one.cron, timezone=one.timezone, active=one.active) for one in target.schedules],
        tags=[f"monitor:{target.monitor}", f"kind:{target.flow.name}"],
        version=_code_version(),
        job_variables={"env": job_environment(settings)},
    )


def _bring(target: Target, settings: Settings, *, reset_schedules: bool) -> Deployed:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    made = _runner_deployment(target, settings)
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(target.name)
        except ObjectNotFound:
            made.apply(work_pool_name=settings.work_pool)
            return _described(client.read_deployment_by_name(target.name), target.name, "created")
        changes = _changes(found, made, settings.work_pool)
        if reset_schedules:
            changes |= _reset(made)
        if changes:
            from prefect.client.schemas.actions import DeploymentUpdate

            client.update_deployment(found.id, DeploymentUpdate(**changes))
            found = client.read_deployment_by_name(target.name)
        outcome: Outcome = "reset" if reset_schedules else "updated" if changes else "unchanged"
        return _described(found, target.name, outcome)


def _changes(found: DeploymentResponse, made: RunnerDeployment, pool: str) -> dict[str, Any]:
    """Return what the code owns and the server has otherwise; schedules and the pause are never among it."""
    schema = made._parameter_openapi_schema.model_dump(exclude_unset=True)  # noqa: SLF001 - Prefect hides the form
    known = schema.get("properties", {})
    kept = {key: value for key, value in found.parameters.items() if key in known}
    variables = found.job_variables or {}
    wanted = {
        "entrypoint": made.entrypoint,
        "version": made.version,
        "description": made.description,
        "tags": [*(found.tags or []), *(tag for tag in made.tags if tag not in (found.tags or []))],
        "parameters": {**made.parameters, **kept},
        "job_variables": {**variables, "env": {**variables.get("env", {}), **made.job_variables["env"]}},
        "work_pool_name": pool,
    }
    changes = {key: value for key, value in wanted.items() if getattr(found, key) != value}
    if (found.parameter_openapi_schema or {}) != schema:
        changes["parameter_openapi_schema"] = schema
    return changes


def _reset(made: RunnerDeployment) -> dict[str, Any]:
    schedules = [{"schedule": one.schedule, "active": one.active, "slug": one.slug} for one in made.schedules or []]
    return {"schedules": schedules, "paused": False, "parameters": made.parameters}


def _described(found: DeploymentResponse, name: str, outcome: Outcome) -> Deployed:
    lines = []
    for one in found.schedules:
        rule = getattr(one.schedule, "cron", None) or getattr(one.schedule, "rrule", None)
        zone = getattr(one.schedule, "timezone", None) or "UTC"
        shown = str(rule or f"every {getattr(one.schedule, 'interval', '?')}")
        lines.append(f"{shown} {zone}" + ("" if one.active else " (off)"))
    return Deployed(name, str(found.id), outcome, tuple(lines), bool(found.paused))
