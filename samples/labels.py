"""Labels that arrive late, are corrected, or contradict each other, and the one that counts.

Treatment, in this order:

1. *Not yet known*: a label with a time after `as_of` does not exist yet.
2. *Correction*: a later label of at least the same trust replaces an earlier one. A later label of less trust does
   not: a feed does not overrule an auditor. So the highest trust wins, and within it the latest.
3. *Same time, same trust, other value*: malicious wins, because a missed intrusion costs more; it is a contradiction.
4. *Contradiction*: two labellers whose last words differ. It is counted, whoever wins. A labeller who changes his own
   mind corrects himself; that is counted as a correction and is none.
5. *Late*: a label that arrives more than the horizon after its sample is marked `late`. It changes the report of the
   window (a new revision of the report); what was bet at the horizon stays as it was.
6. *Before its sample*: a label may arrive first. It is stored, and counts as soon as the sample is there.

The kind and the inclusion probability tell how the sample came to be labelled, not who was right. They are taken from
the audit stream if it drew the sample, else from the alert, else from the feed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from samples.schema import check_labels

RESOLVED_COLUMNS = (
    "sample_id", "value", "kind", "labeller", "trust", "inclusion_probability", "time", "family", "count",
    "corrected", "contradictory", "late",
)  # fmt: skip
_DRAWN_FIRST = {"audit": 0, "alert": 1, "feed": 2}


def resolve(
    labels: pd.DataFrame, as_of: datetime, horizon: timedelta, event_times: pd.Series[pd.Timestamp] | None = None
) -> pd.DataFrame:
    """Return one label per sample, ordered by sample_id, with the columns of `RESOLVED_COLUMNS`.

    Args:
        labels: rows as `SampleStore.read_labels` gives them.
        as_of: later labels are not known yet.
        horizon: age of a sample at which its label counts as late.
        event_times: event time by sample_id; without it, or for samples that have not arrived, nothing is late.

    Raises:
        DataError: a label is outside what it may be.
    """
    checked = check_labels(labels)
    known = checked[checked["time"] <= pd.Timestamp(as_of)]
    if known.empty:
        return pd.DataFrame({name: [] for name in RESOLVED_COLUMNS})
    ordered = known.sort_values(["sample_id", "trust", "time", "value"], kind="stable")
    winner = ordered.groupby("sample_id", sort=True).last()
    # groupby.last skips nulls column by column; the whole winning row is wanted.
    winner = ordered.drop_duplicates("sample_id", keep="last").set_index("sample_id").loc[winner.index]
    drawn = known.assign(rank=known["kind"].map(_DRAWN_FIRST)).sort_values(["rank", "time"], kind="stable")
    drawn = drawn.drop_duplicates("sample_id").set_index("sample_id").loc[winner.index]
    in_time = known.sort_values(["time", "trust", "value"], kind="stable")
    last_words = in_time.drop_duplicates(["sample_id", "labeller"], keep="last").groupby("sample_id")["value"]
    changed = in_time.groupby(["sample_id", "labeller"])["value"].nunique().groupby("sample_id").max()
    result = winner.assign(
        kind=drawn["kind"],
        inclusion_probability=drawn["inclusion_probability"],
        count=known.groupby("sample_id").size().loc[winner.index],
        corrected=(changed.loc[winner.index] > 1),
        contradictory=(last_words.nunique().loc[winner.index] > 1),
    )
    result["late"] = _late(result["time"], horizon, event_times)
    return result.reset_index()[list(RESOLVED_COLUMNS)]


def _late(
    times: pd.Series[pd.Timestamp], horizon: timedelta, event_times: pd.Series[pd.Timestamp] | None
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    if event_times is None:
        return np.zeros(len(times), dtype=bool)
    happened = pd.to_datetime(event_times[~event_times.index.duplicated()].reindex(times.index), utc=True)
    return np.asarray(((times - happened) > pd.Timedelta(horizon)).to_numpy(dtype=bool))
