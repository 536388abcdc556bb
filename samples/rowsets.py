"""Row sets at rest: labelled rows as content-addressed Parquet, so that evidence can name the exact rows."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd

from domain.errors import CorruptFile
from evaluation.rows import LabelledRows
from registry.content import ContentStore

_META = ("__y", "__cluster", "__family", "__object")


def put_rows(content: ContentStore, rows: LabelledRows, names: tuple[str, ...]) -> str:
    """Store `rows` and return the digest under which `get_rows` finds them again."""
    frame = pd.DataFrame(rows.raw, columns=list(names))
    frame["__y"] = rows.y
    frame["__cluster"] = rows.cluster.astype(str)
    frame["__family"] = rows.family.astype(str)
    if rows.objects is not None:
        frame["__object"] = rows.objects.astype(str)
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return content.put(buffer.getvalue())


def get_rows(content: ContentStore, digest: str) -> LabelledRows:
    """Read rows that `put_rows` stored; the bytes are verified against `digest`.

    Raises:
        CorruptFile: the bytes do not match, or are no row set.
    """
    try:
        frame = pd.read_parquet(io.BytesIO(content.get(digest)))
        features = [name for name in frame.columns if name not in _META]
        return LabelledRows(
            raw=frame[features].to_numpy(dtype=np.float64),
            y=frame["__y"].to_numpy(dtype=np.int8),
            cluster=frame["__cluster"].to_numpy(dtype=object),
            family=frame["__family"].to_numpy(dtype=object),
            objects=frame["__object"].to_numpy(dtype=object) if "__object" in frame else None,
        )
    except (KeyError, ValueError) as error:
        raise CorruptFile(f"content {digest} is no row set: {error}") from error
