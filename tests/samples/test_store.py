from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import ConfigError, DataError, SchemaMismatch
from domain.monitor import SourceSettings
from samples.schema import from_micros, times_to_micros, to_micros
from samples.sources import StoreSource, open_source
from samples.store import SampleStore
from tests.samples.helpers import HOUR, T0, Place, rows


def labels(**changes: object) -> pd.DataFrame:
    base = {"sample_id": ["s00000"], "value": [1], "kind": ["audit"], "labeller": ["a"], "trust": [1.0],
            "inclusion_probability": [0.1], "time": [T0], "family": [None]}  # fmt: skip
    return pd.DataFrame(base | {key: [value] for key, value in changes.items()})


@settings(max_examples=30, deadline=None)
@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_time_survives_the_way_into_the_database_and_back(moment: datetime) -> None:
    assert from_micros(to_micros(moment)) == moment


def test_a_time_without_zone_is_refused_with_the_fix() -> None:
    with pytest.raises(DataError, match=r"no time zone.*\+00:00"):
        to_micros(datetime(2026, 1, 1))  # noqa: DTZ001


def test_pages_give_every_row_once_in_order_also_when_times_and_ids_repeat(place: Place) -> None:
    frame = pd.concat([rows(50), rows(50)], ignore_index=True)
    frame["ingest_time"] = frame["ingest_time"].dt.floor("10min")
    place.store.write_samples(frame)
    pages = list(place.store.pages((0, ""), to_micros(T0 + HOUR), 7))
    read = pd.concat(pages, ignore_index=True)
    assert len(read) == 100
    assert max(map(len, pages)) == 7
    keys = list(zip(read["ingest_time"], read["sample_id"], strict=True))
    assert keys == sorted(keys)


def test_malformed_features_and_times_are_stored_as_they_came(place: Place) -> None:
    frame = rows(3)
    frame["features"] = ["{not json", '{"size": NaN}', None]
    frame["event_time"] = ["yesterday", T0.isoformat(), None]
    assert place.store.write_samples(frame) == 3
    read = pd.concat(place.store.pages((0, ""), to_micros(T0 + 1000 * HOUR), 10))
    assert read["features"].tolist()[:2] == ["{not json", '{"size": NaN}']
    assert read["event_time"].isna().tolist() == [True, False, True]


def test_a_row_without_an_id_is_refused_before_anything_is_written(place: Place) -> None:
    frame = rows(3)
    frame.loc[1, "sample_id"] = ""
    with pytest.raises(SchemaMismatch, match="sample_id"):
        place.store.write_samples(frame)
    assert place.store.count() == (0, 0)


def test_an_ingest_clock_that_jumps_back_cannot_hide_rows(place: Place) -> None:
    place.store.write_samples(rows(2))
    newest = place.store.newest()
    late = rows(1, start=10, at=T0 - 500 * HOUR)
    place.store.write_samples(late)
    assert place.store.newest() == newest
    read = pd.concat(place.store.pages((to_micros(newest) - 1, ""), to_micros(newest), 10))
    assert "s00010" in set(read["sample_id"])


def test_a_slightly_late_commit_keeps_its_ingest_time(place: Place) -> None:
    place.store.write_samples(rows(2, at=T0 + HOUR / 2))
    place.store.write_samples(rows(1, start=10, at=T0))
    read = next(place.store.pages((0, ""), to_micros(T0 + HOUR), 10))
    assert read["sample_id"].tolist()[0] == "s00010"


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"value": 2}, "value"), ({"kind": "guess"}, "kind"), ({"trust": 1.5}, "trust"),
     ({"inclusion_probability": None}, "audit label needs one"), ({"inclusion_probability": 0.0}, "inclusion"),
     ({"time": "soon"}, "time"), ({"sample_id": ""}, "sample_id")],
)  # fmt: skip
def test_a_wrong_label_is_refused_and_named(place: Place, changes: dict[str, object], told: str) -> None:
    with pytest.raises(DataError, match=told):
        place.store.write_labels(labels(**changes))
    assert place.store.count() == (0, 0)


def test_labels_before_their_samples_are_kept_and_found_later(place: Place) -> None:
    place.store.write_labels(labels(sample_id="s00001"))
    assert place.store.read_labels(window=(T0, T0 + HOUR)).empty
    place.store.write_samples(rows(3))
    assert place.store.read_labels(window=(T0, T0 + HOUR))["sample_id"].tolist() == ["s00001"]
    assert place.store.read_labels(["s00001"])["value"].tolist() == [1]


def test_labels_after_as_of_are_not_known_yet(place: Place) -> None:
    place.store.write_labels(labels(time=T0 + HOUR))
    assert place.store.read_labels(["s00000"], as_of=T0).empty
    assert len(place.store.read_labels(["s00000"], as_of=T0 + HOUR)) == 1


def test_the_clock_gives_the_ingest_time_where_a_row_has_none(place: Place) -> None:
    place.store.write_samples(rows(1).drop(columns="ingest_time"))
    assert place.store.newest() == T0 + 100 * HOUR


def test_two_stores_on_one_file_see_each_other(place: Place) -> None:
    other = SampleStore(place.store.url, max_backwards=timedelta(0))
    place.store.write_samples(rows(5))
    assert other.count() == (5, 0)
    other.close()


def test_the_address_of_a_store_may_refer_to_the_environment(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SAMPLES_AT", f"sqlite:///{tmp_path / 'own.db'}")
    found = open_source(SourceSettings(url="${SAMPLES_AT}"), "sqlite:///unused.db")
    assert isinstance(found, StoreSource)
    assert found.store.url == f"sqlite:///{tmp_path / 'own.db'}"
    with pytest.raises(ConfigError, match=r"source\.url: \$\{NOT_SET\} is not set"):
        open_source(SourceSettings(url="${NOT_SET}"), "")


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[tuple[SampleStore, list[datetime]]]:
    now = [T0]
    store = SampleStore(f"sqlite:///{tmp_path / 'clocked.db'}", clock=lambda: now[0]).create()
    yield store, now
    store.close()


def ingest_time_of(store: SampleStore, sample_id: str) -> datetime:
    read = pd.concat(store.pages((0, ""), 2**62, 100)).set_index("sample_id")
    return read.loc[sample_id, "ingest_time"].to_pydatetime()


def test_an_ingest_time_in_the_future_is_cut_and_lifts_no_other_row(clocked) -> None:
    store, now = clocked
    ahead = rows(1)
    ahead["ingest_time"] = pd.Timestamp(T0 + 9000 * HOUR)
    store.write_samples(ahead)
    assert ingest_time_of(store, "s00000") == T0 + timedelta(minutes=5)
    store.write_samples(rows(1, start=1).drop(columns="ingest_time"))
    assert ingest_time_of(store, "s00001") == T0
    now[0] = T0 + HOUR
    store.write_samples(rows(1, start=2, at=T0 + HOUR / 2))
    assert ingest_time_of(store, "s00002") == T0 + HOUR / 2 + timedelta(seconds=5)


def test_a_future_ingest_time_that_is_stored_already_lifts_no_other_row(clocked) -> None:
    store, now = clocked
    now[0] = T0 + 9000 * HOUR
    store.write_samples(rows(1).drop(columns="ingest_time"))
    now[0] = T0 + HOUR
    store.write_samples(rows(1, start=1).drop(columns="ingest_time"))
    store.write_samples(rows(1, start=2))
    assert ingest_time_of(store, "s00001") == T0 + HOUR
    assert ingest_time_of(store, "s00002") <= T0 + HOUR


@pytest.mark.parametrize("value", [1_772_323_200, 1_772_323_200.5, True, "177232320", " 20260301 ", np.int64(5)])
def test_a_bare_number_is_no_time_and_its_neighbours_stay_times(value: object) -> None:
    micros = times_to_micros(pd.Series([value, T0.isoformat(), T0, None], dtype=object))
    assert micros.tolist() == [None, to_micros(T0), to_micros(T0), None]
    assert times_to_micros(pd.Series([value] * 2)).tolist() == [None, None]


@pytest.mark.parametrize(
    "value",
    ["2026-03-02T09:30:00", "2026-03-02 09:30", "2026-03-02", datetime(2026, 3, 2), pd.Timestamp("2026-03-02"),  # noqa: DTZ001
     1_772_323_200, "177232320"],
)  # fmt: skip
def test_a_label_time_without_its_zone_is_refused_with_value_rule_and_fix(place: Place, value: object) -> None:
    with pytest.raises(DataError, match=r"time must be a time with its zone, such as .*\+00:00; 1 rows .* first has"):
        place.store.write_labels(labels(time=value))
    assert place.store.count() == (0, 0)


def test_label_times_with_zones_may_be_written_in_different_ways(place: Place) -> None:
    written = ["2026-03-02T09:30:00Z", "2026-03-02 10:30:00.000+01:00", "2026-03-02T04:30-05:00"]
    frame = pd.concat([labels(time=text, sample_id=f"s{number}") for number, text in enumerate(written)])
    place.store.write_labels(frame)
    read = place.store.read_labels(["s0", "s1", "s2"])
    assert set(read["time"]) == {pd.Timestamp("2026-03-02T09:30:00Z")}
