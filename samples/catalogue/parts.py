"""How each data set becomes production and what came before it: the traps of each set are treated here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from domain.errors import ConfigError, SchemaMismatch
from domain.features import FeatureSpace
from domain.monitor import BenchmarkSettings, Monitor
from samples.catalogue.catalogue import DatasetCard, load_dataset, read_parquet
from samples.catalogue.hosts import registered_domains

EARLY_SHARE = 0.2  # of the NSL-KDD training clusters: production before the shift
LATER_YEAR = 2017  # PhishTank: before it training, from it on production
TIME_BLOCKS = 6
BENIGN_FOR_TRAINING = 0.45
MAX_PHISHING_FOR_TRAINING = 6_000
SIMULATED_DAYS = (4, 8)  # days before production, days of production
SIMULATED_ROWS = 12_000
ENRICHED = 0.15  # malicious share of simulated benchmark days: rates need rows more than realism
LATER_SHARE = 0.4  # of a file of the user's: replayed as production


@dataclass(frozen=True)
class Parts:
    """A set before its clusters are split.

    Attributes:
        bootstrap: features, label, family, part (earlier parts win a cluster), and `cluster` where `clustered`.
        replay: features, label, family, and where known event_time, subject, caller, object.
        clustered: both frames name their clusters; otherwise rows with equal features form one.
        split: shares of the five targets for a part, where they differ from the usual ones.
    """

    bootstrap: pd.DataFrame
    replay: pd.DataFrame
    clustered: bool = False
    split: Mapping[str, dict[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def nsl_kdd(card: DatasetCard, data_dir: Path | str | None, seed: int) -> Parts:
    """Return the training part as bootstrap and early production, the shifted test part as later production."""
    frame = load_dataset(card.name, data_dir).frame
    frame["label"] = (frame["attack"] != "normal").astype(np.int8)
    frame["family"] = frame["attack"].where(frame["label"] == 1, "benign").astype(str)
    frame = frame.drop(columns=["difficulty", "attack"])
    train, test = frame[frame["part"] == "train"], frame[frame["part"] == "test"]
    rng = np.random.default_rng([seed, 21])
    features = [name for name in train if name not in {"label", "family", "part"}]
    keys = pd.util.hash_pandas_object(train[features], index=False)
    clusters = keys.unique()
    early = train[keys.isin(rng.permutation(clusters)[: int(EARLY_SHARE * len(clusters))])]
    rest = train.drop(early.index)
    replay = pd.concat(
        [part.sample(frac=1.0, random_state=seed).assign(phase=name) for name, part in
         (("early", early), ("later", test))], ignore_index=True,
    )  # fmt: skip
    return Parts(rest, replay, notes=("replayed in order: held-back training clusters, then the shifted test part",))


def url_phishing(data_dir: Path | str | None, seed: int) -> Parts:
    """Return TabularBench's split (80/20 stratified, 20 % of the first for validation); production from the first."""
    from sklearn.model_selection import train_test_split

    frame = load_dataset("url-phishing", data_dir).frame.rename(columns={"is_phishing": "label"})
    frame["family"] = np.where(frame["label"] == 1, "phishing", "benign")
    rest, test = train_test_split(frame, test_size=0.2, random_state=42, stratify=frame["label"])
    train, selection = train_test_split(rest, test_size=0.2, random_state=42, stratify=rest["label"])
    replay = train.groupby("label").sample(frac=0.4, random_state=seed)
    replay = replay.sample(frac=1.0, random_state=seed)
    train = train.drop(replay.index)
    bootstrap = pd.concat(
        [train.assign(part="1-train"), selection.assign(part="2-selection"), test.assign(part="3-test")]
    )
    split = {
        "1-train": {"train": 1.0},
        "2-selection": {"selection": 0.35, "calibration": 0.65},
        "3-test": {"test": 0.85, "golden": 0.15},
    }
    note = "no time: the order of the replay is random, it degrades only by a campaign; half of the rows are phishing"
    return Parts(bootstrap, replay, split=split, notes=(note,))


def phishtank(data_dir: Path | str | None, seed: int) -> Parts:
    """Return early years as bootstrap and later years in order of time, each stretch with benign URLs of its own."""
    frame = load_dataset("phishtank", data_dir).frame
    # The file of benign URLs lists phishing ones too; only its legitimate rows are used.
    frame = frame[(frame["part"] == "phishing") | (frame["label"] == 0)].drop_duplicates("url")
    frame = frame.assign(
        label=(frame["part"] == "phishing").astype(np.int8),
        cluster=registered_domains(frame["url"]),
        family=np.where(frame["part"] == "phishing", "phishing", "benign"),
    )
    phishing = frame[frame["label"] == 1].sort_values("submission_time", kind="stable")
    benign = frame[frame["label"] == 0]
    rng = np.random.default_rng([seed, 31])
    domains = rng.permutation(np.array(sorted(benign["cluster"].unique()), dtype=object))
    first = int(BENIGN_FOR_TRAINING * len(domains))
    blocks = [domains[:first], *np.array_split(domains[first:], TIME_BLOCKS)]
    year = phishing["submission_time"].dt.year
    early = phishing[year < LATER_YEAR]
    early = early.sample(min(len(early), MAX_PHISHING_FOR_TRAINING), random_state=seed)
    bootstrap = pd.concat([benign[benign["cluster"].isin(set(blocks[0]))], early]).assign(part="early")
    later = phishing[(year >= LATER_YEAR) & ~phishing["cluster"].isin(set(bootstrap["cluster"]))]
    bounds = np.linspace(0, len(later), TIME_BLOCKS + 1).astype(int)
    stretches = []
    for number, block in enumerate(blocks[1:]):
        own = benign[benign["cluster"].isin(set(block))]
        stretches.append(_stretch(later.iloc[bounds[number] : bounds[number + 1]], own, rng))
    notes = (
        "benign URLs are all of 2020: each stretch of time has a block of its own, no domain is used twice",
        "part of the drift is collection artefact (https, www): read the results without these features too",
    )
    replay = pd.concat(stretches, ignore_index=True).sort_values("event_time", kind="stable", ignore_index=True)
    return Parts(_with_url_features(bootstrap), _with_url_features(replay), clustered=True, notes=notes)


def _stretch(phishing: pd.DataFrame, benign: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return one stretch of time: as many phishing rows as benign ones, the benign spread evenly over it."""
    chosen = phishing.iloc[np.sort(rng.permutation(len(phishing))[: len(benign)])]
    times = chosen["submission_time"]
    span = (times.iloc[-1] - times.iloc[0]).total_seconds()
    seconds = pd.to_timedelta(rng.random(len(benign)) * span, unit="s")
    benign = benign.assign(event_time=(times.iloc[0] + seconds).as_unit("us"))
    return pd.concat([chosen.assign(event_time=times), benign], ignore_index=True)


def _with_url_features(frame: pd.DataFrame) -> pd.DataFrame:
    from evaluation.urls.features import URL_FEATURES, extract

    urls = frame["url"].astype(str).tolist()
    values = pd.DataFrame(extract(urls), columns=list(URL_FEATURES), index=frame.index)
    kept = frame[[name for name in ("label", "family", "cluster", "part", "event_time") if name in frame]]
    return pd.concat([values, kept], axis=1).assign(object=frame["url"], subject=frame["cluster"])


def simulator(monitor: Monitor, seed: int) -> Parts:
    """Return simulated days: the first as bootstrap, the following as production, with the same families."""
    from samples.simulator.traffic import TrafficSimulator

    start = datetime(2026, 1, 5, tzinfo=UTC)
    before, production = SIMULATED_DAYS
    made = TrafficSimulator(seed)

    def days(numbers: range) -> pd.DataFrame:
        parts = [
            made.day(
                number, volume=SIMULATED_ROWS, start=start, prevalence=max(monitor.prevalence, ENRICHED), families=known
            )
            for number in numbers
        ]
        return pd.concat(parts, ignore_index=True).rename(columns={"session": "cluster"})

    known = made.families(0)
    note = "simulated traffic: good for trying the loop, never a headline"
    bootstrap, replay = days(range(before)), days(range(before, before + production))
    return Parts(bootstrap.assign(part="all"), replay, clustered=True, notes=(note,))


def own_file(settings: BenchmarkSettings, space: FeatureSpace, data_dir: Path | str | None) -> Parts:
    """Return a labelled file of the user's: its later part, by time or else by the order of clusters, is replayed.

    Raises:
        ConfigError: no such file, and no set of the catalogue has that name.
        SchemaMismatch: a column that the monitor names, or a feature, is missing.
    """
    path = Path(settings.dataset)
    if not path.is_absolute() and not path.is_file() and data_dir:
        path = Path(data_dir) / path
    if not path.is_file():
        raise ConfigError(
            f"benchmark.dataset {settings.dataset!r} is neither a set of the catalogue nor a file: {path}"
        )
    frame = pd.read_csv(path) if path.suffix == ".csv" else read_parquet(path)
    needed = [settings.label, settings.family, settings.cluster, settings.time, *space.names]
    if missing := [name for name in needed if name and name not in frame]:
        raise SchemaMismatch(f"{path}: the columns {missing} are missing; the monitor or its feature space names them")
    if wrong := sorted({str(value) for value in frame[settings.label].unique() if value not in {0, 1}}):
        raise SchemaMismatch(f"{path}: column {settings.label!r} must be 0 or 1, but holds {wrong[:5]}")
    kept = frame[list(space.names)].assign(label=frame[settings.label].astype(np.int8), part="all")
    kept["family"] = (
        frame[settings.family].astype(str) if settings.family else np.where(kept["label"] == 1, "malicious", "benign")
    )
    if settings.cluster:
        kept["cluster"] = frame[settings.cluster].astype(str)
    if settings.time:
        kept["event_time"] = pd.to_datetime(frame[settings.time], utc=True).dt.as_unit("us")
        kept = kept.sort_values("event_time", kind="stable", ignore_index=True)
    else:
        kept = kept.sample(frac=1.0, random_state=0, ignore_index=True)
    border = int(len(kept) * (1.0 - LATER_SHARE))
    return Parts(kept.iloc[:border], kept.iloc[border:], clustered=bool(settings.cluster))
