from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import ConfigError
from samples.contract.contract import build_contract, validate
from samples.contract.parsing import PARSE_ERROR, parse_features
from tests.samples.helpers import SPACE, plain_judge, rows

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(SPACE.names) | st.text(), inner),
    max_leaves=6,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(json_values.map(json.dumps) | st.text(max_size=20) | st.none(), max_size=6))
def test_no_text_can_break_the_parser_and_every_row_keeps_its_place(texts: list[str | None]) -> None:
    parsed = parse_features(pd.Series(texts, dtype=object), SPACE)
    assert len(parsed) == len(texts)
    assert parsed["size"].dtype == np.float64
    for position, text in enumerate(texts):
        if pd.isna(parsed[PARSE_ERROR].iloc[position]):
            assert set(json.loads(str(text))) == set(SPACE.names)


@pytest.mark.parametrize(
    ("text", "told"),
    [("{", "not JSON"), ("[1]", "not an object"), ('{"size": 1, "rate": 0.5}', "proto is missing"),
     ('{"size": "7", "rate": 0.5, "proto": "tcp"}', "'7' is no number"),
     ('{"size": 1.5, "rate": 0.5, "proto": "tcp"}', "no whole number"),
     ('{"size": true, "rate": 0.5, "proto": "tcp"}', "no number"),
     ('{"size": 1, "rate": 0.5, "proto": 6}', "no text"),
     ('{"size": 1, "rate": 0.5, "proto": "tcp", "x": 1}', "'x'"),
     ('{"size": 1' + "0" * 400 + ', "rate": 0.5, "proto": "tcp"}', "too large"), ("[" * 100_000, "not JSON")],
)  # fmt: skip
def test_what_does_not_parse_is_told_in_words(text: str, told: str) -> None:
    assert told in parse_features(pd.Series([text]), SPACE)[PARSE_ERROR].iloc[0]


def test_good_and_bad_rows_together_are_all_rows() -> None:
    frame = rows(20)
    frame.loc[3, "features"] = "{"
    frame.loc[4, "score"] = 2.0
    found = validate(frame, build_contract(SPACE), plain_judge)
    assert sorted([*found.good["sample_id"], *found.bad["sample_id"]]) == frame["sample_id"].tolist()
    assert found.bad["features"].tolist()[0] == "{"
    assert {entry["rows"] for entry in found.summary} == {1}


def test_an_extra_expectation_changes_the_version_of_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "extra.yaml"
    path.write_text(
        "version: 1\nexpectations:\n  - type: expect_column_values_to_be_between\n"
        "    kwargs: {column: size, max_value: 10}\n    reason: no more than ten\n"
    )
    plain, extended = build_contract(SPACE), build_contract(SPACE, path)
    assert plain.version == build_contract(SPACE).version
    assert plain.version != extended.version
    assert validate(rows(20), extended, plain_judge).bad["reason"].str.contains("no more than ten").all()


@pytest.mark.parametrize("text", ["version: 2\nexpectations: []", "version: 1\nexpectations: [{type: x}]", "{", "1"])
def test_a_wrong_extra_file_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "extra.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"extra\.yaml"):
        build_contract(SPACE, path)


@pytest.mark.slow
def test_great_expectations_finds_what_is_wrong_in_each_row_and_nothing_else(tmp_path: Path) -> None:
    frame = rows(12)
    values = {"size": 5, "rate": 0.5, "proto": "tcp"}
    for position, change in enumerate(({"size": float("nan")}, {"rate": float("-inf")}, {"proto": "gre"},
                                       {"size": 2000})):  # fmt: skip
        frame.loc[position, "features"] = json.dumps(values | change)
    frame.loc[5, "sample_id"] = "s00004"
    frame.loc[6, "event_time"] += pd.Timedelta(hours=2)
    frame.loc[7, "verdict"] = 4
    path = tmp_path / "extra.yaml"
    path.write_text(
        "version: 1\nexpectations:\n"
        "  - {type: expect_column_values_to_not_be_in_set, kwargs: {column: size, value_set: [8]}, reason: no eights}\n"
        "  - {type: expect_column_mean_to_be_between, kwargs: {column: size, max_value: 0.0}, severity: warning}\n"
    )
    found = validate(frame, build_contract(SPACE, path))
    told = dict(zip(found.bad.index, found.bad["reason"], strict=True))
    expected = (
        "NaN",
        "got -inf",
        "known category",
        "size must lie",
        "unique",
        "after ingest_time",
        "verdict",
        "eights",
    )
    assert len(found.bad) == len(expected)
    assert all(word in told[position] for position, word in enumerate(expected))
    assert found.good["sample_id"].tolist() == ["s00004", "s00009", "s00010", "s00011"]
    assert [entry["severity"] for entry in found.summary].count("warning") == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["expect_nothing_of_this_name", "expect_column_values_to_be_between"])
def test_an_expectation_that_cannot_be_evaluated_is_a_clear_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "extra.yaml"
    path.write_text(f"version: 1\nexpectations:\n  - {{type: {kind}, kwargs: {{column: nowhere, max_value: 1}}}}\n")
    with pytest.raises(ConfigError, match=kind):
        validate(rows(3), build_contract(SPACE, path))


@pytest.mark.slow
def test_a_second_rule_of_one_type_on_a_column_stands_beside_the_first(tmp_path: Path) -> None:
    low, high = SPACE.features[0].low, SPACE.features[0].high
    path = tmp_path / "extra.yaml"
    rule = "  - {type: expect_column_values_to_be_between, kwargs: {column: size, %s}, reason: %s}\n"
    path.write_text(
        "version: 1\nexpectations:\n"
        + rule % ("max_value: 7", "seven at most")
        + rule % (f"min_value: {low}, max_value: {high}", "said twice")
    )
    frame = rows(3)
    for position, size in enumerate((5, 9, 10_000)):
        frame.loc[position, "features"] = json.dumps({"size": size, "rate": 0.5, "proto": "tcp"})
    found = validate(frame, build_contract(SPACE, path))
    assert len(found.good) == 1
    assert found.bad["reason"].iloc[0] == "seven at most, got 9.0"
    assert "size must lie" in found.bad["reason"].iloc[1]


def test_an_event_may_be_thirty_days_old_when_it_arrives_and_no_older() -> None:
    frame = rows(3)
    ages = [pd.Timedelta(days=30), pd.Timedelta(days=30, seconds=1), pd.Timedelta(days=500)]
    frame["event_time"] = frame["ingest_time"] - pd.Series(ages)
    found = validate(frame, build_contract(SPACE), plain_judge)
    assert found.good["sample_id"].tolist() == ["s00000"]
    assert found.bad["reason"].str.contains("30 days before ingest_time at most, got -", regex=False).all()
    assert {entry["severity"] for entry in found.summary} == {"critical"}
