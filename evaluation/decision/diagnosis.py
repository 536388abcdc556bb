"""Why malicious rows were missed: known threats in disguise (evasion), or threats never seen before (new family).

An attacker who evades moves the features that he can move; in the others his rows still look like the malicious rows
the detector was trained on. So missed rows are compared with these in the immovable coordinates alone, by a conformal
p-value of the nearest-neighbour distance (Laxhammar and Falkman 2010): uniform for rows of the known population.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from domain.decisions import DegradationKind
from domain.features import FeatureSpace, Level
from evaluation.detectors.portable import Encoding
from evaluation.rows import LabelledRows

FEWEST_MISSED = 5
FEWEST_REFERENCE = 20
MOST_ROWS = 5_000
STRANGE = 0.05
MAJORITY = 0.5
UNNAMED = frozenset({"", "malicious", "benign", "unknown", "nan", "None"})


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The kind of degradation with its evidence in sentences.

    Attributes:
        kind: evasion, new-family, or none where there are too few rows to tell.
        missed: malicious rows that were missed.
        conforming_share: share of them that look like known malicious rows in the immovable coordinates.
        unseen_family_share: share of them whose family the reference does not have.
    """

    kind: DegradationKind
    evidence: tuple[str, ...]
    missed: int
    conforming_share: float | None = None
    unseen_family_share: float = 0.0


def diagnose(missed: LabelledRows, reference: LabelledRows, space: FeatureSpace, level: Level) -> Diagnosis:
    """Return whether the malicious rows in `missed` are evasion or a new family, against the training rows."""
    rows, known = missed.malicious, reference.malicious
    if len(rows) < FEWEST_MISSED or len(known) < FEWEST_REFERENCE:
        reason = (
            f"{len(rows)} missed and {len(known)} known malicious rows are too few to tell evasion from a new family; "
            f"{FEWEST_MISSED} and {FEWEST_REFERENCE} are needed"
        )
        return Diagnosis(kind=DegradationKind.NONE, missed=len(rows), evidence=(reason,))
    unseen, names = _unseen_families(rows, known)
    mask = fixed_coordinates(space, level)
    share = _conforming_share(rows, known, space, mask) if mask.any() else None
    return _judge(rows, unseen, names, share, int(mask.sum()), level)


def _judge(
    rows: LabelledRows, unseen: float, names: list[str], share: float | None, fixed: int, level: Level
) -> Diagnosis:
    evidence = []
    if unseen > 0:
        evidence.append(f"{unseen:.0%} of the missed rows belong to families unseen in training: {', '.join(names)}")
    if share is None:
        evidence.append(f"an attacker of level {level!r} can move every feature, so distances cannot tell a disguise")
    else:
        evidence.append(
            f"{share:.0%} of {len(rows)} missed rows look like known malicious rows in the {fixed} coordinates that "
            f"an attacker of level {level!r} cannot move (conformal p > {STRANGE})"
        )
    new = unseen >= MAJORITY or (share is not None and share < MAJORITY)
    kind = DegradationKind.NEW_FAMILY if new else DegradationKind.EVASION
    if kind is DegradationKind.EVASION:
        evidence.append("so these are known threats that changed only what an attacker can change")
    return Diagnosis(
        kind=kind, evidence=tuple(evidence), missed=len(rows), conforming_share=share, unseen_family_share=unseen
    )


def fixed_coordinates(space: FeatureSpace, level: Level) -> NDArray[np.bool_]:
    """Return the mask `(D,)` of model-space columns that an attacker of this level cannot move."""
    widths = [len(feature.categories) or 1 for feature in space.features]
    return np.repeat([feature.mutability[level] == "fixed" for feature in space.features], widths)


def conformal_p_values(rows: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the p-value `(n,)` of each row's distance to its nearest reference row `(m, D)`.

    The nonconformity of a reference row is its distance to the nearest other one. Duplicates in the reference count
    once, or its distances would all be zero and everything else strange.
    """
    distinct = np.unique(reference, axis=0)
    tree = cKDTree(distinct)
    own = np.sort(np.asarray(tree.query(distinct, k=[2])[0]).ravel()) if len(distinct) > 1 else np.zeros(1)
    distance = np.asarray(tree.query(rows, k=1)[0])
    at_least = own.size - np.searchsorted(own, distance - 1e-12, side="left")
    return np.asarray((1 + at_least) / (1 + own.size), dtype=np.float64)


def _conforming_share(rows: LabelledRows, known: LabelledRows, space: FeatureSpace, mask: NDArray[np.bool_]) -> float:
    encoding = Encoding([feature.model_dump(mode="json") for feature in space.features])
    picked = np.linspace(0, len(known) - 1, min(len(known), MOST_ROWS)).astype(int)
    tested = np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).astype(int)
    reference = np.nan_to_num(encoding.encode(known.raw[picked]))[:, mask]
    spread = reference.std(axis=0)
    # A coordinate that never varied among known threats keeps its full scale: leaving its value is strange.
    scale = np.where(spread > 1e-9, spread, 1.0)
    current = np.nan_to_num(encoding.encode(rows.raw[tested]))[:, mask]
    return float((conformal_p_values(current / scale, reference / scale) > STRANGE).mean())


def _unseen_families(rows: LabelledRows, known: LabelledRows) -> tuple[float, list[str]]:
    seen = set(known.family.astype(str)) | UNNAMED
    families = rows.family.astype(str)
    unseen = np.array([family not in seen for family in families])
    return float(unseen.mean()), sorted(set(families[unseen]))[:5]
