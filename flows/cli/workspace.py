"""The workspace that a command works on: its settings, its monitors, its ledger."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from domain.errors import ConfigError
from domain.monitor import Monitor, load_monitor
from domain.settings import Settings, load_settings

if TYPE_CHECKING:
    from registry.ledger.engine import Ledger


def settings_of(context: typer.Context, **more: Any) -> Settings:
    """Return the settings under the flags that stood before the command, and those in `more`."""
    given = {key: value for key, value in more.items() if value is not None}
    return load_settings(**{**(context.obj or {}), **given})


def monitors_of(settings: Settings, names: Sequence[str] = ()) -> list[Monitor]:
    """Return the monitors called `names`; without names every monitor file of the workspace.

    Raises:
        ConfigError: a file is wrong, a name is unknown, or the workspace has no monitor.
    """
    if names:
        from flows.wiring import open_loop

        loop = open_loop(settings)
        return [loop.monitor(name) for name in names]
    found = [load_monitor(path) for path in sorted(settings.monitors_dir.glob("*.yaml"))]
    if not found:
        raise ConfigError(
            f"{settings.monitors_dir} holds no monitor; draft one with `revet init`, or name a shipped one"
        )
    return found


def open_ledger(settings: Settings) -> Ledger:
    """Return the ledger of the workspace, upgraded."""
    from registry.ledger.engine import Ledger

    ledger = Ledger(settings.ledger_url)
    ledger.upgrade()
    return ledger


def require_prefect(settings: Settings) -> str:
    """Return the address of the Prefect API.

    Raises:
        ConfigError: none is configured and none was started.
    """
    if not settings.prefect_api_url:
        raise ConfigError("no Prefect server is configured; start one with `revet up` or set REVET_PREFECT_API_URL")
    return settings.prefect_api_url


def who() -> str:
    """Return the name of the person at the keyboard, for the audit log."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
