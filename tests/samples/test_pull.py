from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from domain.errors import CorruptFile, DataError, LeaseHeld
from registry import leases
from samples.pull import LEASE_KIND
from samples.quarantine import count_quarantined, read_quarantine
from samples.sources import ParquetSource, StoreSource, open_source, row_digest
from samples.store import SampleStore
from samples.windows import find_window, list_windows, window_frame
from tests.samples.helpers import HOUR, SPACE, T0, Place, make_place, monitor, rows


def pulled_ids(place: Place) -> list[str]:
    frames = [window_frame(place.ledger, place.content, ref) for ref in list_windows(place.ledger, "tiny-monitor")]
    return sorted(name for frame in frames for name in frame["sample_id"])


def with_features(frame: pd.DataFrame, position: int, **changes: object) -> None:
    values = json.loads(frame.loc[position, "features"])
    frame.loc[position, "features"] = json.dumps(values | changes)


def test_every_row_is_pulled_once_over_many_pulls_and_chunks(place: Place) -> None:
    place.store.write_samples(rows(300, every=HOUR / 6))
    total = 0
    for hours in (10, 10, 26, 49, 60, 60):
        total += place.pull(T0 + hours * HOUR, chunk=17).rows
    assert total == 300
    assert pulled_ids(place) == rows(300)["sample_id"].tolist()


def test_rows_reach_the_window_of_their_event_time_with_typed_features(place: Place) -> None:
    place.store.write_samples(rows(48, every=HOUR))
    result = place.pull(T0 + 100 * HOUR)
    assert [(ref.start, ref.rows) for ref in result.windows] == [(T0, 24), (T0 + 24 * HOUR, 24)]
    frame = window_frame(place.ledger, place.content, result.windows[0])
    assert frame["rate"].dtype == np.float64
    assert frame["size"].tolist() == [float(number) for number in range(24)]
    assert "features" not in frame


def test_a_late_row_makes_a_new_revision_and_the_old_one_stays_readable(place: Place) -> None:
    place.store.write_samples(rows(10))
    first = place.pull(T0 + HOUR).windows[0]
    late = rows(1, start=500)
    late["ingest_time"] = pd.Timestamp(T0 + 40 * HOUR)
    place.store.write_samples(late)
    second = place.pull(T0 + 50 * HOUR).windows[0]
    assert (first.revision, second.revision, second.rows) == (1, 2, 11)
    again = find_window(place.ledger, "tiny-monitor", T0, revision=1)
    assert again.digests == first.digests
    assert len(window_frame(place.ledger, place.content, again)) == 10


def test_a_row_that_commits_behind_the_watermark_is_found(place: Place) -> None:
    place.store.write_samples(rows(30))
    assert place.pull(T0 + HOUR).rows == 30
    place.store.write_samples(rows(1, start=900, at=T0 + HOUR / 4))
    assert place.pull(T0 + HOUR).rows == 1
    assert "s00900" in pulled_ids(place)


def test_time_going_backwards_at_the_source_loses_nothing(place: Place) -> None:
    place.store.write_samples(rows(10, at=T0 + 90 * HOUR))
    place.pull(T0 + 100 * HOUR)
    place.store.write_samples(rows(10, start=100, at=T0))
    assert place.pull(T0 + 100 * HOUR).rows == 10
    assert len(pulled_ids(place)) == 20


@pytest.mark.parametrize("chunk", [2, 100])
def test_the_same_row_again_is_a_duplicate_and_other_content_under_its_id_is_quarantined(
    place: Place, chunk: int
) -> None:
    place.store.write_samples(rows(5))
    place.pull(T0 + HOUR)
    again = rows(5)
    again["ingest_time"] += pd.Timedelta(hours=2)
    with_features(again, 3, size=77)
    place.store.write_samples(again)
    result = place.pull(T0 + 5 * HOUR, chunk=chunk)
    assert (result.rows, result.duplicates, result.quarantined) == (0, 4, 1)
    result = place.pull(T0 + 5 * HOUR, chunk=chunk)
    assert (result.duplicates, result.quarantined) == (0, 0)
    held = read_quarantine(place.ledger, place.content, "tiny-monitor").iloc[0]
    assert held["sample_id"] == "s00003"
    assert "other content" in held["reason"]
    assert json.loads(held["payload"]["features"])["size"] == 77
    frame = window_frame(place.ledger, place.content, list_windows(place.ledger, "tiny-monitor")[0])
    assert frame.loc[frame["sample_id"] == "s00003", "size"].tolist() == [3.0]


def test_an_id_twice_in_one_chunk_keeps_the_first_row(place: Place) -> None:
    frame = pd.concat([rows(3), rows(3)], ignore_index=True)
    frame.loc[3:, "ingest_time"] += pd.Timedelta(minutes=5)
    with_features(frame, 4, size=999)
    place.store.write_samples(frame)
    result = place.pull(T0 + HOUR)
    assert (result.rows, result.duplicates, result.quarantined) == (3, 2, 1)


def test_a_flood_of_malformed_rows_neither_blinds_the_monitor_nor_is_lost(place: Place) -> None:
    clean, flood = rows(40), rows(400, start=1000, every=HOUR / 100)
    flood["features"] = [("{", "[1]", "null", '{"size": "x"}')[number % 4] for number in range(400)]
    place.store.write_samples(flood)
    place.store.write_samples(clean)
    ref = place.pull(T0 + 10 * HOUR, chunk=64).windows[0]
    assert (ref.rows, ref.quarantined) == (40, 400)
    assert ref.quarantined_share == pytest.approx(400 / 440)
    held = read_quarantine(place.ledger, place.content, "tiny-monitor")
    assert sorted(held["sample_id"]) == flood["sample_id"].tolist()
    assert held["reason"].str.len().min() > 10
    assert len(set(held["contract_version"])) == 1
    assert count_quarantined(place.ledger, "tiny-monitor") == {held["contract_version"].iloc[0]: 400}
    assert place.pull(T0 + 10 * HOUR).quarantined == 0


def test_a_second_pull_at_the_same_time_is_refused(place: Place) -> None:
    lease = leases.acquire(place.ledger, "tiny-monitor", LEASE_KIND, "other", 60)
    with pytest.raises(LeaseHeld, match="other"):
        place.pull(T0)
    leases.release(place.ledger, lease)
    assert place.pull(T0).rows == 0


def test_labels_that_come_before_their_samples_do_not_disturb_the_pull(place: Place) -> None:
    place.store.write_labels(
        pd.DataFrame({"sample_id": ["s00001"], "value": [1], "kind": ["feed"], "time": [T0 - HOUR]})
    )
    place.store.write_samples(rows(3))
    assert place.pull(T0 + HOUR).rows == 3
    assert place.store.read_labels(pulled_ids(place))["sample_id"].tolist() == ["s00001"]


def test_a_changed_file_in_the_content_store_is_noticed(place: Place) -> None:
    place.store.write_samples(rows(3))
    ref = place.pull(T0 + HOUR).windows[0]
    place.content.path(ref.digests[0]).write_bytes(b"something else")
    with pytest.raises(CorruptFile, match="digest"):
        window_frame(place.ledger, place.content, ref)


def test_an_unknown_window_is_named(place: Place) -> None:
    with pytest.raises(DataError, match="no window"):
        find_window(place.ledger, "tiny-monitor", T0)


KILLED = """
import sys
from pathlib import Path
from tests.samples.helpers import HOUR, T0, make_place
place = make_place(Path(sys.argv[1]))
place.pull(T0 + 100 * HOUR, chunk=20)
"""


@pytest.mark.slow
@pytest.mark.parametrize("point", ["pull.before-commit", "pull.after-commit"])
def test_a_pull_that_is_killed_is_repeated_without_loss_or_repetition(tmp_path: Path, point: str) -> None:
    place = make_place(tmp_path)
    place.store.write_samples(rows(100, every=HOUR))
    environment = os.environ | {"REVET_FAILPOINT": point}
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, check=False, timeout=120)
    assert ended.returncode == 137
    with place.ledger.begin() as connection:
        from registry.ledger.tables import lease

        connection.execute(lease.delete())  # as if its time were over
    shown = [ref.state for ref in list_windows(place.ledger, "tiny-monitor")]
    assert "filling" not in shown
    place.pull(T0 + 100 * HOUR, chunk=20)
    assert pulled_ids(place) == rows(100)["sample_id"].tolist()
    place.close()


def write_parquet(folder: Path, name: str, frame: pd.DataFrame) -> Path:
    folder.mkdir(exist_ok=True)
    frame.to_parquet(folder / name, index=False)
    return folder / name


def test_a_corrupt_file_and_one_of_another_schema_are_quarantined_and_the_rest_is_pulled(
    place: Place, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    write_parquet(folder, "a.parquet", rows(5))
    (folder / "b.parquet").write_bytes(b"PAR1 this is no Parquet")
    write_parquet(folder, "c.parquet", pd.DataFrame({"something": [1]}))
    write_parquet(folder, "d.parquet", rows(5, start=100))
    source = open_source(monitor(source={"kind": "parquet", "path": str(folder)}).source, "")
    result = place.pull(T0 + HOUR, source)
    assert (result.rows, result.quarantined) == (10, 2)
    held = read_quarantine(place.ledger, place.content, "tiny-monitor").set_index("sample_id")["reason"]
    assert "b.parquet" in held["file:b.parquet"]
    assert "sample_id" in held["file:c.parquet"]
    assert place.pull(T0 + HOUR, source).quarantined == 0
    write_parquet(folder, "b.parquet", rows(5, start=200))
    assert place.pull(T0 + HOUR, source).rows == 5


def test_a_file_that_arrives_late_is_pulled_whatever_its_rows_say(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_parquet(folder, "a.parquet", rows(5, at=T0 + 500 * HOUR))
    source = ParquetSource(folder)
    place.pull(T0 + 600 * HOUR, source)
    write_parquet(folder, "b.parquet", rows(5, start=100))
    assert place.pull(T0 + 600 * HOUR, source).rows == 5


def test_features_may_be_columns_of_their_own_in_parquet(place: Place, tmp_path: Path) -> None:
    frame = rows(4)
    wide = pd.concat([frame.drop(columns="features"), pd.DataFrame(map(json.loads, frame["features"]))], axis=1)
    write_parquet(tmp_path / "in", "a.parquet", wide)
    result = place.pull(T0 + HOUR, ParquetSource(tmp_path / "in"), chunk=3)
    assert (result.rows, result.quarantined) == (4, 0)


def test_rows_without_an_id_in_a_file_are_quarantined_once(place: Place, tmp_path: Path) -> None:
    frame = rows(4)
    frame.loc[2, "sample_id"] = None
    write_parquet(tmp_path / "in", "a.parquet", frame)
    source = ParquetSource(tmp_path / "in")
    result = place.pull(T0 + HOUR, source)
    assert (result.rows, result.quarantined) == (3, 1)
    assert place.pull(T0 + HOUR, source).quarantined == 0
    assert "sample_id is missing" in read_quarantine(place.ledger, place.content, "tiny-monitor")["reason"].iloc[0]


def test_rows_that_arrive_after_as_of_wait_for_the_next_pull(place: Place, tmp_path: Path) -> None:
    write_parquet(tmp_path / "in", "a.parquet", rows(60))
    source = ParquetSource(tmp_path / "in")
    assert place.pull(T0 + HOUR / 2, source).rows == 30
    assert place.pull(T0 + HOUR * 2, source).rows == 30


@pytest.mark.slow
def test_great_expectations_judges_a_pull(place: Place) -> None:
    frame = rows(8)
    with_features(frame, 1, size=float("nan"))
    with_features(frame, 2, rate=float("inf"))
    with_features(frame, 3, proto="quic")
    with_features(frame, 4, size=-1)
    place.store.write_samples(frame)
    result = place.pull(T0 + HOUR, StoreSource(place.store), judge=None)
    held = read_quarantine(place.ledger, place.content, "tiny-monitor").set_index("sample_id")["reason"]
    assert result.rows == 4
    assert "NaN" in held["s00001"]
    assert "rate must lie in [0, 1], got inf" in held["s00002"]
    assert "known category" in held["s00003"]
    assert "got -1" in held["s00004"]
    assert SPACE.digest


@pytest.mark.parametrize("chunk", [2, 100])
def test_a_row_sent_again_is_known_also_when_its_new_neighbour_has_no_verdict(place: Place, chunk: int) -> None:
    place.store.write_samples(rows(3))
    place.pull(T0 + HOUR)
    again = pd.concat([rows(3), rows(1, start=3)], ignore_index=True)
    again["ingest_time"] += pd.Timedelta(hours=2)
    for name in ("verdict", "model_version"):
        again[name] = again[name].astype(object)
        again.loc[3, name] = None
    place.store.write_samples(again)
    result = place.pull(T0 + 5 * HOUR, chunk=chunk)
    assert (result.duplicates, result.quarantined) == (3, 1)
    held = read_quarantine(place.ledger, place.content, "tiny-monitor")
    assert held["sample_id"].tolist() == ["s00003"]


def test_the_digest_of_a_row_does_not_depend_on_how_its_numbers_are_typed() -> None:
    row = {"features": "{}", "event_time": pd.Timestamp(T0), "model_version": 3, "score": 1.0, "verdict": None}
    same = [{"model_version": 3.0}, {"model_version": np.int64(3)}, {"score": 1}, {"score": np.float32(1)},
            {"verdict": float("nan")}, {"verdict": pd.NA}]  # fmt: skip
    other = [{"model_version": 4}, {"score": 0.5}, {"verdict": 0}, {"verdict": 1}, {"features": "{ }"}]
    assert {row_digest(row | change) for change in same} == {row_digest(row)}
    assert len({row_digest(row | change) for change in [{}, *other]}) == len(other) + 1


def test_a_wide_file_sent_again_beside_a_row_that_lacks_a_value_is_known(place: Place, tmp_path: Path) -> None:
    frame = rows(4)
    wide = pd.concat([frame.drop(columns="features"), pd.DataFrame(map(json.loads, frame["features"]))], axis=1)
    write_parquet(tmp_path / "in", "a.parquet", wide.head(3))
    source = ParquetSource(tmp_path / "in")
    place.pull(T0 + HOUR, source)
    wide["ingest_time"] += pd.Timedelta(hours=2)
    wide["size"] = wide["size"].astype(float)
    wide.loc[3, "size"] = np.nan
    write_parquet(tmp_path / "in", "b.parquet", wide)
    result = place.pull(T0 + 5 * HOUR, source)
    assert (result.rows, result.duplicates) == (0, 3)
    held = read_quarantine(place.ledger, place.content, "tiny-monitor")
    assert held["sample_id"].tolist() == ["s00003"]


def test_one_row_with_a_future_ingest_time_does_not_blind_the_monitor(place: Place) -> None:
    ahead = rows(1)
    ahead["ingest_time"] = pd.Timestamp(T0 + 90_000 * HOUR)
    place.store.write_samples(ahead)
    place.store.write_samples(rows(20, start=1))
    assert place.pull(T0 + 100 * HOUR).rows == 20
    assert place.pull(T0 + 101 * HOUR).rows == 1


def test_rows_of_a_clock_that_went_back_are_pulled_while_it_is_back(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    now = [T0 + 500 * HOUR]
    place.store = SampleStore(place.store.url, clock=lambda: now[0])
    place.store.write_samples(rows(1, at=now[0]).drop(columns="ingest_time"))
    assert place.pull(now[0]).rows == 1
    now[0] = T0 + HOUR
    place.store.write_samples(rows(10, start=100, at=T0 - 2 * HOUR).drop(columns="ingest_time"))
    assert place.pull(now[0]).rows == 10
    now[0] = T0 + 501 * HOUR
    assert place.pull(now[0]).duplicates == 0
    place.close()


def test_made_up_event_times_fill_no_calendar_with_windows(place: Place) -> None:
    place.store.write_samples(rows(10))
    flood = rows(60, start=1000)
    flood["event_time"] = [T0 - 24 * HOUR * (31 + day) if day % 2 else T0 + 24 * HOUR * (9 + day) for day in range(60)]
    numbers = rows(5, start=2000).assign(event_time=1_772_323_200)
    place.store.write_samples(flood)
    place.store.write_samples(numbers)
    result = place.pull(T0 + 100 * HOUR)
    assert [(ref.start, ref.rows, ref.quarantined) for ref in result.windows] == [(T0, 10, 65)]
    held = read_quarantine(place.ledger, place.content, "tiny-monitor").set_index("sample_id")["reason"]
    assert "before ingest_time at most" in held["s01001"]
    assert "after ingest_time at most" in held["s01000"]
    assert "ISO 8601" in held["s02000"]
    assert "bare number" in held["s02000"]
