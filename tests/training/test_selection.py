from dataclasses import replace

import numpy as np
import pytest

from domain.monitor import ThreatSettings
from evaluation.rows import LabelledRows
from tests.training.worlds import RECIPE, SPACE, training_data, world
from training.fitting import train_detector
from training.selection import Judge, Judgement, Reference

BUDGET = 0.05
THREAT = ThreatSettings(epsilon=0.3)
DATA = training_data()


def judge(selection: LabelledRows, reference: Reference | None) -> Judgement:
    detector = train_detector(DATA, SPACE, RECIPE, threat=THREAT, budget=BUDGET, adversarial=False, seed=0).detector
    return Judge(
        SPACE, selection, DATA.calibration, threat=THREAT, budget=BUDGET, seed=0, steps=1, adversarial=False,
        reference=reference,
    ).judge(detector.network)  # fmt: skip


def with_a_campaign() -> LabelledRows:
    """The old selection rows, followed by malicious ones that look benign: nobody finds them."""
    hidden = world(600, 70).benign
    return LabelledRows.concatenate([DATA.selection, replace(hidden, y=np.ones(len(hidden), dtype=np.int8))])


def test_recent_rows_that_everybody_misses_are_no_loss_against_the_reference() -> None:
    alone = judge(DATA.selection, None)
    found = judge(with_a_campaign(), Reference(alone.detection_rate, DATA.selection))
    assert found.detection_rate < alone.detection_rate - 0.2
    assert found.score == pytest.approx(found.detection_rate)


def test_what_is_lost_on_the_rows_of_the_reference_lowers_the_score() -> None:
    hidden = world(600, 71).benign
    reference = Reference(0.9, replace(hidden, y=np.ones(len(hidden), dtype=np.int8)))
    found = judge(DATA.selection, reference)
    assert found.score < found.detection_rate - 1
