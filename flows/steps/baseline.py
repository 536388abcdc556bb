"""Steps of the bootstrap: data into parts, a first detector, its baseline, registration."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pandas as pd

from domain.errors import ConfigError
from domain.monitor import Monitor
from evaluation.detectors.detector import Detector
from evaluation.rows import LabelledRows
from flows.steps.measuring import Measured, Progress, Rows, measure, sample_malicious
from flows.steps.stored import put_detector
from flows.wiring import Loop
from registry.reports import get_benchmark, put_benchmark
from samples.catalogue.benchmark import load_benchmark
from samples.rowsets import get_rows, put_rows
from training.data import TrainingData
from training.fitting import train_detector

PARTS = ("train", "selection", "calibration", "test", "golden")
ROBUST = "robust"
REFERENCE = "reference"
REPLAY = "replay"
ALL_PARTS = (*PARTS, ROBUST, REFERENCE, REPLAY)


@dataclass(frozen=True)
class BenchmarkRows:
    """The row sets of a monitor, read back by the digests that the ledger recorded."""

    loop: Loop
    monitor: Monitor

    def digest(self, kind: str) -> str:
        """Return the content digest of the part `kind`.

        Raises:
            ConfigError: the monitor has no benchmark yet.
        """
        found = get_benchmark(self.loop.ledger, self.monitor.name, kind=kind)
        if found is None:
            raise ConfigError(f"monitor {self.monitor.name!r} has no {kind!r} rows yet: run its `bootstrap` deployment")
        return found.digest

    def rows(self, kind: str) -> LabelledRows:
        """Return the rows of the part `kind`, verified."""
        return get_rows(self.loop.content, self.digest(kind))

    def frame(self, kind: str) -> pd.DataFrame:
        """Return a part that is a plain frame (`reference`, `replay`)."""
        return pd.read_parquet(io.BytesIO(self.loop.content.get(self.digest(kind))))

    def measured_on(self) -> Rows:
        """Return the rows that every baseline of this monitor is measured on."""
        return Rows(clean=self.rows("test"), attacked=self.rows(ROBUST), benign=self.rows("selection").benign)


def prepare_benchmark(loop: Loop, monitor: Monitor, seed: int) -> dict[str, str]:
    """Split the monitor's data set, store every part, return their digests by kind; a second call changes nothing."""
    known = [get_benchmark(loop.ledger, monitor.name, kind=kind) for kind in ALL_PARTS]
    if all(known):
        return {part.kind: part.digest for part in known if part is not None}
    space = loop.space(monitor)
    made = load_benchmark(monitor, space, loop.settings.data_dir, seed)
    parts = {kind: getattr(made, kind) for kind in PARTS}
    parts[ROBUST] = sample_malicious(made.test, monitor.robust_rows, seed)
    stored = {kind: (put_rows(loop.content, rows, space.names), len(rows)) for kind, rows in parts.items()}
    for kind, frame in ((REFERENCE, made.reference_frame), (REPLAY, made.replay)):
        stored[kind] = (loop.content.put(frame_bytes(frame)), len(frame))
    for kind, (digest, count) in stored.items():
        put_benchmark(loop.ledger, monitor.name, digest=digest, kind=kind, uri=f"content:{digest}", rows=count)
    return {kind: digest for kind, (digest, _) in stored.items()}


def frame_bytes(frame: pd.DataFrame) -> bytes:
    """Return `frame` as Parquet."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def train_first(loop: Loop, monitor: Monitor, seed: int, progress: Progress | None = None) -> str:
    """Train the first detector on the stored parts and return the address of its files."""
    data = BenchmarkRows(loop, monitor)
    parts = TrainingData(
        train=data.rows("train"), selection=data.rows("selection"), calibration=data.rows("calibration")
    )
    result = train_detector(
        parts, loop.space(monitor), monitor.hardening, threat=monitor.threat, budget=monitor.false_positive_budget,
        adversarial=False, seed=seed, progress=progress,
    )  # fmt: skip
    return put_detector(loop.content, result.detector)


def measure_on_benchmark(
    loop: Loop,
    monitor: Monitor,
    detector: Detector,
    *,
    version: int,
    digest: str,
    seed: int,
    progress: Progress | None = None,
) -> Measured:
    """Return the measurement of `detector` on the monitor's own benchmark."""
    rows = BenchmarkRows(loop, monitor).measured_on()
    return measure(detector, rows, monitor=monitor, version=version, digest=digest, seed=seed, progress=progress)
