"""Commands that bring Revet up: demo, up, deploy, down."""

# ruff: noqa: FBT002 - the flags of a command line

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from domain.errors import ConfigError, ServiceUnavailable
from domain.monitor import Monitor
from domain.names import deployment_name
from domain.settings import Settings, load_settings
from flows.cli.output import AsJson, console, notes, print_json, print_rows
from flows.cli.workspace import monitors_of, open_ledger, settings_of

if TYPE_CHECKING:
    from flows.local.stack import Stack

WATCH_SECONDS = 5.0


def demo(
    context: typer.Context,
    data: Annotated[str, typer.Option(help="simulator, nsl-kdd, phishtank or url-phishing.")] = "simulator",
    scenario: Annotated[
        str, typer.Option(help="standard, null, label-outage, poison or benign-drift: what happens to the traffic.")
    ] = "standard",
    seed: Annotated[int, typer.Option(min=0, help="Seed of traffic, training and attacks.")] = 7,
    fast: Annotated[bool, typer.Option("--fast", help="Smaller days and shorter training.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the servers running, to look around.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the whole loop once on this machine: healthy, campaign, degraded, hardened, promoted, healthy again.

    Starts its own Prefect server, worker and MLflow server on free ports, ignores your PREFECT_* and MLFLOW_* settings,
    and keeps everything under its own home.
    """
    from flows.demo.run import run_demo

    home = (context.obj or {}).get("home", Path(".revet") / "demo")
    data_dir = (context.obj or {}).get("data_dir")
    if data != "simulator":  # the sets of the workspace around: the demonstration's own home is emptied each time
        data_dir = load_settings(data_dir=data_dir).data_dir
    code = run_demo(
        home=Path(home).resolve(),
        data_dir=data_dir,
        data=data,
        scenario=scenario,
        seed=seed,
        fast=fast,
        keep=keep,
        as_json=as_json,
    )
    if code:
        raise typer.Exit(code)


def up(
    context: typer.Context,
    reset_schedules: Annotated[bool, typer.Option("--reset-schedules", help="As in `revet deploy`.")] = False,
) -> None:
    """Keep Prefect, worker and MLflow up with schedules on, until Ctrl-C; starts only what is not configured."""
    from flows.deployments import deploy as bring
    from flows.local.stack import running_stack

    settings = _with_profile(settings_of(context))
    monitors = _own_or_shipped(settings)
    with running_stack(settings, isolated=False, progress=_say) as stack:
        _say("deploying")
        done = bring(stack.settings, monitors, reset_schedules=reset_schedules)
        _say("starting the worker")
        stack.start_worker()
        _bootstrap_new(stack.settings, monitors)
        print_rows("Deployments", [asdict(each) for each in done], as_json=False)
        console.print(f"Prefect  {stack.prefect_ui}\nMLflow   {stack.settings.mlflow_tracking_uri}", markup=False)
        console.print("Ctrl-C ends what was started here; schedules stay on the server.")
        _watch(stack)


def _own_or_shipped(settings: Settings) -> list[Monitor]:
    """Return the workspace's monitors, or the shipped one of the simulator for whoever only wants to look."""
    if any(settings.monitors_dir.glob("*.yaml")):
        return monitors_of(settings)
    _say(f"{settings.monitors_dir} holds no monitor: showing the built-in simulator; draft your own with `revet init`")
    return monitors_of(settings, ["simulator"])


def _bootstrap_new(settings: Settings, monitors: list[Monitor]) -> None:
    """Ask for a bootstrap run of every monitor that has no champion yet."""
    from flows.local.prefect_api import start_run
    from registry.heads import head

    ledger = open_ledger(settings)
    for monitor in monitors:
        if head(ledger, monitor.name) is None:
            start_run(settings.prefect_api_url, deployment_name("bootstrap", monitor.name), {"monitor": monitor.name})
            _say(f"{monitor.name} has no champion yet: a bootstrap run was asked for")


def _watch(stack: Stack) -> None:
    """Return never: start a worker that died anew, and end with an error when a server died."""
    while True:
        time.sleep(WATCH_SECONDS)
        dead = [child for child in stack.processes.children if child.process.poll() is not None]
        for child in dead:
            if child.name != "prefect-worker":
                raise ServiceUnavailable(f"{child.name} ended; its log is {child.log}:\n{child.last_lines()}")
            _say("the worker ended; starting another")
            stack.processes.children.remove(child)
            stack.start_worker()


def down(
    context: typer.Context,
    as_json: AsJson = False,
) -> None:
    """End the servers that a `revet demo --keep` or a killed `revet up` left running in this workspace."""
    from flows.local.stack import stop_kept

    ended = stop_kept(settings_of(context))
    if as_json:
        print_json({"ended": ended})
    else:
        console.print(f"ended: {', '.join(ended) or 'nothing was running'}")


def deploy(
    context: typer.Context,
    monitors: Annotated[list[str] | None, typer.Argument(help="Monitors; default: all of the workspace.")] = None,
    reset_schedules: Annotated[
        bool, typer.Option("--reset-schedules", help="Put schedules, pauses and parameters back to the monitor files'.")
    ] = False,
    export: Annotated[bool, typer.Option("--export", help="Print a prefect.yaml instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the deployments to the Prefect server; what was edited in its UI stays as it is."""
    from flows.deployments import deploy as bring
    from flows.deployments import export_yaml

    settings = _with_profile(settings_of(context))
    chosen = monitors_of(settings, monitors or ())
    if export:
        typer.echo(export_yaml(settings, chosen), nl=False)
        return
    if not settings.prefect_api_url:
        raise ConfigError("no Prefect server is configured; start one with `revet up` or set REVET_PREFECT_API_URL")
    done = bring(settings, chosen, reset_schedules=reset_schedules)
    print_rows("Deployments", [asdict(each) for each in done], as_json=as_json)


def _with_profile(settings: Settings) -> Settings:
    """Return the settings with the server of the active Prefect profile, where no other is named."""
    from flows.local.stack import is_configured

    if is_configured(settings, "prefect_api_url"):
        return settings
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if not url:
        return settings
    values = {key: getattr(settings, key) for key in type(settings).model_fields}
    return load_settings(**{**values, "prefect_api_url": str(url)})


def _say(line: str) -> None:
    notes.print(line, markup=False)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (demo, up, down, deploy):
        app.command(rich_help_panel="Start")(command)
