"""Commands that only look: status, history, doctor, config show, schema, gc."""

# ruff: noqa: FBT002 - the flags of a command line

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from domain.errors import ConfigError
from domain.features import FeatureSpace
from domain.monitor import Monitor
from domain.settings import explain
from flows.cli.output import AsJson, console, print_json, print_rows, print_table
from flows.cli.workspace import open_ledger, settings_of

COLOURS = {"ok": "green", "warning": "yellow", "fault": "red"}


def status(
    context: typer.Context,
    monitor: Annotated[str | None, typer.Argument(help="Only this monitor.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show champion, last verdict and freezes of every monitor: is my detector still good?"""
    from registry.freezing import freezes
    from registry.heads import head
    from registry.reports import decisions
    from registry.versions import list_monitors

    ledger = open_ledger(settings_of(context))
    names = list_monitors(ledger)
    if monitor is not None and monitor not in names:
        raise ConfigError(f"monitor {monitor!r} is not in the ledger; it has {names or 'none: run `bootstrap` first'}")
    rows: list[dict[str, Any]] = []
    for name in [monitor] if monitor else names:
        champion = head(ledger, name)
        last = decisions(ledger, name, limit=1)
        decision = last[0].decision if last else None
        rows.append(
            {
                "monitor": name,
                "champion": champion.version if champion else None,
                "epoch": champion.epoch if champion else None,
                "verdict": decision.verdict if decision else None,
                "kind": decision.kind if decision else None,
                "window": decision.window_start if decision else None,
                "reasons": "; ".join(decision.reasons) if decision else None,
            }
        )
    frozen = [asdict(each) for each in freezes(ledger)]
    if as_json:
        print_json({"monitors": rows, "freezes": frozen})
        return
    print_rows("Monitors", rows, as_json=False, empty="none yet; run `revet up` and a `bootstrap` deployment")
    print_rows("Freezes", frozen, as_json=False, empty="none, automation is on")


def history(
    context: typer.Context,
    monitor: Annotated[str, typer.Argument(help="Name of the monitor.")],
    limit: Annotated[int, typer.Option(min=1, help="How many of each.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show every promotion, every judgement of the gate and every verdict, the newest first."""
    from registry.heads import history as promotions_of
    from registry.reports import decisions, gate_attempts
    from registry.versions import get_monitor

    ledger = open_ledger(settings_of(context))
    get_monitor(ledger, monitor)
    promotions = [asdict(each) for each in promotions_of(ledger, monitor)[:limit]]
    verdicts = [
        {
            "window": record.decision.window_start,
            "champion": record.decision.version,
            "verdict": record.decision.verdict,
            "kind": record.decision.kind,
            "action": record.decision.action,
            "reasons": "; ".join(record.decision.reasons),
            "flow_run": record.flow_run_id,
        }
        for record in decisions(ledger, monitor, limit=limit)
    ]
    judged = gate_attempts(ledger, monitor)[:limit]
    attempts: list[dict[str, Any]] = [
        {
            "at": each.at,
            "champion": each.decision.champion_version,
            "challenger": each.decision.challenger_version,
            "passed": each.decision.passed,
            "reasons": "; ".join(each.decision.reasons),
            "evidence": each.decision.evidence_digest,
        }
        for each in judged
    ]
    if as_json:
        print_json({"promotions": promotions, "gate": attempts, "verdicts": verdicts})
        return
    shown = ("at", "epoch", "kind", "from_version", "to_version", "approver", "state")
    print_table("Promotions", shown, [[each[key] for key in shown] for each in promotions])
    print_rows("Gate", [{**each, "evidence": each["evidence"][:12]} for each in attempts], as_json=False)
    print_rows("Verdicts", verdicts, as_json=False)


def doctor(
    context: typer.Context,
    as_json: AsJson = False,
) -> None:
    """Look at Python, disk, ledger, servers, pool and worker, and say what to do; exit 4 when something is at fault."""
    from flows.local.doctor import examine, is_healthy

    findings = examine(settings_of(context))
    if as_json:
        print_json([asdict(each) for each in findings])
    else:
        rows = [
            (each.subject, f"[{COLOURS[each.outcome]}]{each.outcome}[/]", each.detail, each.remedy) for each in findings
        ]
        print_table("Doctor", ("what", "outcome", "found", "remedy"), rows)
    if not is_healthy(findings):
        raise typer.Exit(4)


def config_show(
    context: typer.Context,
    as_json: AsJson = False,
) -> None:
    """Show every setting with its value, secrets masked, and where the value comes from."""
    rows = [{"setting": key, "value": value, "source": source} for key, value, source in explain(settings_of(context))]
    print_rows("Settings", rows, as_json=as_json)


def schema(
    kind: Annotated[Literal["monitor", "space"], typer.Argument(help="Which file format.")] = "monitor",
) -> None:
    """Print the JSON schema of a monitor file or a feature space, for editors that check YAML."""
    model = Monitor if kind == "monitor" else FeatureSpace
    print_json(model.model_json_schema())


def gc(
    context: typer.Context,
    delete: Annotated[bool, typer.Option("--delete", help="Delete; without it only show.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove stored content that nothing in the ledger refers to; never what a report, window or promotion names."""
    from registry.content import ContentStore
    from registry.retention import gc as collect

    settings = settings_of(context)
    found = collect(open_ledger(settings), ContentStore(settings.content_dir), dry_run=not delete)
    if as_json:
        print_json(asdict(found))
        return
    verb = "deleted" if delete else "would be deleted (repeat with --delete)"
    console.print(f"{len(found.digests)} files, {found.bytes / 2**20:.1f} MiB {verb}; {found.kept} kept")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (status, history, doctor, schema, gc):
        app.command(rich_help_panel="Look")(command)
    config = typer.Typer(help="Settings of the workspace.", no_args_is_help=True)
    config.command("show")(config_show)
    app.add_typer(config, name="config", rich_help_panel="Look")
