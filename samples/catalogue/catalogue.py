"""Data cards, and the frames behind them: found in a local folder, checked, imported or fetched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from domain.digests import digest_bytes
from domain.errors import ConfigError, CorruptFile, DataError, SchemaMismatch, ServiceUnavailable
from domain.features import NAME_PATTERN, describe_validation_error

DATA_DIR_VARIABLE = "REVET_DATA_DIR"
ColumnKind = Literal["number", "text", "time"]


class _Card(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataFile(_Card):
    """One Parquet file of a set: its part, digest, rows, and the columns that must be there, by kind."""

    part: str
    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    rows: int
    columns: dict[ColumnKind, tuple[str, ...]]
    url: str = ""


class LabelRule(_Card):
    """Which column tells, and which of its values (as text) mean benign."""

    column: str
    benign: tuple[str, ...]


class DatasetCard(_Card):
    """What a data set is, where it comes from, what it looks like and what to beware of."""

    name: str = Field(pattern=NAME_PATTERN)
    title: str
    feature_space: str
    address: str
    citation: str
    licence: str
    label: LabelRule
    family: str = ""
    cluster: str = ""
    checks: tuple[Literal["no-column-all-null", "both-classes"], ...]
    traps: tuple[str, ...]
    files: tuple[DataFile, ...]


@dataclass(frozen=True)
class Dataset:
    """A loaded set: rows with the columns of its card and `part`, and the card."""

    frame: pd.DataFrame
    card: DatasetCard


@cache
def list_datasets() -> tuple[DatasetCard, ...]:
    """Return the cards of all sets that ship with Revet.

    Raises:
        ConfigError: the shipped catalogue itself is wrong.
    """
    text = (resources.files("samples") / "catalogue" / "catalogue.yaml").read_text(encoding="utf-8")
    try:
        return tuple(DatasetCard.model_validate(entry) for entry in yaml.safe_load(text)["datasets"])
    except ValidationError as error:
        raise ConfigError(f"catalogue.yaml: {describe_validation_error(error)}") from error


def find_card(name: str) -> DatasetCard | None:
    """Return the card of the set `name`, or None."""
    return next((card for card in list_datasets() if card.name == name), None)


def data_folder(data_dir: Path | str | None) -> Path | None:
    """Return the folder with data: the argument, else the environment's `REVET_DATA_DIR`, else None."""
    chosen = str(data_dir or os.environ.get(DATA_DIR_VARIABLE, ""))
    return Path(chosen).expanduser().resolve() if chosen else None


def load_dataset(name: str, data_dir: Path | str | None = None) -> Dataset:
    """Return the rows of the catalogue set `name`, every file checked against its card.

    Raises:
        ConfigError: no such set, or a file is not there: says how to import it.
        CorruptFile: a file's digest differs, or it cannot be read.
        SchemaMismatch: a column is missing or of another kind.
    """
    card = _require(name)
    folder = data_folder(data_dir)
    missing = [item.name for item in card.files if folder is None or not (folder / item.name).is_file()]
    if missing:
        place = f"not in {folder}" if folder else f"and {DATA_DIR_VARIABLE} is not set"
        raise ConfigError(
            f"data set {name!r}: the files {missing} are {place}; get the set from {card.address} and run"
            f" `revet data import {name} FOLDER`, or set {DATA_DIR_VARIABLE}"
        )
    frames = [] if folder is None else [read_checked(folder / item.name, item, card) for item in card.files]
    return Dataset(pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(), card)


def read_checked(path: Path, item: DataFile, card: DatasetCard) -> pd.DataFrame:
    """Return the card's columns of the file at `path`, and `part`; checked for digest, schema, rows and checks.

    Raises:
        CorruptFile: the bytes differ from the card or are no Parquet.
        SchemaMismatch: a column is missing or of another kind.
        DataError: a check of the card fails.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorruptFile(f"{path} cannot be read: {error}") from error
    found = digest_bytes(data)
    if found != item.sha256:
        raise CorruptFile(
            f"{path}: SHA-256 is {found}, the catalogue says {item.sha256}; get the file again from {card.address}"
        )
    return check_frame(read_parquet(path), item, card, str(path))


def check_frame(frame: pd.DataFrame, item: DataFile, card: DatasetCard, origin: str) -> pd.DataFrame:
    """Return the card's columns of `frame` and `part`, after every check of the card.

    Raises:
        SchemaMismatch: a column is missing or of another kind.
        DataError: rows or a check differ.
    """
    kinds: dict[ColumnKind, Callable[[pd.Series], bool]] = {
        "number": pd.api.types.is_numeric_dtype,
        "text": lambda column: pd.api.types.is_string_dtype(column) or pd.api.types.is_object_dtype(column),
        "time": pd.api.types.is_datetime64_any_dtype,
    }
    for kind, names in item.columns.items():
        if missing := [name for name in names if name not in frame]:
            raise SchemaMismatch(f"{origin}: the columns {missing} are missing; the card of {card.name!r} needs them")
        if wrong := {name: str(frame[name].dtype) for name in names if not kinds[kind](frame[name])}:
            raise SchemaMismatch(f"{origin}: columns must be of kind {kind!r}, but have the types {wrong}")
    if len(frame) != item.rows:
        raise DataError(f"{origin}: {len(frame)} rows, the card of {card.name!r} says {item.rows}")
    kept = frame[[name for names in item.columns.values() for name in names]]
    if "no-column-all-null" in card.checks and (empty := [name for name in kept if bool(kept[name].isna().all())]):
        raise DataError(f"{origin}: the columns {empty} hold nothing but nulls")
    if "both-classes" in card.checks:
        benign = kept[card.label.column].astype(str).isin(card.label.benign)
        if bool(benign.all()) or not bool(benign.any()):
            raise DataError(f"{origin}: column {card.label.column!r} holds one class only")
    return kept.assign(part=item.part)


def read_parquet(path: Path) -> pd.DataFrame:
    """Return the Parquet file at `path`.

    Raises:
        CorruptFile: it is missing or no readable Parquet.
    """
    try:
        return pd.read_parquet(path)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise CorruptFile(f"{path} is no readable Parquet file: {error}") from error


def import_dataset(name: str, source: Path, data_dir: Path | str | None = None) -> list[Path]:
    """Check the files of a set in the folder `source`, copy them into the data folder and return their new paths.

    All files are checked before the first is copied; each appears under its name complete or not at all.

    Raises:
        ConfigError: unknown set, no data folder, or a file is missing in `source`.
        CorruptFile, SchemaMismatch, DataError: a file does not pass its card.
    """
    card, folder = _require(name), _require_folder(data_dir)
    if missing := [item.name for item in card.files if not (source / item.name).is_file()]:
        raise ConfigError(f"data set {name!r}: {source} lacks the files {missing}; get them from {card.address}")
    for item in card.files:
        read_checked(source / item.name, item, card)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for item in card.files:
        target, partial = folder / item.name, folder / f".{item.name}.partial"
        if target.resolve() != (source / item.name).resolve():
            shutil.copyfile(source / item.name, partial)
            partial.replace(target)
        written.append(target)
    return written


def fetch_dataset(name: str, data_dir: Path | str | None = None, *, base_url: str = "") -> list[Path]:
    """Download the files of a set, check them and return their paths; what is there already is not loaded again.

    Args:
        base_url: a mirror that serves the files under their names; by default the addresses on the card.

    Raises:
        ConfigError: unknown set, no data folder, or a file has no download address.
        ServiceUnavailable: the server does not answer or does not have the file.
        CorruptFile: the downloaded bytes differ from the card.
    """
    import pooch
    import requests

    card, folder = _require(name), _require_folder(data_dir)
    urls = {item.name: f"{base_url.rstrip('/')}/{item.name}" if base_url else item.url for item in card.files}
    if nowhere := sorted(file for file, url in urls.items() if not url):
        raise ConfigError(
            f"data set {name!r}: {nowhere} have no direct download; get the set from {card.address} and run"
            f" `revet data import {name} FOLDER`, or name a mirror"
        )
    written = []
    for item in card.files:
        try:
            path = pooch.retrieve(
                urls[item.name], known_hash=f"sha256:{item.sha256}", fname=item.name, path=folder,
                downloader=pooch.HTTPDownloader(timeout=60),
            )  # fmt: skip
        except requests.RequestException as error:
            raise ServiceUnavailable(f"{urls[item.name]} cannot be downloaded: {error}") from error
        except ValueError as error:
            raise CorruptFile(f"{urls[item.name]}: the bytes differ from the catalogue's digest: {error}") from error
        read_checked(Path(path), item, card)
        written.append(Path(path))
    return written


def _require(name: str) -> DatasetCard:
    card = find_card(name)
    if card is None:
        names = [known.name for known in list_datasets()]
        raise ConfigError(f"data set {name!r} is not in the catalogue, which has {names}")
    return card


def _require_folder(data_dir: Path | str | None) -> Path:
    folder = data_folder(data_dir)
    if folder is None:
        raise ConfigError(f"no data folder: give one or set {DATA_DIR_VARIABLE}")
    return folder
