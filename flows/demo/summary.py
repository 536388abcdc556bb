"""How a demonstration ended: what should have happened, what did, and where to look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from flows.demo.driver import Record

COLOURS = {"healthy": "green", "degraded": "red", "abstain": "yellow"}


@dataclass(frozen=True)
class Outcome:
    """Whether the loop did what the scenario asks for, and the reason in words."""

    passed: bool
    reason: str


def judge_outcome(record: Record) -> Outcome:
    """Return whether the loop did the right thing in this scenario."""
    verdicts = [day["verdict"] for day in record.days]
    kinds = [day["kind"] for day in record.days]
    if record.scenario == "standard":
        return _standard(record, verdicts)
    if record.head != 1 and record.scenario != "benign-drift":
        return Outcome(passed=False, reason=f"version {record.head} was promoted although nothing called for it")
    if record.scenario == "label-outage":
        blind = all(verdict == "abstain" for verdict in verdicts[1:])
        return Outcome(blind, "without labels Revet abstains" if blind else f"without labels it said {verdicts[1:]}")
    if record.scenario == "poison":
        right = kinds[1] == "data-fault"
        return Outcome(right, "poisoned labels were told from a change" if right else f"poison was called {kinds[1]!r}")
    if record.scenario == "benign-drift":
        right = all(kind in {"none", "benign-drift"} for kind in kinds)
        return Outcome(right, "benign drift was told from an attack" if right else f"it was called {kinds}")
    return Outcome(passed=True, reason="nothing was promoted, as it should be")


def _standard(record: Record, verdicts: list[str]) -> Outcome:
    wanted = ["healthy", "degraded", "healthy"]
    if record.head < 2:
        return Outcome(passed=False, reason=f"no challenger was promoted; the verdicts were {verdicts}")
    if verdicts != wanted:
        return Outcome(passed=False, reason=f"the verdicts were {verdicts} instead of {wanted}")
    return Outcome(passed=True, reason="healthy, degraded, hardened, proven, promoted, healthy again")


def print_summary(console: Console, record: Record, outcome: Outcome, *, kept: bool) -> None:
    """Print the days, the proof and the links."""
    table = Table(title=f"Revet on {record.data}, scenario {record.scenario}, seed {record.seed}", title_justify="left")
    for name in ("day", "what happened", "champion", "detection rate", "verdict", "kind", "promoted"):
        table.add_column(name)
    for day in record.days:
        colour = COLOURS[day["verdict"]]
        rate = "-" if day["detection_rate"] is None else f"{day['detection_rate']:.1%}"
        kind = "" if day["kind"] == "none" else day["kind"]
        promoted = f"v{day['promoted']}" if day["promoted"] else ""
        table.add_row(
            str(day["day"]), day["title"], f"v{day['champion']}", rate, f"[{colour}]{day['verdict']}[/{colour}]", kind,
            promoted,
        )  # fmt: skip
    console.print()
    console.print(table)
    if record.proof:
        console.print(_proof_table(record.proof))
    colour = "green" if outcome.passed else "red"
    console.print(f"[{colour}]{outcome.reason}[/{colour}] ({record.seconds:.0f} s)")
    for name, address in record.links.items():
        gone = "" if kept or name == "workspace" else "  (ended; `--keep` leaves it running)"
        console.print(f"  {name:10} {address}{gone}", soft_wrap=True)
    if kept:
        console.print(f"  end them:  revet --home {record.links['workspace']} down", soft_wrap=True)


def _proof_table(proof: dict[str, Any]) -> Table:
    """Return old and new champion side by side, on the last day."""
    table = Table(title="The last day: old and new champion on the same rows", title_justify="left")
    for name in ("", f"v{proof['old']}", f"v{proof['new']}", "difference (95 % interval)"):
        table.add_column(name)
    for title, name in (("detection rate, stored rows", "stored"), ("robust detection rate, source rows", "robust")):
        pair = proof[name]
        table.add_row(
            title, f"{pair['first']:.1%}", f"{pair['second']:.1%}",
            f"{pair['difference']:+.1%} ({pair['low']:+.1%} to {pair['high']:+.1%})",
        )  # fmt: skip
    old, new = proof["old_false_positives"], proof["new_false_positives"]
    table.add_row("realised false-positive rate", f"{old['value']:.2%}", f"{new['value']:.2%}", "")
    return table
