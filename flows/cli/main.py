"""The command `revet`: flags that hold for every command, and errors that a person can act on."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from domain.errors import (
    ArtifactError,
    AttackError,
    ConfigError,
    DataError,
    LedgerError,
    RevetError,
    ServiceUnavailable,
)
from flows.cli import acting, looking, sets, starting
from flows.cli.output import notes
from flows.local.environment import QUIET, SAFE

EXIT_CODES: tuple[tuple[type[RevetError], int], ...] = (
    (ConfigError, 2),
    (DataError, 3),
    (ServiceUnavailable, 4),
    (LedgerError, 5),
    (ArtifactError, 6),
    (AttackError, 7),
)

app = typer.Typer(
    name="revet",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help=(
        "Keeps a deployed AI threat detector trustworthy: pull, validate, measure drift, attack, harden, gate, promote."
        "\n\n"
        "Exit codes: 0 done, 1 a run failed or the verdict is not what was asked for, 2 configuration, 3 data, "
        "4 a server does not answer, 5 the ledger refuses, 6 artifact, 7 attack."
    ),
)


@app.callback()
def flags(
    context: typer.Context,
    home: Annotated[Path | None, typer.Option(help="Folder of the workspace; default: the nearest .revet.")] = None,
    ledger_url: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the ledger.")] = None,
    store_url: Annotated[str | None, typer.Option(help="SQLAlchemy URL of the sample store.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the benchmark sets.")] = None,
    prefect_api_url: Annotated[str | None, typer.Option(help="API of the Prefect server.")] = None,
    mlflow_tracking_uri: Annotated[str | None, typer.Option(help="MLflow server.")] = None,
    work_pool: Annotated[str | None, typer.Option(help="Prefect work pool.")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
) -> None:
    """Take the flags that beat environment, revet.yaml and defaults."""
    given = {
        "home": home,
        "ledger_url": ledger_url,
        "store_url": store_url,
        "data_dir": data_dir,
        "prefect_api_url": prefect_api_url,
        "mlflow_tracking_uri": mlflow_tracking_uri,
        "work_pool": work_pool,
        "log_level": log_level,
    }
    context.obj = {key: value for key, value in given.items() if value is not None}
    logging.basicConfig(level=log_level or "WARNING", format="%(levelname)s %(name)s: %(message)s")


for room in (starting, acting, looking, sets):
    room.register(app)


def exit_code(error: RevetError) -> int:
    """Return the exit status for `error`: one number per kind of remedy."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)


def main() -> None:
    """Run the command line; errors that Revet raises on purpose are printed without a traceback."""
    for key, value in {**QUIET, **SAFE}.items():
        os.environ.setdefault(key, value)
    try:
        app()
    except RevetError as error:
        notes.print(f"[bold red]{type(error).__name__}[/]: ", end="")
        notes.print(str(error), markup=False, highlight=False)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(130)
