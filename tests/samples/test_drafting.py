import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.pandas import column, data_frames

from domain.errors import DataError, NotEnoughRows, SchemaMismatch
from domain.features import parse_feature_space
from domain.monitor import parse_monitor
from evaluation.constraints.compiled import CompiledSpace
from samples.drafting import draft_feature_space, draft_monitor


def traffic(n=400):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "flow_id": np.arange(n),
            "when": pd.date_range("2026-01-01", periods=n, tz="UTC"),
            "bytes_out": rng.lognormal(6, 3, n).astype(int),
            "ttl": rng.integers(30, 128, n),
            "share": rng.random(n),
            "offset": rng.normal(size=n),
            "encrypted": rng.integers(0, 2, n),
            "protocol": rng.choice(["tcp", "udp"], n),
            "agent": [f"agent {i}" for i in range(n)],
            "constant": 1,
            "odd name": rng.random(n),
            "label": np.arange(n) % 2,
        }
    )


def drafted(frame=None, **more):
    text = draft_feature_space(traffic() if frame is None else frame, label="label", name="my-flows", **more)
    return text, parse_feature_space(text, "draft.yaml")


def test_a_draft_takes_the_columns_that_can_be_features_and_says_why_others_are_left_out():
    text, space = drafted()
    assert space.names == ("bytes_out", "ttl", "share", "offset", "encrypted", "protocol")
    for name in ("flow_id", "when", "agent", "constant", "odd name"):
        assert f"# left out: {name} (" in text


def test_kinds_transforms_and_bounds_come_from_the_values():
    frame = traffic()
    features = {feature.name: feature for feature in drafted(frame)[1].features}
    assert [features[name].kind for name in ("bytes_out", "share", "encrypted", "protocol")] == [
        "integer",
        "real",
        "binary",
        "categorical",
    ]
    assert features["bytes_out"].transform == "log1p"
    assert features["ttl"].transform == "linear"
    assert features["bytes_out"].high >= 4 * frame["bytes_out"].max()
    assert (features["share"].low, features["share"].high) == (0.0, 1.0)
    assert features["offset"].low < frame["offset"].min()


def test_a_draft_leaves_the_expected_attacker_something_to_move():
    space = drafted()[1]
    assert {f.name: f.mutability["expected"] for f in space.features} == {
        "bytes_out": "increase-only",
        "ttl": "increase-only",
        "share": "increase-only",
        "offset": "free",
        "encrypted": "fixed",
        "protocol": "fixed",
    }
    assert all("not reviewed" in feature.reason for feature in space.features)


def test_every_row_of_the_drafted_data_keeps_the_drafted_space():
    frame = traffic()
    compiled = CompiledSpace(drafted(frame)[1], "expected")
    raw = compiled.encoding.to_raw(frame)
    assert compiled.check(raw, raw).ok.all()


def test_a_column_that_gives_the_label_away_is_marked():
    frame = traffic()
    frame["difficulty"] = frame["label"] * 5 + np.linspace(0, 1, len(frame))
    assert "is it a leak of the label?" in drafted(frame)[0]


def test_excluded_columns_are_not_features():
    assert "ttl" not in drafted(exclude=["ttl"])[1].names


finite = st.floats(-1e12, 1e12, allow_subnormal=False)


@settings(max_examples=30, deadline=None)
@given(
    data_frames([column("a", elements=finite), column("b", elements=st.integers(-5, 10**9)), column("c", dtype=bool)])
)
def test_any_finite_data_drafts_to_a_space_that_its_rows_keep(frame):
    frame = pd.concat([frame, pd.DataFrame({"a": [0.0, 1.0], "b": [0, 1], "c": [False, True]})], ignore_index=True)
    frame["label"] = np.arange(len(frame)) % 2
    compiled = CompiledSpace(drafted(frame)[1], "expected")
    raw = compiled.encoding.to_raw(frame)
    assert compiled.check(raw, raw).ok.all()


@pytest.mark.parametrize(
    ("change", "error", "fault"),
    [
        (lambda f: f.drop(columns="label"), SchemaMismatch, "'label' is not in the data"),
        (lambda f: f.assign(label="maybe"), SchemaMismatch, "'maybe'"),
        (lambda f: f.assign(label=1), NotEnoughRows, "both classes"),
        (lambda f: f[["label"]], SchemaMismatch, "no column besides"),
        (lambda f: pd.concat([f, f[["ttl"]]], axis=1), SchemaMismatch, "repeated: \\['ttl'\\]"),
    ],
)
def test_data_that_cannot_be_drafted_is_refused_with_the_reason(change, error, fault):
    with pytest.raises(error, match=fault):
        drafted(change(traffic()))


def test_a_bad_name_is_refused():
    with pytest.raises(DataError, match="lower-case"):
        draft_feature_space(traffic(), label="label", name="My Flows")


def test_words_for_labels_are_understood():
    assert drafted(traffic().assign(label=np.arange(400) % 2 == 0))[1].names


def test_a_drafted_monitor_reads_back_with_its_columns_and_a_budget_that_the_rows_support():
    frame = pd.concat([traffic(4000)] * 20, ignore_index=True)
    text = draft_monitor(
        frame, label="label", name="my-flows", dataset="x.parquet", feature_space="my.yaml", time="when"
    )
    monitor = parse_monitor(text, "m.yaml")
    assert (monitor.benchmark.dataset, monitor.benchmark.time, monitor.feature_space) == (
        "x.parquet",
        "when",
        "my.yaml",
    )
    assert monitor.false_positive_budget == 0.01
    assert monitor.prevalence == 0.5


def test_a_monitor_for_few_rows_says_that_its_budget_is_weak():
    text = draft_monitor(traffic(), label="label", name="my-flows", dataset="x.csv", feature_space="my.yaml")
    assert "marked weak" in text


def test_a_monitor_with_an_unknown_column_is_refused():
    with pytest.raises(SchemaMismatch, match="cluster column 'host'"):
        draft_monitor(traffic(), label="label", name="my-flows", dataset="x", feature_space="my.yaml", cluster="host")
