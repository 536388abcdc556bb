"""From a data set to what a monitor starts with: rows to train, select, calibrate and test on, and rows to replay.

No cluster is in two parts. What is replayed as production is in no other part, so production is never a rehearsal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domain.digests import digest_json
from domain.errors import ConfigError, SchemaMismatch
from domain.features import FeatureSpace
from domain.monitor import Monitor
from evaluation.detectors.portable import Encoding
from evaluation.rows import LabelledRows
from samples.catalogue.catalogue import find_card
from samples.catalogue.parts import Parts, nsl_kdd, own_file, phishtank, simulator, url_phishing
from training.splits import split_by_cluster

MAX_REFERENCE_ROWS = 50_000


@dataclass(frozen=True)
class Benchmark:
    """Disjoint parts of one data set.

    Attributes:
        train, selection, calibration: for the first detector.
        test: the clean benchmark; attacked and compared on, never trained on.
        golden: sealed; a gate asks it for pass or fail only.
        reference_frame: benign and malicious rows of `train` as named columns, what drift compares against.
        replay: rows to play as production: features, label, family, cluster, and where known event_time, subject,
            caller, object.
        digest: of all parts, in order.
        notes: what to know when reading numbers made with it.
    """

    train: LabelledRows
    selection: LabelledRows
    calibration: LabelledRows
    test: LabelledRows
    golden: LabelledRows
    reference_frame: pd.DataFrame
    replay: pd.DataFrame
    digest: str
    notes: tuple[str, ...] = ()


def load_benchmark(monitor: Monitor, space: FeatureSpace, data_dir: Path | str | None, seed: int) -> Benchmark:
    """Return the parts of the monitor's data set, the same ones for the same seed.

    Raises:
        ConfigError: the set is unknown or its files are missing.
        DataError: its files are corrupt or of another schema.
    """
    settings = monitor.benchmark
    card = find_card(settings.dataset)
    if card is None:
        parts = own_file(settings, space, data_dir)
    elif card.name == "nsl-kdd":
        parts = nsl_kdd(card, data_dir, seed)
    elif card.name == "url-phishing":
        parts = url_phishing(data_dir, seed)
    elif card.name == "phishtank":
        parts = phishtank(data_dir, seed)
    else:
        parts = simulator(monitor, seed)
    return assemble(parts, space, seed, settings.test_share)


def assemble(parts: Parts, space: FeatureSpace, seed: int, test_share: float) -> Benchmark:
    """Split what `parts` leaves open, and make sure that no cluster is in two parts.

    Raises:
        SchemaMismatch: the frame lacks a feature of the space.
    """
    bootstrap, production = parts.bootstrap, parts.replay
    if missing := [name for name in space.names if name not in bootstrap or name not in production]:
        raise SchemaMismatch(
            f"the data set lacks the features {missing} of feature space {space.name!r}; name the columns in the space"
        )
    bootstrap, production = _cluster(bootstrap, production, space, by_values=not parts.clustered)
    named = {name: _rows(frame, space) for name, frame in bootstrap.groupby("part", sort=False)}
    rest = 1.0 - test_share
    shares = {
        "train": rest * 0.65, "selection": rest * 0.12, "calibration": rest * 0.23,
        "test": test_share * 0.85, "golden": test_share * 0.15,
    }  # fmt: skip
    done: dict[str, LabelledRows] = {}
    for offset, (name, rows) in enumerate(sorted(named.items())):
        wanted = parts.split.get(str(name), shares)
        split = split_by_cluster(rows, wanted, seed + offset) if len(wanted) > 1 else {next(iter(wanted)): rows}
        for target, chosen in split.items():
            done[target] = LabelledRows.concatenate([done[target], chosen]) if target in done else chosen
    train = done["train"]
    digest = digest_json([space.digest, seed, *(done[name].digest for name in shares)])
    return Benchmark(
        train=train, selection=done["selection"], calibration=done["calibration"], test=done["test"],
        golden=done["golden"], reference_frame=reference(train, space, seed),
        replay=production.reset_index(drop=True), digest=digest, notes=parts.notes,
    )  # fmt: skip


def reference(rows: LabelledRows, space: FeatureSpace, seed: int) -> pd.DataFrame:
    """Return at most 50,000 of `rows` as named columns, categories as text."""
    if len(rows) > MAX_REFERENCE_ROWS:
        chosen = np.random.default_rng([seed, 3]).choice(len(rows), MAX_REFERENCE_ROWS, replace=False)
        rows = rows.take(np.sort(chosen))
    frame = pd.DataFrame(rows.raw, columns=list(space.names))
    for feature in space.features:
        if feature.kind == "categorical":
            codes = frame[feature.name].to_numpy()
            names = np.array([*feature.categories, ""], dtype=object)
            frame[feature.name] = names[np.where(np.isfinite(codes), codes, len(names) - 1).astype(int)]
    return frame


def _cluster(
    bootstrap: pd.DataFrame, production: pd.DataFrame, space: FeatureSpace, *, by_values: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Name each row's cluster; rows whose cluster is in an earlier part are left out of the later one."""
    if by_values:
        encoding = Encoding([feature.model_dump(mode="json") for feature in space.features])
        both = pd.concat([bootstrap, production], ignore_index=True)
        raw = np.ascontiguousarray(encoding.to_raw(both))
        keys = pd.util.hash_pandas_object(pd.DataFrame(raw), index=False).astype(str).to_numpy()
        bootstrap = bootstrap.assign(cluster=keys[: len(bootstrap)])
        production = production.assign(cluster=keys[len(bootstrap) :])
    first = bootstrap.groupby("cluster", sort=False)["part"].transform("first")
    bootstrap = bootstrap[bootstrap["part"] == first]
    return bootstrap, production[~production["cluster"].isin(set(bootstrap["cluster"]))]


def _rows(frame: pd.DataFrame, space: FeatureSpace) -> LabelledRows:
    objects = "object" if "object" in frame else ""
    rows = LabelledRows.from_frame(frame, space, label="label", cluster="cluster", family="family", objects=objects)
    known: NDArray[np.bool_] = np.asarray(np.isfinite(rows.raw).all(axis=1))
    if not known.any():
        raise ConfigError(f"no row of the data set has a finite value in every feature of space {space.name!r}")
    return rows if bool(known.all()) else rows.take(known)
