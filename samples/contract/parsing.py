"""Stored features (JSON text) as typed columns; what cannot be typed gets a reason instead of a value."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd

from domain.features import Feature, FeatureSpace

PARSE_ERROR = "parse_error"
_MISSING = object()
_SHOWN = 60


def parse_features(texts: pd.Series[Any], space: FeatureSpace) -> pd.DataFrame:
    """Return one column per feature and `parse_error` (None where the row parses), with a fresh index.

    Numbers become float64, also NaN and infinities: these parse, and break the contract. Categories become text.
    Rows with an error have NaN or None in their features.
    """
    errors: list[list[str]] = [[] for _ in range(len(texts))]
    records = [_parse(text, errors[position]) for position, text in enumerate(texts)]
    known = set(space.names)
    for position, record in enumerate(records):
        if record.keys() != known and not errors[position]:
            extra = sorted(map(str, record.keys() - known))
            if extra:
                errors[position].append(f"features has {_shown(extra)}, which feature space {space.name!r} lacks")
    columns: dict[str, Any] = {}
    for feature in space.features:
        values = [record.get(feature.name, _MISSING) for record in records]
        columns[feature.name] = _column(feature, values, errors)
    frame = pd.DataFrame(columns)
    # An error is told once per row: a row without features lacks them all.
    frame[PARSE_ERROR] = pd.Series([("; ".join(found[:3]) or None) for found in errors], dtype=object)
    return frame


def _parse(text: Any, errors: list[str]) -> dict[str, Any]:
    if not isinstance(text, str):
        errors.append(f"features is {_shown(text)}, not JSON text")
        return {}
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        errors.append(f"features is not JSON: {str(error)[:_SHOWN]}")
        return {}
    if not isinstance(record, dict):
        errors.append(f"features is a JSON {type(record).__name__}, not an object")
        return {}
    return record


def _column(feature: Feature, values: list[Any], errors: list[list[str]]) -> np.ndarray[Any, Any]:
    types = set(map(type, values))
    if feature.kind == "categorical":
        if types == {str}:
            return np.array(values, dtype=object)
        return np.array([_text(feature, value, errors[at]) for at, value in enumerate(values)], dtype=object)
    if types == {float} and feature.kind == "real":
        return np.array(values, dtype=np.float64)
    if types <= {int, float} and types:
        try:
            numbers = np.array(values, dtype=np.float64)
        except OverflowError:
            numbers = None
        if numbers is not None and (feature.kind == "real" or bool((~np.isfinite(numbers) | _whole(numbers)).all())):
            return numbers
    return np.array([_number(feature, value, errors[at]) for at, value in enumerate(values)], dtype=np.float64)


def _whole(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    with np.errstate(invalid="ignore"):
        return np.asarray(numbers == np.floor(numbers))


def _text(feature: Feature, value: Any, errors: list[str]) -> str | None:
    if isinstance(value, str):
        return value
    _note(errors, f"{feature.name} is missing" if value is _MISSING else f"{feature.name}: {_shown(value)} is no text")
    return None


def _number(feature: Feature, value: Any, errors: list[str]) -> float:
    if value is _MISSING:
        _note(errors, f"{feature.name} is missing")
        return math.nan
    if isinstance(value, bool) and feature.kind == "binary":
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        _note(errors, f"{feature.name}: {_shown(value)} is no number")
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        _note(errors, f"{feature.name}: {_shown(value)} is too large")
        return math.nan
    if feature.kind != "real" and math.isfinite(number) and number != math.floor(number):
        _note(errors, f"{feature.name}: {number!r} is no whole number")
        return math.nan
    return number


def _note(errors: list[str], message: str) -> None:
    # A row whose JSON cannot be read has told its reason already.
    if not (errors and errors[0].startswith("features is")):
        errors.append(message)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
