"""Look at everything that Revet needs on this machine, and say what to do where something is missing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from domain.errors import RevetError, ServiceUnavailable
from domain.settings import Settings, mask
from flows.local.ports import is_listening
from flows.local.probes import answers
from flows.local.work_pools import online_workers, read_work_pool

Outcome = Literal["ok", "warning", "fault"]
NEEDED_GIB = 2.0
SUPPORTED = ((3, 11), (3, 13))


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, and what to do about it."""

    subject: str
    outcome: Outcome
    detail: str
    remedy: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Return what was found, in the order in which the parts depend on each other; nothing is changed."""
    looks: list[Callable[[Settings], Finding]] = [
        _python,
        _home,
        _disk,
        _ledger,
        _data,
        _prefect,
        _pool,
        _worker,
        _mlflow,
    ]
    findings = []
    for look in looks:
        try:
            findings.append(look(settings))
        except (RevetError, OSError) as error:
            findings.append(Finding(look.__name__.strip("_"), "fault", str(error)))
    return findings


def is_healthy(findings: list[Finding]) -> bool:
    """Return whether nothing is at fault; warnings are allowed."""
    return all(finding.outcome != "fault" for finding in findings)


def _python(_settings: Settings) -> Finding:
    shown = ".".join(str(part) for part in sys.version_info[:3])
    if SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
        return Finding("python", "ok", shown)
    return Finding("python", "fault", shown, "use Python 3.11, 3.12 or 3.13")


def _home(settings: Settings) -> Finding:
    if not settings.home.exists():
        return Finding("home", "warning", f"{settings.home} does not exist yet", "make it with `revet init`")
    if not os.access(settings.home, os.W_OK):
        return Finding("home", "fault", f"{settings.home} is not writable", "choose another with --home")
    monitors = len(list(settings.monitors_dir.glob("*.yaml")))
    return Finding("home", "ok", f"{settings.home}, {monitors} monitor files")


def _disk(settings: Settings) -> Finding:
    folder = next(each for each in (settings.home, *settings.home.parents) if each.exists())
    free = shutil.disk_usage(folder).free / 2**30
    if free < NEEDED_GIB:
        return Finding("disk", "fault", f"{free:.1f} GiB free", f"free at least {NEEDED_GIB:.0f} GiB")
    return Finding("disk", "ok", f"{free:.1f} GiB free")


def _ledger(settings: Settings) -> Finding:
    from registry.ledger.engine import Ledger

    shown = mask(settings.ledger_url)
    path = settings.ledger_url.removeprefix("sqlite:///")
    if path != settings.ledger_url and not os.path.exists(path):  # noqa: PTH110 - a URL's path, not ours to open
        return Finding("ledger", "warning", f"{shown} does not exist yet", "it is made by the first run")
    try:
        current, newest = Ledger(settings.ledger_url).revision()
    except RevetError:
        raise
    except Exception as error:
        raise ServiceUnavailable(f"{shown} cannot be opened: {type(error).__name__}: {error}") from error
    if current != newest:
        return Finding("ledger", "warning", f"{shown} is at revision {current or 'none'}", "the next run upgrades it")
    return Finding("ledger", "ok", f"{shown}, revision {current}")


def _data(settings: Settings) -> Finding:
    if settings.data_dir.is_dir():
        return Finding("data", "ok", str(settings.data_dir))
    remedy = "import sets with `revet data import`, or use the built-in simulator"
    return Finding("data", "warning", f"{settings.data_dir} does not exist", remedy)


def _prefect(settings: Settings) -> Finding:
    api = settings.prefect_api_url
    if not api:
        taken = " (port 4200 is taken; `revet up` takes a free one)" if is_listening(4200) else ""
        return Finding("prefect", "warning", f"no server is configured{taken}", "start one with `revet up`")
    if answers(f"{api}/health"):
        return Finding("prefect", "ok", api)
    return Finding("prefect", "fault", f"{api} does not answer", "start it with `revet up`")


def _pool(settings: Settings) -> Finding:
    if not settings.prefect_api_url:
        return Finding("work pool", "warning", "no Prefect server to ask", "start one with `revet up`")
    found = read_work_pool(settings.prefect_api_url, settings.work_pool)
    if found is None:
        return Finding("work pool", "warning", f"{settings.work_pool!r} does not exist", "make it with `revet deploy`")
    if found.get("is_paused"):
        return Finding("work pool", "warning", f"{settings.work_pool!r} is paused", "resume it in the Prefect UI")
    return Finding("work pool", "ok", f"{settings.work_pool!r} of type {found['type']}")


def _worker(settings: Settings) -> Finding:
    if not settings.prefect_api_url:
        return Finding("worker", "warning", "no Prefect server to ask", "start one with `revet up`")
    names = online_workers(settings.prefect_api_url, settings.work_pool)
    if names:
        return Finding("worker", "ok", ", ".join(names))
    remedy = f"start `revet up`, or `prefect worker start --type process --pool {settings.work_pool}`"
    return Finding("worker", "warning", "none is online: runs wait", remedy)


def _mlflow(settings: Settings) -> Finding:
    uri = settings.mlflow_tracking_uri
    if not uri:
        return Finding("mlflow", "warning", "no server is configured", "start one with `revet up`")
    if not uri.startswith("http") or answers(f"{uri}/health"):
        return Finding("mlflow", "ok", mask(uri))
    return Finding("mlflow", "fault", f"{mask(uri)} does not answer", "start it with `revet up`")
