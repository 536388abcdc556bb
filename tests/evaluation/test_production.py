from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from domain.errors import SchemaMismatch
from evaluation.production import evaluate_production
from tests.evaluation.toys import DAY, SPACE, traffic


def measure(frame, labels, **changes):
    options = {"quarantined": 3, "horizon_hours": 24.0, "as_of": DAY + timedelta(days=2), "space": SPACE, "seed": 0}
    return evaluate_production(frame, labels, **{**options, **changes})


def test_audited_misses_stand_for_the_misses_nobody_looked_at():
    result = measure(*traffic(100, 100, 20, 1900, audit_every=10))
    # 100 of 200 intrusions were found, although the labels hold 100 alerts and only ten misses.
    assert result.report.detection_rate.value == pytest.approx(0.5)
    assert result.report.malicious == 110
    assert result.report.false_positive_rate.value == pytest.approx(20 / 1920)
    assert result.report.identified


def test_without_an_audit_stream_the_detection_rate_is_not_identified():
    report = measure(*traffic(100, 100, 20, 1900, audit_every=0)).report
    assert not report.identified
    assert report.detection_rate.value is None
    assert report.false_positive_rate.value == pytest.approx(20 / 2020)


def test_few_audited_rows_leave_a_wide_interval_though_none_was_a_miss():
    few, many = (measure(*traffic(100, 0, 20, 2000, audit_every=every)).report.detection_rate for every in (100, 1))
    assert few.value == many.value == 1.0
    assert few.low < 0.6
    assert many.low > 0.95


def test_coverage_counts_only_labels_that_were_due():
    frame, labels = traffic(100, 20, 20, 1900, audit_every=10)
    assert measure(frame, labels).report.label_coverage == 1.0
    half = labels[(labels["kind"] == "audit") | (labels.index % 2 == 0)]
    assert measure(frame, half).report.label_coverage == pytest.approx((60 + 192) / (120 + 192))


def test_a_label_outage_has_no_coverage():
    frame, labels = traffic(100, 20, 20, 1900, audit_every=10)
    report = measure(frame, labels.head(0)).report
    assert report.label_coverage == 0.0
    assert report.labelled == 0
    assert report.detection_rate.value is None


def test_an_audit_stream_that_stops_halfway_lowers_the_coverage():
    frame, labels = traffic(100, 20, 20, 4000, audit_every=10)
    audits = labels[labels["kind"] == "audit"]
    cut = labels.drop(audits.index[len(audits) // 2 :])
    assert measure(frame, cut).report.label_coverage < 0.7


def test_audited_rows_without_a_value_are_due_but_not_labelled():
    frame, labels = traffic(10, 2, 2, 100, audit_every=1)
    labels["value"] = labels["value"].astype(float).where(labels["kind"] == "alert")
    assert measure(frame, labels).report.label_coverage == pytest.approx(12 / 114)


def test_missing_labels_of_alerts_do_not_shift_the_rates():
    frame, labels = traffic(1000, 100, 200, 10_000, audit_every=10)
    kept = labels[(labels["kind"] == "audit") | (labels.index % 2 == 0)]
    assert measure(frame, kept).report.detection_rate.value == pytest.approx(1000 / 1100, abs=0.01)


def test_a_feed_that_finds_only_malicious_negatives_does_not_enter_the_rates():
    frame, labels = traffic(100, 100, 20, 1900, audit_every=10)
    unaudited = frame[(frame["verdict"] == 0) & ~frame["sample_id"].isin(labels["sample_id"])].head(50)
    feed = labels.head(1).assign(kind="feed", value=1, inclusion_probability=np.nan)
    feed = pd.concat([feed.assign(sample_id=name) for name in unaudited["sample_id"]], ignore_index=True)
    with_feed = measure(frame, pd.concat([labels, feed], ignore_index=True))
    assert with_feed.report.detection_rate == measure(frame, labels).report.detection_rate
    assert len(with_feed.labelled) == len(labels) + 50
    assert (with_feed.weights == 0).sum() == 50


def test_the_more_trusted_label_wins_and_the_contradiction_is_counted():
    frame, labels = traffic(100, 10, 20, 1900, audit_every=1)
    correction = labels.head(1).assign(value=0, trust=2.0, family="benign")
    weak = labels.iloc[[1]].assign(value=0, trust=0.5)
    report = measure(frame, pd.concat([labels, correction, weak], ignore_index=True)).report
    assert report.contradictions == 2
    assert report.malicious == 109


def test_labels_after_the_given_time_are_not_known_yet():
    frame, labels = traffic(100, 10, 20, 1900, audit_every=1)
    early = measure(frame, labels, as_of=DAY - timedelta(hours=1))
    assert early.report.labelled == 0
    assert not early.mature


def test_the_champions_own_verdicts_are_never_labels():
    frame, labels = traffic(100, 10, 20, 1900, audit_every=1)
    result = measure(frame, labels[labels["value"] == 1])
    assert set(result.labelled.y) == {1}
    assert result.report.benign == 0


def test_rows_of_one_subject_widen_the_interval():
    frame, labels = traffic(100, 100, 20, 1900, audit_every=1)
    alone = measure(frame, labels).report.detection_rate
    frame["subject"] = [f"host{index // 10}" for index in range(len(frame))]
    together = measure(frame, labels).report.detection_rate
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_rows_without_a_subject_are_clusters_of_their_own():
    frame, labels = traffic(100, 100, 20, 1900, audit_every=1)
    alone = measure(frame, labels).report.detection_rate
    assert measure(frame.assign(subject=""), labels).report.detection_rate == alone


def test_an_empty_window_measures_nothing():
    frame, labels = traffic(1, 1, 1, 1, audit_every=1)
    report = measure(frame.head(0), labels).report
    assert (report.rows, report.labelled, report.label_coverage) == (0, 0, 0.0)
    assert not report.identified


def test_missing_columns_and_impossible_probabilities_are_named():
    frame, labels = traffic(10, 1, 2, 10, audit_every=1)
    with pytest.raises(SchemaMismatch, match=r"samples lack the columns \['speed'\]"):
        measure(frame.drop(columns="speed"), labels)
    with pytest.raises(SchemaMismatch, match="inclusion_probability"):
        measure(frame, labels.assign(inclusion_probability=0.0))


def test_alerts_that_are_labelled_by_lot_are_due_by_lot():
    frame, labels = traffic(100, 20, 20, 1900, audit_every=10)
    half = labels[(labels["kind"] == "audit") | (labels.index % 2 == 0)].copy()
    half.loc[half["kind"] == "alert", "inclusion_probability"] = 0.5
    assert measure(frame, half).report.label_coverage == 1.0


def test_resolved_labels_say_themselves_which_were_contradicted():
    frame, labels = traffic(100, 10, 20, 1900, audit_every=1)
    assert (
        measure(frame, labels.assign(contradictory=[True] * 3 + [False] * (len(labels) - 3))).report.contradictions == 3
    )


def test_a_window_without_any_row_or_label_measures_nothing():
    names = ["sample_id", "value", "kind", "trust", "inclusion_probability", "time", "family", "contradictory"]
    columns = ["sample_id", "event_time", "subject", "score", "verdict", *SPACE.names]
    frame = pd.DataFrame({name: pd.Series(dtype="float64") for name in columns})
    report = measure(frame, pd.DataFrame({name: [] for name in names})).report
    assert (report.rows, report.label_coverage, report.contradictions) == (0, 0.0, 0)
    full, _ = traffic(5, 1, 2, 20, audit_every=1)
    assert measure(full, pd.DataFrame({name: [] for name in names})).report.label_coverage == 0.0


def test_a_feed_that_names_alerts_does_not_count_as_a_draw_of_alerts():
    frame, labels = traffic(100, 100, 100, 1900, audit_every=10)
    half = labels[(labels["kind"] == "audit") | (labels.index % 2 == 0)]
    missing = labels[(labels["kind"] == "alert") & ~labels.index.isin(half.index) & (labels["value"] == 1)]
    feed = missing.assign(kind="feed", inclusion_probability=np.nan)
    with_feed, without = measure(frame, pd.concat([half, feed], ignore_index=True)), measure(frame, half)
    assert with_feed.report.detection_rate == without.report.detection_rate
    assert with_feed.report.false_positive_rate == without.report.false_positive_rate
    assert with_feed.report.label_coverage == without.report.label_coverage
    assert (with_feed.weights == 0).sum() == len(feed) > 0


def test_a_feed_does_not_answer_for_an_audit_that_is_still_open():
    frame, labels = traffic(100, 100, 20, 1900, audit_every=10)
    labels["value"] = labels["value"].astype(float)
    open_audits = (labels["kind"] == "audit") & (labels.index % 2 == 0)
    half = labels.assign(value=labels["value"].where(~open_audits))
    feed = labels[open_audits & (labels["value"] == 1)].assign(kind="feed", inclusion_probability=np.nan)
    with_feed = measure(frame, pd.concat([half, feed], ignore_index=True))
    assert len(feed) > 0
    assert with_feed.report.detection_rate == measure(frame, half).report.detection_rate


def test_an_alert_that_was_labelled_by_lot_stands_for_as_many():
    frame, labels = traffic(100, 100, 100, 1900, audit_every=1)
    # False alarms are labelled one in ten, the others all.
    false_alarm = (labels["kind"] == "alert") & (labels["value"] == 0)
    labels["inclusion_probability"] = labels["inclusion_probability"].astype(float).where(~false_alarm, 0.1)
    lot = labels[~false_alarm | (false_alarm.cumsum() % 10 == 0)]
    report = measure(frame, lot).report
    assert report.false_positive_rate.value == pytest.approx(100 / 2000)
    assert report.detection_rate.value == pytest.approx(0.5)


def test_a_family_without_an_audited_miss_is_no_better_known_than_the_window():
    few = measure(*traffic(100, 0, 20, 2000, audit_every=100)).report
    (family,) = [part for part in few.slices if part.malicious]
    assert family.detection_rate.value == 1.0
    assert family.detection_rate.low == pytest.approx(few.detection_rate.low)


def test_an_outage_of_alert_labels_lowers_the_coverage_though_some_alerts_were_audited():
    frame, labels = traffic(100, 20, 20, 1900, audit_every=10)
    audited = labels[labels["kind"] == "alert"].head(10).assign(kind="audit", inclusion_probability=0.1)
    report = measure(frame, pd.concat([labels[labels["kind"] == "audit"], audited], ignore_index=True)).report
    assert report.label_coverage == pytest.approx((10 + 192) / (120 + 192))
