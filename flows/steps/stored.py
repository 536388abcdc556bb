"""Detectors and reports at rest: what travels between tasks is a digest."""

from __future__ import annotations

import io
from typing import TypeVar

import numpy as np
import pandas as pd

from domain.reports import ProductionReport, Report
from evaluation.detectors.detector import Detector
from evaluation.production import ProductionResult
from registry.content import ContentStore
from samples.rowsets import get_rows, put_rows

R = TypeVar("R", bound=Report)


def put_files(content: ContentStore, files: dict[str, bytes]) -> str:
    """Store files and return the digest of their manifest."""
    return content.put_json({name: content.put(data) for name, data in sorted(files.items())})


def get_files(content: ContentStore, digest: str) -> dict[str, bytes]:
    """Return the files behind `digest`, each verified."""
    return {name: content.get(part) for name, part in content.get_json(digest).items()}


def put_detector(content: ContentStore, detector: Detector) -> str:
    """Store a detector that is not registered yet."""
    return put_files(content, detector.to_files())


def get_detector(content: ContentStore, digest: str) -> Detector:
    """Return the detector behind `digest`."""
    return Detector.from_files(get_files(content, digest))


def put_report(content: ContentStore, report: Report) -> str:
    """Store a report and return its address."""
    return content.put_json(report.model_dump(mode="json"))


def get_report(content: ContentStore, digest: str, kind: type[R]) -> R:
    """Return the report of type `kind` behind `digest`."""
    return kind.model_validate(content.get_json(digest))


def put_production(content: ContentStore, result: ProductionResult, names: tuple[str, ...]) -> str:
    """Store rates and labelled rows of a window, so that later tasks judge the very same; `names` are the features."""
    buffer = io.BytesIO()
    pd.DataFrame({"weight": result.weights, "verdict": result.verdict}).to_parquet(buffer, index=False)
    return content.put_json(
        {
            "report": put_report(content, result.report), "rows": put_rows(content, result.labelled, names),
            "outcome": content.put(buffer.getvalue()), "mature": result.mature,
        }
    )  # fmt: skip


def get_production(content: ContentStore, digest: str) -> ProductionResult:
    """Return the rates and labelled rows behind `digest`."""
    parts = content.get_json(digest)
    outcome = pd.read_parquet(io.BytesIO(content.get(parts["outcome"])))
    return ProductionResult(
        report=get_report(content, parts["report"], ProductionReport),
        labelled=get_rows(content, parts["rows"]),
        weights=outcome["weight"].to_numpy(dtype=np.float64),
        verdict=outcome["verdict"].to_numpy(dtype=np.bool_),
        mature=bool(parts["mature"]),
    )
