"""Detectors and reports at rest: what travels between tasks is a digest."""

from __future__ import annotations

from typing import TypeVar

from domain.reports import Report
from evaluation.detectors.detector import Detector
from registry.content import ContentStore

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
