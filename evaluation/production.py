"""The champion on labelled production samples: rates that count the intrusions nobody alerted on.

Alerts are labelled with certainty, or with a stated probability; negatives only when the audit stream drew them at
random. Each drawn row stands for 1 / inclusion probability rows. Labels from feeds never enter the rates, because a
feed finds malicious rows only: they say what a row is, never that it was drawn. The champion's own verdict is never a
label.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domain.errors import SchemaMismatch
from domain.features import FeatureSpace
from domain.reports import Estimate, ProductionReport
from evaluation.detectors.portable import Encoding
from evaluation.metrics.clean import slices_by_family
from evaluation.rows import LabelledRows
from evaluation.statistics.intervals import EMPTY, weighted_rate

ALERT, AUDIT = "alert", "audit"
STANDARD_ERRORS = 3.0


@dataclass(frozen=True)
class ProductionResult:
    """The report, and the labelled rows behind it.

    Attributes:
        labelled: the m labelled rows; cluster is the subject.
        weights: `(m,)` how many rows of the window each stands for; 0 for rows that only a feed labelled.
        verdict: `(m,)` what the champion said.
        mature: every row reached the label horizon, so no more labels are expected.
    """

    report: ProductionReport
    labelled: LabelledRows
    weights: NDArray[np.float64]
    verdict: NDArray[np.bool_]
    mature: bool


def evaluate_production(
    frame: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    quarantined: int,
    horizon_hours: float,
    as_of: datetime,
    space: FeatureSpace,
    seed: int = 0,
) -> ProductionResult:
    """Return the champion's rates on one window, from the labels known at `as_of`.

    Args:
        frame: samples with `sample_id, subject, event_time, score, verdict` and the features of `space`.
        labels: `sample_id, value, kind, trust, inclusion_probability, time` and optionally `family`; a missing
            `value` means drawn for labelling, not labelled yet.
        quarantined: rows of the window that the data contract refused.
        seed: kept with the report's other seeds; the intervals here are closed forms and draw nothing.

    Raises:
        SchemaMismatch: a column is missing, or an inclusion probability lies outside (0, 1].
    """
    del seed
    _check_columns(frame, ("sample_id", "subject", "event_time", "verdict", *space.names), "samples")
    _check_columns(labels, ("sample_id", "value", "kind", "trust", "inclusion_probability", "time"), "labels")
    known = labels[labels["sample_id"].isin(frame["sample_id"])]
    known = known[pd.to_datetime(known["time"], utc=True) <= pd.Timestamp(as_of)]
    truth, contradictions = _resolve(known)
    audited = known[known["kind"] == AUDIT].groupby("sample_id")["inclusion_probability"].max()
    if not audited.between(0, 1, inclusive="right").all():
        raise SchemaMismatch(
            f"inclusion_probability of audit labels must lie in (0, 1], got values in "
            f"[{audited.min()}, {audited.max()}]; the audit stream must store the probability it drew with"
        )
    table = pd.DataFrame({"verdict": frame["verdict"].to_numpy().astype(bool)})
    ids = frame["sample_id"]
    table["value"] = ids.map(truth["value"]).to_numpy(dtype=np.float64)
    table["family"] = ids.map(truth["family"]).to_numpy()
    table["probability"] = ids.map(audited).to_numpy(dtype=np.float64)
    answered = known[known["kind"].isin((ALERT, AUDIT)) & known["value"].notna()]
    table["drawn"] = ids.isin(answered["sample_id"]).to_numpy()
    alerted = _alert_probability(known)
    table["alert_probability"] = ids.map(alerted).to_numpy(dtype=np.float64)
    # Without its own label an alert was drawn by audit; had alert labels been due by lot, it could have had one, too.
    table["alert_probability"] = table["alert_probability"].fillna(alerted.mean())
    mature = _is_mature(frame, horizon_hours, as_of)
    return _report(frame, table, space, quarantined=quarantined, contradictions=contradictions, mature=mature)


def _report(
    frame: pd.DataFrame,
    table: pd.DataFrame,
    space: FeatureSpace,
    *,
    quarantined: int,
    contradictions: int,
    mature: bool,
) -> ProductionResult:
    weights = _weights(table)
    chosen = table["value"].notna().to_numpy()
    value, verdict = table["value"].to_numpy()[chosen], table["verdict"].to_numpy()[chosen]
    family = table["family"].to_numpy(dtype=object)[chosen]
    malicious = value == 1
    unnamed = pd.isna(family) | (family == "")
    family = np.where(unnamed, np.where(malicious, "malicious", "benign"), family).astype(object)
    samples = frame[chosen]
    labelled = LabelledRows(
        raw=Encoding([feature.model_dump(mode="json") for feature in space.features]).to_raw(samples),
        y=malicious.astype(np.int8), cluster=_clusters(samples), family=family,
        objects=samples["object"].astype(str).to_numpy(dtype=object) if "object" in samples else None,
    )  # fmt: skip
    weight = weights[chosen]
    negative_audits = table[~table["verdict"] & table["probability"].notna() & table["drawn"]]
    identified = len(negative_audits) > 0 or bool(table["verdict"].all() and len(table))
    unseen = float(weights[negative_audits.index.to_numpy()].mean()) if len(negative_audits) else 1.0
    detection = EMPTY
    if identified:
        detection = weighted_rate(
            verdict[malicious], weight[malicious], labelled.cluster[malicious], unseen_weight=(1.0, unseen)
        )
    report = ProductionReport(
        rows=len(frame), quarantined=quarantined, labelled=int(chosen.sum()),
        audited=int((table["probability"].notna() & table["drawn"]).sum()), malicious=int(malicious.sum()),
        benign=int((~malicious).sum()), label_coverage=_coverage(table), detection_rate=detection,
        false_positive_rate=_false_positive_rate(table, labelled, weight, verdict, unseen),
        identified=identified, contradictions=contradictions,
        slices=slices_by_family(verdict, labelled, weight, unseen_weight=(1.0, unseen))
        if identified and len(labelled) else (),
    )  # fmt: skip
    return ProductionResult(report, labelled, weight, verdict, mature)


def _clusters(samples: pd.DataFrame) -> NDArray[Any]:
    """Return the subject of each row `(m,)`; a row without one is a cluster of its own."""
    subject = samples["subject"]
    unknown = subject.isna() | (subject.astype(str) == "")
    own = "row:" + samples["sample_id"].astype(str)
    return subject.astype(str).where(~unknown, own).to_numpy(dtype=object)


def _weights(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return how many rows of the window each row stands for: `(n,)`, 0 where it was not drawn or not labelled.

    Drawn alerts share the weight of all alerts, audited negatives that of all negatives, each by the inverse of its
    inclusion probability (Hajek), so that labels which are still missing at random do not shift the rates.
    """
    alert, drawn = table["verdict"].to_numpy(), table["drawn"].to_numpy()
    audit = table["probability"].to_numpy()
    by_alert, by_audit = np.nan_to_num(table["alert_probability"].to_numpy()), np.nan_to_num(audit)
    either = by_alert + by_audit - by_alert * by_audit  # an alert is drawn by the one stream or by the other
    weights = np.zeros(len(table))
    for group, probability in ((alert & drawn, either), (~alert & drawn & ~np.isnan(audit), audit)):
        if group.any():
            inverse = 1.0 / probability[group]
            weights[group] = inverse * ((alert if alert[group][0] else ~alert).sum() / inverse.sum())
    return weights


def _false_positive_rate(
    table: pd.DataFrame,
    labelled: LabelledRows,
    weights: NDArray[np.float64],
    verdict: NDArray[np.bool_],
    unseen: float,
) -> Estimate:
    """Return the weighted false-positive rate.

    Without audited negatives every unlabelled negative counts as benign: that can only lower the rate, so a rate
    proven too high is too high.
    """
    benign = labelled.y == 0
    if (benign & ~verdict & (weights > 0)).any():
        return weighted_rate(verdict[benign], weights[benign], labelled.cluster[benign], unseen_weight=(1.0, unseen))
    alerts = benign & verdict
    negatives = int((~table["verdict"]).sum())
    outcomes = np.concatenate([np.ones(int(alerts.sum()), dtype=bool), np.zeros(negatives, dtype=bool)])
    names = np.concatenate([labelled.cluster[alerts], np.arange(negatives).astype(str)])
    return weighted_rate(outcomes, np.concatenate([weights[alerts], np.ones(negatives)]), names)


def _coverage(table: pd.DataFrame) -> float:
    """Return the share of the labels due that arrived: alerts, and negatives that the audit stream drew.

    Where only a known share of the alerts is labelled by design, that share is due. An audit stream that silently
    stops has drawn too few negatives for its own probabilities; the shortfall beyond three standard errors is due.
    """
    alert, known = table["verdict"].to_numpy(), table["drawn"].to_numpy()
    drawn = ~alert & table["probability"].notna().to_numpy()
    probability = table["alert_probability"].fillna(1.0).to_numpy()[alert & known]
    due_alerts = max(float((alert & known).sum()), alert.sum() * (probability.mean() if probability.size else 1.0))
    due = (
        due_alerts + float(drawn.sum()) + _audit_shortfall(table["probability"].to_numpy()[drawn], int((~alert).sum()))
    )
    return float((known & (alert | drawn)).sum()) / due if due else 0.0


def _audit_shortfall(probability: NDArray[np.float64], negatives: int) -> float:
    """Return how many audited negatives are missing, given the `(m,)` probabilities of those that were drawn."""
    if not probability.size:
        return 0.0
    stands_for = float((1 / probability).sum())
    error = float(np.sqrt(((1 - probability) / probability**2).sum()))
    missing = stands_for + STANDARD_ERRORS * error < negatives
    return probability.size * (negatives / stands_for - 1) if missing else 0.0


def _alert_probability(labels: pd.DataFrame) -> pd.Series[float]:
    """Return by sample how probable it was that an alert is labelled at all; 1 where nothing is stated."""
    chosen = labels[labels["kind"] == ALERT].groupby("sample_id")["inclusion_probability"].max()
    return chosen.astype(np.float64).where(chosen.between(0, 1, inclusive="right"), 1.0)


def _resolve(labels: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return one value and family per sample (highest trust, then latest), and how many samples were contradicted."""
    given = labels[labels["value"].notna()].sort_values(["trust", "time"], kind="stable")
    by_sample = given.assign(family=given.get("family", "")).groupby("sample_id")
    values = by_sample[["value", "family"]].last()
    if "contradictory" in given:
        # Resolved labels: one row per sample, which says itself whether others disagreed.
        return values, int(given["contradictory"].astype(bool).sum())
    spread = by_sample["value"].agg(["min", "max"])
    return values, int((spread["min"] != spread["max"]).sum())


def _is_mature(frame: pd.DataFrame, horizon_hours: float, as_of: datetime) -> bool:
    if frame.empty:
        return True
    newest: Any = pd.to_datetime(frame["event_time"], utc=True).max()
    return bool(newest + timedelta(hours=horizon_hours) <= pd.Timestamp(as_of))


def _check_columns(frame: pd.DataFrame, needed: tuple[str, ...], what: str) -> None:
    if missing := [name for name in needed if name not in frame]:
        raise SchemaMismatch(f"{what} lack the columns {missing}; they have {list(frame.columns)[:20]}")
