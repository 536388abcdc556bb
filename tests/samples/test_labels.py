from __future__ import annotations

from datetime import timedelta

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from samples.labels import resolve
from tests.samples.helpers import HOUR, T0

HORIZON = timedelta(hours=24)


def label(sample: str, value: int, hours: float, trust: float = 0.9, who: str = "ann", kind: str = "alert") -> dict:
    return {"sample_id": sample, "value": value, "kind": kind, "labeller": who, "trust": trust,
            "inclusion_probability": 0.1 if kind == "audit" else 1.0, "time": T0 + hours * HOUR,
            "family": f"family-{value}"}  # fmt: skip


def resolved(*entries: dict, as_of: float = 100) -> pd.DataFrame:
    return resolve(pd.DataFrame(list(entries)), T0 + as_of * HOUR, HORIZON)


def test_a_correction_by_the_same_labeller_wins_and_is_no_contradiction() -> None:
    row = resolved(label("a", 1, 1), label("a", 0, 2)).iloc[0]
    assert (row["value"], row["family"], row["corrected"], row["contradictory"]) == (0, "family-0", True, False)


def test_a_later_label_of_less_trust_does_not_win_but_contradicts() -> None:
    row = resolved(label("a", 1, 1, trust=0.9), label("a", 0, 2, trust=0.5, who="feed")).iloc[0]
    assert (row["value"], row["contradictory"], row["corrected"]) == (1, True, False)


def test_at_the_same_time_and_trust_malicious_wins() -> None:
    row = resolved(label("a", 1, 1), label("a", 0, 1, who="bob")).iloc[0]
    assert (row["value"], row["contradictory"]) == (1, True)


def test_a_label_of_the_future_is_not_known_yet() -> None:
    assert resolved(label("a", 1, 5), as_of=4).empty
    assert resolved(label("a", 1, 1), label("a", 0, 5), as_of=4)["value"].tolist() == [1]


def test_the_audit_stream_keeps_its_probability_whoever_decides_the_value() -> None:
    row = resolved(label("a", 0, 1, trust=0.5, kind="audit"), label("a", 1, 2, trust=1.0, who="bob")).iloc[0]
    assert (row["value"], row["kind"], row["inclusion_probability"]) == (1, "audit", 0.1)


def test_a_label_after_the_horizon_is_marked_late_and_one_without_its_sample_is_not() -> None:
    frame = pd.DataFrame([label("a", 1, 30), label("b", 1, 3), label("c", 1, 30)])
    times = pd.Series({"a": pd.Timestamp(T0), "b": pd.Timestamp(T0)})
    found = resolve(frame, T0 + 100 * HOUR, HORIZON, times).set_index("sample_id")["late"]
    assert found.to_dict() == {"a": True, "b": False, "c": False}


entries = st.lists(
    st.builds(
        label, st.sampled_from("abc"), st.integers(0, 1), st.integers(0, 5),
        trust=st.sampled_from([0.5, 0.9]), who=st.sampled_from(["ann", "bob"]),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(entries, st.randoms())
def test_the_order_of_arrival_does_not_matter_and_every_sample_has_one_label(entries: list[dict], shuffler) -> None:
    first = resolved(*entries)
    shuffled = list(entries)
    shuffler.shuffle(shuffled)
    second = resolved(*shuffled)
    columns = ["sample_id", "value", "trust", "time", "contradictory", "count"]
    pd.testing.assert_frame_equal(first[columns], second[columns])
    assert first["sample_id"].tolist() == sorted({entry["sample_id"] for entry in entries})
    highest = pd.DataFrame(entries).groupby("sample_id")["trust"].max()
    assert (first.set_index("sample_id")["trust"] == highest).all()


def test_two_values_of_one_labeller_at_one_moment_resolve_alike_in_any_order() -> None:
    entries = [label("a", 0, 1), label("a", 1, 1), label("a", 0, 1, who="bob", trust=0.5)]
    assert resolved(*entries).equals(resolved(*reversed(entries)))
    assert resolved(*entries)["contradictory"].tolist() == [True]
