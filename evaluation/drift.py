"""Drift of the features against the reference, measured by Evidently on seeded samples of bounded size."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from domain.errors import SchemaMismatch
from domain.features import FeatureSpace
from domain.reports import ColumnDrift, DriftReport

METHOD = "psi"
PSI_LIMIT = 0.2
FEWEST_ROWS = 100


@dataclass(frozen=True)
class DriftResult:
    """The report, and Evidently's page about it; the page is empty where too few rows were there to measure."""

    report: DriftReport
    html: str


def measure_drift(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    *,
    space: FeatureSpace,
    share_limit: float,
    seed: int,
    max_rows: int = 50_000,
) -> DriftResult:
    """Return the population stability index of every feature of `space`, and Evidently's HTML page.

    Features with a log1p transform are compared on that scale, or their long tails would leave all rows in one bin.

    Args:
        share_limit: share of drifted columns from which on the whole counts as drifted.
        max_rows: rows sampled from each side; Evidently needs minutes and gigabytes for a million rows.

    Raises:
        SchemaMismatch: a feature is missing in one of the frames.
    """
    for frame, side in ((reference, "reference"), (current, "current window")):
        if missing := [name for name in space.names if name not in frame]:
            raise SchemaMismatch(f"the {side} lacks the features {missing}; drift needs all of space {space.name!r}")
    if min(len(reference), len(current)) < FEWEST_ROWS:
        return DriftResult(_too_few(len(reference), len(current), share_limit), "")
    rng = np.random.default_rng(seed)
    before, now = (_prepared(frame, space, rng, max_rows) for frame in (reference, current))
    usable = [name for name in space.names if before[name].notna().any() and now[name].notna().any()]
    values, html = _evidently(before[usable], now[usable], space, share_limit) if usable else ({}, "")
    columns = tuple(
        # A column that is empty on one side only has changed as much as a column can.
        _column(name, values[name] if name in values else (0.0 if _empty(before, now, name) else np.inf))
        for name in space.names
    )
    drifted = sum(column.drifted for column in columns) / len(columns)
    # Evidently bins by Sturges' rule; the index is then a scaled chi-square with bins - 1 degrees of freedom.
    noise = np.log2(len(before) + len(now)) * (1 / len(before) + 1 / len(now))
    return DriftResult(
        DriftReport(
            method=METHOD, reference_rows=len(before), current_rows=len(now), columns=columns,
            drifted_share=drifted, share_limit=share_limit, drifted=drifted > share_limit,
            note=f"samples of {len(before)} and {len(now)} rows (of {len(reference)} and {len(current)}), seed {seed}; "
            f"without any drift an index of about {noise:.3f} is expected, {PSI_LIMIT} counts as drift",
        ),
        html,
    )  # fmt: skip


def _prepared(frame: pd.DataFrame, space: FeatureSpace, rng: np.random.Generator, max_rows: int) -> pd.DataFrame:
    if len(frame) > max_rows:
        frame = frame.iloc[np.sort(rng.choice(len(frame), size=max_rows, replace=False))]
    prepared: dict[str, Any] = {}
    for feature in space.features:
        column = frame[feature.name]
        if feature.kind == "categorical":
            prepared[feature.name] = column.astype(str).to_numpy(dtype=object)
            continue
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
        values = np.where(np.isfinite(values), values, np.nan)
        prepared[feature.name] = np.log1p(np.maximum(values, 0.0)) if feature.transform == "log1p" else values
    return pd.DataFrame(prepared)


def _evidently(
    before: pd.DataFrame, now: pd.DataFrame, space: FeatureSpace, share_limit: float
) -> tuple[dict[str, float], str]:
    """Return the index by column, and the page."""
    with warnings.catch_warnings():
        # Evidently 0.7 touches numpy.core and deprecated pandas and plotly calls; nothing of ours runs in here.
        warnings.simplefilter("ignore")
        return _drift_preset(before, now, space, share_limit)


def _drift_preset(
    before: pd.DataFrame, now: pd.DataFrame, space: FeatureSpace, share_limit: float
) -> tuple[dict[str, float], str]:
    # Read by Evidently when it is imported: it must not call home.
    os.environ["DO_NOT_TRACK"] = "1"
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    categorical = [
        feature.name
        for feature in space.features
        if feature.kind in {"categorical", "binary"} and feature.name in before
    ]
    definition = DataDefinition(
        numerical_columns=[name for name in before if name not in categorical], categorical_columns=categorical
    )
    preset = DataDriftPreset(
        columns=list(before), method=METHOD, threshold=PSI_LIMIT, drift_share=share_limit, include_tests=False
    )
    datasets = [Dataset.from_pandas(frame, data_definition=definition) for frame in (now, before)]
    snapshot = Report([preset], include_tests=False).run(*datasets)
    values = {
        str(metric["config"]["column"]): float(metric["value"])
        for metric in snapshot.dict()["metrics"]
        if "column" in metric.get("config", {})
    }
    return values, str(snapshot.get_html_str(as_iframe=False))


def _empty(before: pd.DataFrame, now: pd.DataFrame, name: str) -> bool:
    return not (before[name].notna().any() or now[name].notna().any())


def _column(name: str, value: float) -> ColumnDrift:
    # Reports are strict JSON, which knows no infinity.
    shown = min(value, 1e6)
    return ColumnDrift(column=name, method=METHOD, value=shown, limit=PSI_LIMIT, drifted=shown >= PSI_LIMIT)


def _too_few(reference_rows: int, current_rows: int, share_limit: float) -> DriftReport:
    return DriftReport(
        method=METHOD, reference_rows=reference_rows, current_rows=current_rows, columns=(), drifted_share=0.0,
        share_limit=share_limit, drifted=False,
        note=f"not measured: {reference_rows} reference and {current_rows} current rows, "
        f"{FEWEST_ROWS} of each are needed",
    )  # fmt: skip
