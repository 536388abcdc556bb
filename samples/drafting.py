"""Draft a feature space and a monitor from labelled rows, to be corrected by somebody who knows the attacker."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from domain.errors import ConfigError, DataError, NotEnoughRows, SchemaMismatch
from domain.features import FEATURE_PATTERN, NAME_PATTERN, parse_feature_space
from domain.monitor import parse_monitor
from samples.catalogue.catalogue import read_parquet

MAX_CATEGORIES = 40
SKEW = 50.0  # a maximum so many times the median asks for log1p
GROWTH = 4.0  # legal values may exceed the largest of the file by this factor
LEAK_AUC = 0.995
ROWS_FOR_BUDGET = 100.0  # a budget b needs this many / b benign rows for calibration, and as many to test
NOT_REVIEWED = "drafted, not reviewed"
_SPACE_HEADER = """\
# Feature space {name!r}, drafted from the data: correct it before its numbers count.
# mutability says what the attacker of each level can do to a feature: free, increase-only, decrease-only or fixed, with
# a reason in one line. The draft errs toward a strong attacker. relations hold in every legal row, for example
#   relations: ["bytes_out <= bytes_total", "packets > 0 => bytes_total > 0"]
"""
_MONITOR_HEADER = """\
# Monitor {name!r}, drafted from the data. All keys and what they mean: revet schema monitor
"""


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


def draft_feature_space(frame: pd.DataFrame, *, label: str, name: str, exclude: Sequence[str] = ()) -> str:
    """Return the YAML of a feature space that every finite row of `frame` keeps.

    Args:
        frame: one row a sample.
        label: column with 1 or true for malicious.
        name: name of the space.
        exclude: columns that are no features: family, cluster, time.

    Raises:
        DataError: the name breaks its rule.
        SchemaMismatch: the label or all features are missing, or columns are repeated.
        NotEnoughRows: the rows are of one class.
    """
    labels = _labels(frame, label, name)
    columns = [str(column) for column in frame.columns if column != label and column not in exclude]
    if not columns:
        raise SchemaMismatch(f"there is no column besides {[label, *exclude]}: nothing can be a feature")
    lines, features = [], []
    for column in columns:
        described = _feature(column, frame[column])
        if isinstance(described, str):
            lines.append(f"# left out: {column} ({described})\n")
            continue
        features.append(described)
        if _auc(frame[column], labels) > LEAK_AUC:
            lines.append(f"# {column} alone separates the classes: is it a leak of the label?\n")
    if not features:
        raise SchemaMismatch("no column can be a feature:\n" + "".join(lines))
    content = {"version": 1, "name": name, "features": features, "relations": []}
    text = _SPACE_HEADER.format(name=name) + "".join(lines) + _dump(content)
    parse_feature_space(text, f"the drafted feature space {name!r}")
    return text


def draft_monitor(
    frame: pd.DataFrame,
    *,
    label: str,
    name: str,
    dataset: str,
    feature_space: str,
    family: str = "",
    cluster: str = "",
    time: str = "",
    zone: str = "UTC",
) -> str:
    """Return the YAML of a monitor over the labelled file `dataset`, which holds `frame`.

    Raises:
        DataError: as in `draft_feature_space`; a column that is named but missing is a SchemaMismatch.
    """
    labels = _labels(frame, label, name)
    for kind, column in (("family", family), ("cluster", cluster), ("time", time)):
        if column and column not in frame:
            raise SchemaMismatch(f"the {kind} column {column!r} is not in the data; it has {list(frame.columns)[:40]}")
    benign = int((labels == 0).sum())
    budget = 0.01
    header = _MONITOR_HEADER.format(name=name)
    if benign < 2 * ROWS_FOR_BUDGET / budget:
        header += (
            f"# {benign} benign rows: a false-positive budget of {budget} needs {2 * ROWS_FOR_BUDGET / budget:.0f} for"
            " calibration and test; its numbers will be marked weak.\n"
        )
    named = {"family": family, "cluster": cluster, "time": time}
    content = {
        "version": 1,
        "name": name,
        "feature_space": feature_space,
        "benchmark": {"dataset": dataset, "label": label, **{key: value for key, value in named.items() if value}},
        "false_positive_budget": budget,
        "prevalence": float(np.clip(round(float(labels.mean()), 4), 0.0001, 0.9999)),
        "daily_volume": 100_000,
        "threat": {"level": "expected", "norm": "linf", "epsilon": 0.1, "curve": [0.0, 0.05, 0.1, 0.2]},
        "schedules": [{"flow": "reevaluate", "cron": "0 3 * * *", "timezone": zone}],
    }
    text = header + _dump(content)
    parse_monitor(text, f"the drafted monitor {name!r}")
    return text


def _labels(frame: pd.DataFrame, label: str, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    if not re.match(NAME_PATTERN, name):
        raise DataError(f"name {name!r}: two or more lower-case letters, digits and dashes, a letter first")
    if repeated := sorted({str(column) for column in frame.columns[frame.columns.duplicated()]}):
        raise SchemaMismatch(f"column names must be unique, repeated: {repeated}")
    if label not in frame:
        raise SchemaMismatch(f"the label column {label!r} is not in the data; it has {list(frame.columns)[:40]}")
    if wrong := [value for value in frame[label].unique() if value not in {0, 1}]:
        raise SchemaMismatch(f"column {label!r} must hold 0 (benign) and 1 (malicious) only, got {wrong[0]!r}")
    labels = frame[label].to_numpy().astype(np.int64)
    if len(set(labels)) < 2:
        raise NotEnoughRows(f"column {label!r} holds one class only; a detector needs rows of both classes")
    return labels


def _dump(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _auc(values: pd.Series[Any], labels: np.ndarray[Any, np.dtype[np.int64]]) -> float:
    """Return how well one numeric column orders the classes, at least 0.5; 0 for texts."""
    if not pd.api.types.is_numeric_dtype(values):
        return 0.0
    ranks = values.astype(np.float64).rank().fillna(0.0).to_numpy()
    positive = int(labels.sum())
    area = (ranks[labels == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(labels) - positive))
    return float(max(area, 1 - area))


def _feature(column: str, values: pd.Series[Any]) -> dict[str, Any] | str:
    """Return the draft of a feature, or the reason why the column is none."""
    if not re.match(FEATURE_PATTERN, column):
        return "a feature's name holds letters, digits and _ only: rename the column"
    known = values.dropna()
    if known.nunique() < 2:
        return "it never changes"
    if pd.api.types.is_datetime64_any_dtype(known):
        return "it is a time"
    if pd.api.types.is_bool_dtype(known) or set(known.unique()) <= {0, 1}:
        return {"name": column, "kind": "binary", "mutability": "fixed", "reason": NOT_REVIEWED}
    if not pd.api.types.is_numeric_dtype(known):
        categories = sorted(known.astype(str).unique())
        if len(categories) > MAX_CATEGORIES:
            return f"{len(categories)} different texts are no category"
        described = {"name": column, "kind": "categorical", "categories": categories}
        return {**described, "mutability": "fixed", "reason": NOT_REVIEWED}
    numbers = known.to_numpy(dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if _is_identifier(numbers):
        return "it counts the rows"
    return {"name": column, **dict(_numeric(numbers))}


def _is_identifier(numbers: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    steps = np.diff(numbers)
    return bool(numbers.size > 10 and np.all(steps == 1))


def _numeric(numbers: np.ndarray[Any, np.dtype[np.float64]]) -> Iterator[tuple[str, Any]]:
    whole = bool(np.all(numbers == np.round(numbers)))
    low, high = float(numbers.min()), float(numbers.max())
    skewed = low >= 0 and high > SKEW * max(float(np.median(numbers)), 1.0)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    else:
        room = (GROWTH - 1) * max(abs(high), abs(low), 1.0)
        low, high = 0.0 if low >= 0 else low - room, high + room
    yield "kind", "integer" if whole else "real"
    yield "low", low
    yield "high", high
    yield "transform", "log1p" if skewed else "linear"
    expected = "free" if low < 0 else "increase-only"
    yield "mutability", {"weak": "fixed", "expected": expected, "strong": "free"}
    yield "reason", NOT_REVIEWED
