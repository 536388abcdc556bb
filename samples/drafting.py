"""Draft a feature space and a monitor from a labelled file, to be corrected by somebody who knows the attacker."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from domain.errors import ConfigError, DataError, NotEnoughRows, SchemaMismatch
from domain.features import FEATURE_PATTERN, parse_feature_space
from domain.monitor import parse_monitor
from samples.catalogue.catalogue import read_parquet

MAX_CATEGORIES = 40
MIN_ROWS = 200
SKEW = 100.0
_HEADER_SPACE = """\
# Feature space, drafted from {origin}. Please correct it:
# - mutability: every feature is `free`, as if the attacker could change it at no limit. That is the careful start: it makes
#   attacks stronger than real ones. Say `fixed` (with a `reason`), `increase-only` or `decrease-only` where he cannot.
# - bounds are those of the file; widen them to what is legal, rows outside are quarantined.
# - relations that always hold, such as `bytes_out <= bytes_total`, keep the attack honest.
"""
_HEADER_MONITOR = """\
# Monitor, drafted from {origin}. All keys and their meaning: `revet schema monitor`.
# false_positive_budget: which share of benign rows may raise an alert.
"""


@dataclass(frozen=True)
class Draft:
    """Two YAML texts, and what a person must look at."""

    space: str
    monitor: str
    features: int
    rows: int
    notes: tuple[str, ...]


def draft(
    path: Path, *, name: str, label: str, family: str = "", cluster: str = "", time: str = "", zone: str = "UTC"
) -> Draft:
    """Return a feature space and a monitor called `name` for the Parquet or CSV file at `path`.

    Args:
        path: one row a sample.
        name: name of the monitor and of its feature space.
        label: column with 1 or true for malicious.
        family, cluster, time: columns that are no features; empty where there are none.
        zone: time zone of the daily schedule.

    Raises:
        DataError: the file cannot be used, with column, rule and fix.
    """
    frame = read_frame(path)
    special = [column for column in (label, family, cluster, time) if column]
    if missing := [column for column in special if column not in frame]:
        raise SchemaMismatch(f"{path} has no column {missing}; it has {list(map(str, frame.columns))[:40]}")
    values = frame[label]
    if not set(values.dropna().unique()) <= {0, 1} or values.isna().any():
        raise SchemaMismatch(f"{path}: column {label!r} must hold 0 and 1 only, got {list(values.unique())[:5]}")
    if len(frame) < MIN_ROWS or values.nunique() < 2:
        raise NotEnoughRows(f"{path}: {len(frame)} rows of {values.nunique()} classes; at least {MIN_ROWS} of both")
    features, notes = [], []
    for column in frame.columns:
        if column not in special:
            described, note = _feature(str(column), frame[column])
            features += [described] if described else []
            notes += [note] if note else []
    if not features:
        raise DataError(f"{path}: no column can be a feature: {'; '.join(notes)}")
    space = _HEADER_SPACE.format(origin=path.name) + _dump({"version": 1, "name": name, "features": features})
    monitor = _HEADER_MONITOR.format(origin=path.name) + _dump(
        {
            "version": 1,
            "name": name,
            "feature_space": f"../spaces/{name}.yaml",
            "benchmark": {
                "dataset": str(path.resolve()),
                "label": label,
                **{key: value for key, value in (("family", family), ("cluster", cluster), ("time", time)) if value},
            },
            "false_positive_budget": 0.01,
            "prevalence": 0.01,
            "daily_volume": 100_000,
            "threat": {"level": "expected", "norm": "linf", "epsilon": 0.1, "curve": [0.0, 0.05, 0.1, 0.2]},
            "schedules": [{"flow": "reevaluate", "cron": "0 3 * * *", "timezone": zone}],
        }
    )
    parse_feature_space(space, f"the drafted feature space {name!r}")
    parse_monitor(monitor, f"the drafted monitor {name!r}")
    return Draft(space, monitor, len(features), len(frame), tuple(notes))


def read_frame(path: Path) -> pd.DataFrame:
    """Return the Parquet or CSV file at `path`.

    Raises:
        ConfigError: there is no such file.
        DataError: it cannot be read.
    """
    if not path.is_file():
        raise ConfigError(f"{path} is no file; name a Parquet or CSV file with one row a sample")
    if path.suffix != ".csv":
        return read_parquet(path)
    try:
        return pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no readable CSV file: {error}") from error


def _dump(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _feature(column: str, values: pd.Series[Any]) -> tuple[dict[str, Any] | None, str]:
    """Return the draft of a feature, or None, and a note where a person must look."""
    if not re.match(FEATURE_PATTERN, column):
        return None, f"{column!r} is left out: a feature's name holds letters, digits and _; rename the column"
    known = values.dropna()
    if known.empty:
        return None, f"{column} is left out: it is empty"
    note = f"{column}: {values.isna().sum()} missing values will be quarantined" if values.isna().any() else ""
    if pd.api.types.is_bool_dtype(known) or set(known.unique()) <= {0, 1}:
        return {"name": column, "kind": "binary", "mutability": "free"}, note
    if pd.api.types.is_numeric_dtype(known):
        return _numeric(column, known.to_numpy(dtype=np.float64)), note
    if pd.api.types.is_datetime64_any_dtype(known):
        return None, f"{column} is left out: it is a time; name it with --time"
    categories = sorted(known.astype(str).unique())
    if len(categories) > MAX_CATEGORIES:
        return None, f"{column} is left out: {len(categories)} different texts are no category"
    return {"name": column, "kind": "categorical", "categories": categories, "mutability": "free"}, note


def _numeric(column: str, values: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    whole = bool(np.all(finite == np.round(finite)))
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low == high:
        high = low + 1.0
    skewed = low >= 0 and high > SKEW * max(float(np.median(finite)), 1.0)
    return {
        "name": column,
        "kind": "integer" if whole else "real",
        "low": low,
        "high": high,
        "transform": "log1p" if skewed else "linear",
        "mutability": "free",
    }
