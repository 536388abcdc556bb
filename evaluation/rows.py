"""Labelled rows: the one form in which data reaches metrics, attacks and training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domain.digests import digest_bytes
from domain.features import FeatureSpace
from evaluation.detectors.portable import Encoding


@dataclass(frozen=True)
class LabelledRows:
    """n rows with ground truth.

    Attributes:
        raw: `(n, d)` float64 in feature order; categories as positions.
        y: `(n,)` int8, 1 = malicious.
        cluster: `(n,)` str; rows of one cluster are never split and are resampled together.
        family: `(n,)` str; "benign" for benign rows where nothing else is known.
        objects: the raw objects (URLs) behind the rows where they exist, `(n,)` str; else None.
    """

    raw: NDArray[np.float64]
    y: NDArray[np.int8]
    cluster: NDArray[Any]
    family: NDArray[Any]
    objects: NDArray[Any] | None = None

    def __len__(self) -> int:
        return int(self.raw.shape[0])

    def take(self, selection: NDArray[Any]) -> Self:
        """Return the rows that `selection` (mask or positions) picks."""
        objects = None if self.objects is None else self.objects[selection]
        return replace(
            self, raw=self.raw[selection], y=self.y[selection], cluster=self.cluster[selection],
            family=self.family[selection], objects=objects,
        )  # fmt: skip

    @property
    def malicious(self) -> Self:
        """Only the malicious rows."""
        return self.take(self.y == 1)

    @property
    def benign(self) -> Self:
        """Only the benign rows."""
        return self.take(self.y == 0)

    @property
    def digest(self) -> str:
        """SHA-256 over values and labels: what `measured on the same rows` means."""
        return digest_bytes(np.ascontiguousarray(self.raw).tobytes() + np.ascontiguousarray(self.y).tobytes())

    @classmethod
    def concatenate(cls, parts: list[LabelledRows]) -> LabelledRows:
        """Stack parts of one feature space; objects survive only where every part has them."""
        with_objects = all(part.objects is not None for part in parts)
        return cls(
            raw=np.concatenate([part.raw for part in parts]),
            y=np.concatenate([part.y for part in parts]),
            cluster=np.concatenate([part.cluster for part in parts]),
            family=np.concatenate([part.family for part in parts]),
            objects=np.concatenate([part.objects for part in parts if part.objects is not None])
            if with_objects
            else None,
        )

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        space: FeatureSpace,
        *,
        label: str,
        cluster: str = "",
        family: str = "",
        objects: str = "",
    ) -> LabelledRows:
        """Build rows from a frame that holds the features; without `cluster` every distinct row is one of its own."""
        raw = Encoding([feature.model_dump(mode="json") for feature in space.features]).to_raw(frame)
        y = frame[label].to_numpy().astype(np.int8)
        # Identical rows form one cluster, so that duplicates can neither leak between splits nor narrow an interval.
        own = (
            np.unique(raw, axis=0, return_inverse=True)[1].astype(str)
            if not cluster
            else frame[cluster].astype(str).to_numpy()
        )
        families = frame[family].astype(str).to_numpy() if family else np.where(y == 1, "malicious", "benign")
        return cls(
            raw=raw, y=y, cluster=np.asarray(own, dtype=object), family=np.asarray(families, dtype=object),
            objects=frame[objects].astype(str).to_numpy(dtype=object) if objects else None,
        )  # fmt: skip
