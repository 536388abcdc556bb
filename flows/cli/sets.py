"""Commands around data: init drafts a monitor from a labelled file, labels import, data list, import and fetch."""

# ruff: noqa: FBT002 - the flags of a command line

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from domain.errors import ConfigError
from flows.cli.output import AsJson, console, print_json, print_rows
from flows.cli.workspace import settings_of


def init(
    context: typer.Context,
    data: Annotated[Path, typer.Option("--data", help="Parquet or CSV file, one row a sample.")],
    label: Annotated[str, typer.Option("--label", help="Column with 1 for malicious, 0 for benign.")],
    name: Annotated[str, typer.Option(help="Name of the monitor; default: that of the file.")] = "",
    family: Annotated[str, typer.Option(help="Column with the threat family.")] = "",
    cluster: Annotated[str, typer.Option(help="Column of rows that belong together: host, campaign, account.")] = "",
    time: Annotated[str, typer.Option(help="Column with the event time.")] = "",
    zone: Annotated[str, typer.Option(help="Time zone of the daily schedule.")] = "UTC",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an earlier draft.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draft a feature space and a monitor from your own labelled file; then correct both and run `revet up`."""
    from samples.drafting import draft_feature_space, draft_monitor, read_frame

    settings = settings_of(context)
    frame = read_frame(data)
    chosen = name or "".join(each if each.isalnum() else "-" for each in data.stem.lower()).strip("-")
    special = [column for column in (family, cluster, time) if column]
    space = draft_feature_space(frame, label=label, name=chosen, exclude=special)
    monitor = draft_monitor(
        frame,
        label=label,
        name=chosen,
        dataset=str(data.resolve()),
        feature_space=f"../spaces/{chosen}.yaml",
        family=family,
        cluster=cluster,
        time=time,
        zone=zone,
    )
    files = {settings.spaces_dir / f"{chosen}.yaml": space, settings.monitors_dir / f"{chosen}.yaml": monitor}
    if existing := [str(path) for path in files if path.exists() and not force]:
        raise ConfigError(f"{existing[0]} exists; choose another --name, or --force to overwrite it")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if as_json:
        print_json({"monitor": chosen, "files": list(files), "rows": len(frame)})
        return
    console.print(f"{len(frame)} rows. Please read the comments in these files and correct them, in this order:")
    for path in files:
        console.print(f"  {path}", markup=False, soft_wrap=True)
    console.print("then: revet up")


def labels_import(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Parquet or CSV: sample_id, value, kind, time and optional columns.")],
    as_json: AsJson = False,
) -> None:
    """Add an analyst's labels to the sample store: late, corrected and contradicting ones are welcome.

    Columns: sample_id, value (0 benign, 1 malicious), kind (alert, audit or feed), time (with zone); optional labeller,
    trust (0 to 1), inclusion_probability (needed for audit), family. All are written, or none.
    """
    from samples.drafting import read_frame
    from samples.store import SampleStore

    store = SampleStore(settings_of(context).store_url).create()
    written = store.write_labels(read_frame(file))
    if as_json:
        print_json({"file": file, "labels": written})
    else:
        console.print(f"{written} labels from {file}")


def data_list(
    context: typer.Context,
    as_json: AsJson = False,
) -> None:
    """Show the sets of the catalogue: what they are, their licence, and which are on this machine."""
    from samples.catalogue.catalogue import list_datasets

    folder = settings_of(context).data_dir
    rows = [
        {
            "name": card.name,
            "title": card.title,
            "feature space": card.feature_space,
            "rows": sum(item.rows for item in card.files),
            "licence": card.licence,
            "here": all((folder / item.name).is_file() for item in card.files),
        }
        for card in list_datasets()
    ]
    print_rows(f"Data sets ({folder})", rows, as_json=as_json)


def data_import(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name in `revet data list`.")],
    folder: Annotated[Path, typer.Argument(help="Folder that holds the set's files.")],
    as_json: AsJson = False,
) -> None:
    """Check a set's files against the catalogue and copy them into the data folder."""
    from samples.catalogue.catalogue import import_dataset

    written = import_dataset(name, folder, settings_of(context).data_dir)
    _print_files(name, written, as_json=as_json)


def data_fetch(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name in `revet data list`.")],
    mirror: Annotated[str, typer.Option(help="Address that serves the files under their names.")] = "",
    as_json: AsJson = False,
) -> None:
    """Download a set from its public address, check it and put it into the data folder."""
    from samples.catalogue.catalogue import fetch_dataset

    written = fetch_dataset(name, settings_of(context).data_dir, base_url=mirror)
    _print_files(name, written, as_json=as_json)


def _print_files(name: str, files: list[Path], *, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "files": files})
    else:
        console.print(f"{name}: " + ", ".join(str(path) for path in files), markup=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(rich_help_panel="Start")(init)
    data = typer.Typer(help="Benchmark sets of the catalogue.", no_args_is_help=True)
    for name, command in (("list", data_list), ("import", data_import), ("fetch", data_fetch)):
        data.command(name)(command)
    labels = typer.Typer(help="Labels of production samples.", no_args_is_help=True)
    labels.command("import")(labels_import)
    app.add_typer(data, name="data", rich_help_panel="Data")
    app.add_typer(labels, name="labels", rich_help_panel="Data")
