"""Commands that act on a monitor: most run as Prefect flow runs; freeze is immediate."""

# ruff: noqa: FBT002 - the flags of a command line

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from domain.errors import ConfigError, RevetError
from domain.names import deployment_name
from domain.settings import Settings
from flows.cli.output import AsJson, console, notes, print_json
from flows.cli.workspace import open_ledger, require_prefect, settings_of, who

MonitorName = Annotated[str, typer.Argument(help="Name of the monitor.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end; exit 1 when the run fails.")]
Seconds = Annotated[float, typer.Option(min=1, help="Give up waiting after this many seconds.")]
HOUR = 3600.0


def _run(
    settings: Settings, flow: str, parameters: dict[str, Any], *, wait: bool, seconds: float, as_json: bool
) -> None:
    """Start a run of `flow` for the monitor in `parameters`, and see it through when asked to."""
    from flows.local.prefect_api import FlowRun, start_run, wait_for_run
    from flows.local.work_pools import online_workers

    api = require_prefect(settings)
    run = start_run(api, deployment_name(flow, parameters["monitor"]), parameters)
    link = f"{api.removesuffix('/api')}/runs/flow-run/{run.id}"
    notes.print(f"flow run {run.name}: {link}", markup=False)
    if not online_workers(api, settings.work_pool):
        notes.print(f"no worker is online in pool {settings.work_pool!r}: the run waits; start one with `revet up`")
    if wait:
        with notes.status(f"{flow} {parameters['monitor']}") as line:

            def show(found: FlowRun) -> None:
                line.update(f"{flow} {parameters['monitor']}: {found.state.lower()}")

            run = wait_for_run(api, run.id, seconds, show)
    result = {**asdict(run), "link": link}
    if as_json:
        print_json(result)
    else:
        console.print(f"{flow} {parameters['monitor']}: {run.state.lower()} {run.message}".rstrip(), markup=False)
    if wait and run.state != "COMPLETED":
        raise RevetError(f"flow run {run.name} ended as {run.state}: {run.message or 'no message'}; see {link}")


def reevaluate(
    context: typer.Context,
    monitor: MonitorName,
    as_of: Annotated[str, typer.Option(help="Judge as if it were this time: `now` or ISO 8601 with zone.")] = "now",
    window_start: Annotated[str, typer.Option(help="Only the window that starts here (ISO 8601 with zone).")] = "",
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random; default: the monitor's.")] = None,
    reason: Annotated[str, typer.Option(help="Stands in the verdict and the audit log.")] = "by hand",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing to the ledger.")] = False,
    wait: Wait = True,
    timeout: Seconds = HOUR,
    as_json: AsJson = False,
) -> None:
    """Pull, validate, measure, attack and judge now, without waiting for the schedule."""
    parameters: dict[str, Any] = {"monitor": monitor, "as_of": as_of, "window_start": window_start}
    parameters |= {"reason": reason, "dry_run": dry_run} | ({} if seed is None else {"seed": seed})
    _run(settings_of(context), "reevaluate", parameters, wait=wait, seconds=timeout, as_json=as_json)


def harden(
    context: typer.Context,
    monitor: MonitorName,
    reason: Annotated[str, typer.Option(help="Why: stands in the audit log and in MLflow.")] = "by hand",
    window_start: Annotated[str, typer.Option(help="Learn from the labelled rows of this window too.")] = "",
    as_of: Annotated[str, typer.Option(help="Labels known at this time: `now` or ISO 8601 with zone.")] = "now",
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the training; default: the monitor's.")] = None,
    wait: Wait = True,
    timeout: Seconds = 4 * HOUR,
    as_json: AsJson = False,
) -> None:
    """Train a challenger against the attacker and let the gate judge it; it is promoted only when it passes."""
    parameters: dict[str, Any] = {"monitor": monitor, "reason": reason, "window_start": window_start, "as_of": as_of}
    parameters |= {} if seed is None else {"seed": seed}
    _run(settings_of(context), "harden", parameters, wait=wait, seconds=timeout, as_json=as_json)


def promote(
    context: typer.Context,
    monitor: MonitorName,
    version: Annotated[int, typer.Argument(min=1, help="MLflow version of the challenger.")],
    wait: Wait = True,
    timeout: Seconds = HOUR,
    as_json: AsJson = False,
) -> None:
    """Make a version that passed the gate the champion; refused when the champion has changed since it was judged."""
    parameters = {"monitor": monitor, "version": version, "approver": who()}
    _run(settings_of(context), "promote", parameters, wait=wait, seconds=timeout, as_json=as_json)


def rollback(
    context: typer.Context,
    monitor: MonitorName,
    reason: Annotated[str, typer.Option(help="Why: stands in the audit log.")],
    to_version: Annotated[int, typer.Option(min=0, help="Default: the champion before this one.")] = 0,
    wait: Wait = True,
    timeout: Seconds = HOUR,
    as_json: AsJson = False,
) -> None:
    """Put the previous champion back, at once."""
    parameters = {"monitor": monitor, "reason": reason, "to_version": to_version, "requested_by": who()}
    _run(settings_of(context), "rollback", parameters, wait=wait, seconds=timeout, as_json=as_json)


def freeze(
    context: typer.Context,
    monitor: Annotated[str | None, typer.Argument(help="Only this monitor; without it everything.")] = None,
    reason: Annotated[str, typer.Option(help="Why automation stops: shown to everybody it stops.")] = "",
    off: Annotated[bool, typer.Option("--off", help="Let automation go on.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop all hardening and promotion, at once and until `revet freeze --off`; measuring goes on."""
    from registry.freezing import EVERYTHING, freezes, unfreeze
    from registry.freezing import freeze as stop

    if not off and not reason:
        raise ConfigError("a freeze needs a reason that others can read: add --reason 'why'")
    ledger = open_ledger(settings_of(context))
    scope = monitor or EVERYTHING
    if off:
        was = unfreeze(ledger, scope=scope, by=who())
        notes.print(f"{scope}: automation goes on" if was else f"{scope}: was not frozen")
    else:
        stop(ledger, scope=scope, reason=reason, by=who())
        notes.print(f"{scope}: automation is stopped")
    if as_json:
        print_json([asdict(each) for each in freezes(ledger)])


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (reevaluate, harden, promote, rollback, freeze):
        app.command(rich_help_panel="Act")(command)
