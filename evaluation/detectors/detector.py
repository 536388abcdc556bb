"""The detector: network, feature space, calibration and operating point as one immutable value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor, nn

from domain.errors import ArtifactMissing, ArtifactRefused
from domain.features import FeatureSpace
from evaluation.detectors.portable import FORMAT_VERSION, Columns, Encoding, build_network

DESCRIPTION_FILE = "detector.json"
WEIGHTS_FILE = "weights.safetensors"
CODE_FILE = "portable.py"
SCORING_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt scaling: score = sigmoid(slope * logit + intercept)."""

    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, slots=True)
class Scores:
    """Result of scoring n rows.

    Attributes:
        logit: malicious logit of the network, `(n,)`.
        score: calibrated probability in [0, 1], `(n,)`.
        verdict: True where the logit reaches the operating point, `(n,)`.
    """

    logit: NDArray[np.float64]
    score: NDArray[np.float64]
    verdict: NDArray[np.bool_]


@dataclass(frozen=True)
class Detector:
    """A network with its feature space, calibration and operating point, ready to give verdicts.

    Attributes:
        architecture: what `build_network` needs, JSON-serialisable.
        network: in eval mode; maps `(n, D)` in model space to logits `(n,)`.
        threshold: operating point on the logit; at or above it a row is malicious.
        metadata: free JSON-serialisable facts about the training (seed, rows, recipe).
    """

    architecture: Mapping[str, Any]
    network: nn.Module
    space: FeatureSpace
    threshold: float
    calibration: Calibration = Calibration()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def encoding(self) -> Encoding:
        """The map between raw rows and model space."""
        return Encoding([feature.model_dump(mode="json") for feature in self.space.features])

    def margins(self, x: Tensor) -> Tensor:
        """Return logit minus operating point for `(n, D)` in model space; differentiable, negative means evaded."""
        dtype = next(self.network.parameters()).dtype
        logits: Tensor = self.network(x.to(dtype))
        return (logits - self.threshold).to(x.dtype)

    def score_raw(self, raw: NDArray[np.float64]) -> Scores:
        """Score raw rows `(n, d)` in chunks."""
        logits = np.empty(raw.shape[0])
        with torch.inference_mode():
            for start in range(0, raw.shape[0], SCORING_CHUNK):
                chunk = torch.as_tensor(self.encoding.encode(raw[start : start + SCORING_CHUNK]), dtype=torch.float32)
                logits[start : start + SCORING_CHUNK] = self.network(chunk).double().numpy()
        scaled = np.clip(self.calibration.slope * logits + self.calibration.intercept, -60, 60)
        return Scores(logit=logits, score=1.0 / (1.0 + np.exp(-scaled)), verdict=logits >= self.threshold)

    def score(self, columns: Columns) -> Scores:
        """Score named columns (a data frame or a mapping)."""
        return self.score_raw(self.encoding.to_raw(columns))

    def to_files(self) -> dict[str, bytes]:
        """Return the files of the artifact by name: JSON, safetensors and the self-contained code. Never a pickle."""
        description = {
            "version": FORMAT_VERSION,
            "architecture": dict(self.architecture),
            "threshold": self.threshold,
            "calibration": {"slope": self.calibration.slope, "intercept": self.calibration.intercept},
            "feature_space": self.space.model_dump(mode="json"),
            "metadata": dict(self.metadata),
        }
        weights = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
        code = resources.files("evaluation.detectors") / "portable.py"
        return {
            DESCRIPTION_FILE: json.dumps(description, indent=1, sort_keys=True, allow_nan=False).encode(),
            WEIGHTS_FILE: save(weights),
            CODE_FILE: code.read_bytes(),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Detector:
        """Rebuild a detector from verified bytes; runs no code of the artifact.

        Raises:
            ArtifactMissing: one of the two data files is absent.
            ArtifactRefused: the content is not a detector of this format.
        """
        if missing := [name for name in (DESCRIPTION_FILE, WEIGHTS_FILE) if name not in files]:
            raise ArtifactMissing(f"the artifact lacks {missing}; it has {sorted(files)}")
        try:
            description = json.loads(files[DESCRIPTION_FILE])
            if description["version"] != FORMAT_VERSION:
                raise ArtifactRefused(
                    f"{DESCRIPTION_FILE}: version must be {FORMAT_VERSION}, got {description['version']!r}"
                )
            space = FeatureSpace.model_validate(description["feature_space"])
            network = build_network(description["architecture"])
            network.load_state_dict(load(files[WEIGHTS_FILE]))
            threshold, calibration = float(description["threshold"]), Calibration(**description["calibration"])
        except ArtifactRefused:
            raise
        except Exception as error:  # any malformed byte must end in one clear refusal
            raise ArtifactRefused(f"the artifact is no detector of format {FORMAT_VERSION}: {error}") from error
        network.eval()
        return cls(description["architecture"], network, space, threshold, calibration, description["metadata"])
