"""A detector's encoding and network in ONE self-contained file.

A copy of this file travels inside every artifact, so that a notebook can score with nothing but torch, numpy and
safetensors. It therefore imports nothing of Revet, and the rest of Revet imports encoding and networks from here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

FORMAT_VERSION = 1


Columns = Any  # a data frame, or a mapping of feature names to arrays


class Encoding:
    """Maps named columns to model space `[0, 1]^D` and back.

    Numeric features take one column (after `linear` or `log1p`, scaled by their bounds); a categorical feature takes
    one column per category. Raw rows are `(n, d)` float64 with categories as their position, unknown ones as NaN.
    """

    def __init__(self, features: list[dict[str, Any]]) -> None:
        self.names = tuple(str(feature["name"]) for feature in features)
        self.categories = tuple(tuple(feature.get("categories") or ()) for feature in features)
        self.widths = tuple(len(categories) or 1 for categories in self.categories)
        self.offsets = tuple(int(offset) for offset in np.concatenate([[0], np.cumsum(self.widths)[:-1]]))
        self.width = int(sum(self.widths))
        self.numeric = np.array(
            [index for index, categories in enumerate(self.categories) if not categories], dtype=int
        )
        self.columns = np.array([self.offsets[index] for index in self.numeric], dtype=int)
        self.log = np.array([features[index]["transform"] == "log1p" for index in self.numeric], dtype=bool)
        low = np.array([float(features[index]["low"]) for index in self.numeric])
        high = np.array([float(features[index]["high"]) for index in self.numeric])
        self.low, self.high = self._transform(low), self._transform(high)
        self.span = self.high - self.low

    def _transform(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        # A value at or below -1 has no logarithm; NaN makes it visible instead of raising.
        return np.where(self.log, np.log1p(np.where(self.log & (values > -1), values, np.nan)), values)

    def to_raw(self, columns: Columns) -> NDArray[np.float64]:
        """Return `(n, d)` float64 from named columns; categories become positions, unknown ones NaN."""
        parts: list[NDArray[np.float64]] = []
        for name, categories in zip(self.names, self.categories, strict=True):
            values = np.asarray(columns[name])
            if categories:
                position = {category: float(index) for index, category in enumerate(categories)}
                parts.append(np.array([position.get(str(value), np.nan) for value in values], dtype=np.float64))
            else:
                parts.append(values.astype(np.float64))
        return np.stack(parts, axis=1)

    def encode(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return model space `(n, D)` float64; numbers outside their bounds leave `[0, 1]`, NaN stays NaN."""
        encoded = np.zeros((raw.shape[0], self.width))
        encoded[:, self.columns] = (self._transform(raw[:, self.numeric]) - self.low) / self.span
        for index, categories in enumerate(self.categories):
            if categories:
                codes = raw[:, index]
                known = np.isfinite(codes) & (codes >= 0) & (codes < len(categories))
                rows = np.flatnonzero(known)
                encoded[rows, self.offsets[index] + codes[rows].astype(int)] = 1.0
        return encoded

    def decode(self, encoded: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return raw rows `(n, d)`; the inverse of `encode` up to rounding, the largest one-hot column wins."""
        raw = np.zeros((encoded.shape[0], len(self.names)))
        values = encoded[:, self.columns] * self.span + self.low
        raw[:, self.numeric] = np.where(self.log, np.expm1(np.where(self.log, values, 0.0)), values)
        for index, categories in enumerate(self.categories):
            if categories:
                raw[:, index] = encoded[:, self.offsets[index] : self.offsets[index] + len(categories)].argmax(axis=1)
        return raw


class Standardise(nn.Module):
    """Shift and scale of the network's input, kept with the weights: scaling lives in the detector."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return `(x - mean) / scale`, shape `(n, width)`."""
        return (x - self.mean) / self.scale


def build_network(architecture: Mapping[str, Any]) -> nn.Module:
    """Return an untrained network that maps `(n, width)` in `[0, 1]` to malicious logits `(n,)`.

    `architecture`: `{"kind": "mlp", "width": D, "hidden": [..]}`.

    Raises:
        ValueError: the kind is unknown.
    """
    if architecture["kind"] != "mlp":
        raise ValueError(f"architecture kind must be 'mlp', got {architecture['kind']!r}")
    width = int(architecture["width"])
    layers: list[nn.Module] = [Standardise(width)]
    for hidden in architecture["hidden"]:
        # SiLU is smooth, as the inner attack needs; unlike BatchNorm, LayerNorm does not mix clean and attacked rows.
        layers += [nn.Linear(width, int(hidden)), nn.LayerNorm(int(hidden)), nn.SiLU()]
        width = int(hidden)
    layers += [nn.Linear(width, 1), nn.Flatten(0)]
    return nn.Sequential(*layers)


class PortableDetector:
    """Scores named columns from the two data files of an artifact."""

    def __init__(self, description: bytes, weights: bytes) -> None:
        from safetensors.torch import load  # here, so that the encoding can be used without it

        self.description: dict[str, Any] = json.loads(description)
        if self.description.get("version") != FORMAT_VERSION:
            raise ValueError(
                f"detector.json: version must be {FORMAT_VERSION}, got {self.description.get('version')!r}"
            )
        self.encoding = Encoding(self.description["feature_space"]["features"])
        self.network = build_network(self.description["architecture"])
        self.network.load_state_dict(load(weights))
        self.network.eval()

    def logits(self, columns: Columns) -> NDArray[np.float64]:
        """Return the malicious logit of each row, `(n,)`."""
        encoded = self.encoding.encode(self.encoding.to_raw(columns))
        with torch.inference_mode():
            output = self.network(torch.as_tensor(encoded, dtype=torch.float32))
        return np.asarray(output.double().numpy())

    def score(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """Return `score` in `[0, 1]` and `verdict` (1 = malicious) of each row."""
        logits = self.logits(columns)
        calibration = self.description["calibration"]
        score = 1.0 / (1.0 + np.exp(-np.clip(calibration["slope"] * logits + calibration["intercept"], -60, 60)))
        return {"score": score, "verdict": (logits >= self.description["threshold"]).astype(np.int64)}
