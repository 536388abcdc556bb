"""A contract made from a feature space, extendable by hand, and the rows that keep or break it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from domain.errors import ConfigError
from domain.features import Feature, FeatureSpace, describe_validation_error
from samples.contract.parsing import PARSE_ERROR, parse_features
from samples.contract.rules import Contract, Expectation, Judge, Outcome
from samples.schema import MAX_AGE_SECONDS, MAX_LEAD_SECONDS

META_COLUMNS = ("sample_id", "event_lead_seconds", "score", "verdict", PARSE_ERROR)


class _ExtraFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    expectations: tuple[Expectation, ...]


@dataclass(frozen=True)
class Validation:
    """Rows that kept the contract, rows that broke it, and a summary.

    Attributes:
        good: the sample columns without `features`, then one typed column per feature.
        bad: the rows as they came, with `reason`.
        summary: per broken expectation its rule, severity and number of rows.
    """

    good: pd.DataFrame
    bad: pd.DataFrame
    summary: list[dict[str, Any]] = field(default_factory=list)


def build_contract(space: FeatureSpace, extra_path: Path | None = None) -> Contract:
    """Return the contract of `space`: columns, types, bounds, categories, finite numbers, unique ids; plus extras.

    Raises:
        ConfigError: the extra file is missing or wrong.
    """
    columns = [*META_COLUMNS, *space.names]
    made = [
        _expect("table_columns_to_match_set", "all columns must be there", column_set=columns, exact_match=False),
        _expect("column_values_to_be_null", "features must be what the feature space says", column=PARSE_ERROR),
        _expect("column_values_to_not_be_null", "sample_id must be there", column="sample_id"),
        _expect("column_values_to_be_unique", "sample_id must be unique", column="sample_id"),
        _expect(
            "column_values_to_not_be_null", "event_time must be ISO 8601 text or a datetime, and no bare number",
            column="event_lead_seconds",
        ),
        _expect(
            "column_values_to_be_between", f"event_time may be {MAX_LEAD_SECONDS:g} s after ingest_time at most",
            column="event_lead_seconds", max_value=MAX_LEAD_SECONDS,
        ),
        _expect(
            "column_values_to_be_between",
            f"event_time may be {MAX_AGE_SECONDS / 86_400:g} days before ingest_time at most",
            column="event_lead_seconds", min_value=-MAX_AGE_SECONDS,
        ),
        _expect("column_values_to_not_be_null", "score must be a number", column="score"),
        _expect("column_values_to_be_between", "score must lie in [0, 1]", column="score", min_value=0, max_value=1),
        _expect("column_values_to_not_be_null", "verdict must be there", column="verdict"),
        _expect("column_values_to_be_in_set", "verdict must be 0 or 1", column="verdict", value_set=[0, 1]),
    ]  # fmt: skip
    for feature in space.features:
        made += _of_feature(feature)
    return Contract(space, (*made, *(read_extra(extra_path) if extra_path else ())))


def _expect(kind: str, reason: str, **kwargs: Any) -> Expectation:
    return Expectation(type=f"expect_{kind}", kwargs=kwargs, reason=reason)


def _of_feature(feature: Feature) -> list[Expectation]:
    name = feature.name
    if feature.kind == "categorical":
        known = list(feature.categories)
        return [
            _expect("column_values_to_not_be_null", f"{name} must be there", column=name),
            _expect("column_values_to_be_in_set", f"{name} must be a known category", column=name, value_set=known),
        ]
    return [
        _expect("column_values_to_be_of_type", f"{name} must be a number", column=name, type_="float64"),
        _expect("column_values_to_not_be_null", f"{name} must be a finite number, not NaN", column=name),
        _expect(
            "column_values_to_be_between", f"{name} must lie in [{feature.low:g}, {feature.high:g}]",
            column=name, min_value=feature.low, max_value=feature.high,
        ),
    ]  # fmt: skip


def read_extra(path: Path) -> tuple[Expectation, ...]:
    """Return the hand-written expectations of the YAML file at `path`.

    Raises:
        ConfigError: the file is missing or wrong; names key and value.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _ExtraFile.model_validate(data).expectations
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"contract {path} cannot be read: {error}") from error
    except ValidationError as error:
        raise ConfigError(f"contract {path}: {describe_validation_error(error)}") from error


def validate(frame: pd.DataFrame, contract: Contract, judge: Judge | None = None) -> Validation:
    """Return which rows of `frame` (columns of a sample store) keep the contract, and why the others do not.

    Of several rows with one sample_id the first is kept. `judge` is Great Expectations unless another is given.
    """
    if frame.empty:
        return Validation(_good(frame, pd.DataFrame(columns=list(contract.space.names))), frame.assign(reason=""))
    rows = frame.reset_index(drop=True)
    parsed = parse_features(rows["features"], contract.space)
    lead = (rows["event_time"] - rows["ingest_time"]).dt.total_seconds()
    judged = pd.concat(
        [
            pd.DataFrame(
                {
                    "sample_id": rows["sample_id"],
                    "event_lead_seconds": lead,
                    "score": pd.to_numeric(rows["score"], errors="coerce").astype(float),
                    "verdict": pd.to_numeric(rows["verdict"], errors="coerce").astype(float),
                }
            ),
            parsed[[PARSE_ERROR, *contract.space.names]],
        ],
        axis=1,
    )
    unparsed = set(np.flatnonzero(parsed[PARSE_ERROR].notna().to_numpy()).tolist())
    reasons: dict[int, list[str]] = {}
    summary = []
    for outcome in (judge or _great_expectations)(judged, contract):
        if outcome.success:
            continue
        rule, severity = outcome.expectation, outcome.expectation.severity
        broken = _broken_rows(outcome, judged)
        if rule.kwargs.get("column") != PARSE_ERROR:  # what did not parse breaks every other rule too: told once
            broken = tuple(position for position in broken if position not in unparsed)
        if outcome.broken and not broken:
            continue
        summary.append(
            {"rule": rule.reason or rule.type, "type": rule.type, "severity": severity, "rows": len(broken),
             "column": str(rule.kwargs.get("column", "")), "observed": outcome.observed}
        )  # fmt: skip
        if severity == "critical":
            for position in broken:
                reasons.setdefault(position, []).append(_reason(rule, judged, position))
    bad = np.array(sorted(reasons), dtype=int)
    told = [_most_telling(reasons[position], parsed[PARSE_ERROR].iloc[position]) for position in bad]
    good = np.setdiff1d(np.arange(len(rows)), bad)
    return Validation(
        _good(rows.iloc[good], parsed.iloc[good][list(contract.space.names)]),
        rows.iloc[bad].assign(reason=np.array(told, dtype=object)).reset_index(drop=True),
        summary,
    )


def _great_expectations(frame: pd.DataFrame, contract: Contract) -> list[Outcome]:
    from samples.contract.expectations import judge_with_great_expectations

    return judge_with_great_expectations(frame, contract)


def _broken_rows(outcome: Outcome, judged: pd.DataFrame) -> tuple[int, ...]:
    if outcome.expectation.type != "expect_column_values_to_be_unique":
        return outcome.broken
    column = str(outcome.expectation.kwargs["column"])
    repeated = judged[column].duplicated(keep="first").to_numpy()
    return tuple(position for position in outcome.broken if repeated[position])


def _reason(rule: Expectation, judged: pd.DataFrame, position: int) -> str:
    column = str(rule.kwargs.get("column", ""))
    value = judged[column].iloc[position] if column in judged else None
    return f"{rule.reason or rule.type}, got {value if not isinstance(value, str) else repr(value[:80])}"


def _most_telling(reasons: list[str], parse_error: str | None) -> str:
    """Return why the row did not parse, else at most three reasons: what cannot be read breaks every other rule."""
    if isinstance(parse_error, str):
        return parse_error
    rest = f" (and {len(reasons) - 3} more)" if len(reasons) > 3 else ""
    return "; ".join(reasons[:3]) + rest


def _good(rows: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
    kept = rows.drop(columns=["features"], errors="ignore").reset_index(drop=True)
    return pd.concat([kept, features.reset_index(drop=True)], axis=1)
