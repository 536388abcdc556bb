import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from domain.errors import CorruptFile, NotEnoughRows
from domain.monitor import ThreatSettings
from tests.training.worlds import RECIPE, SPACE, training_data, world
from training.data import cap_rows
from training.fitting import Extras, TrainingResult, _start, train_detector

BUDGET = 0.05
THREAT = ThreatSettings(epsilon=0.3)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fit(seed: int = 0, *, adversarial: bool = False, **more) -> TrainingResult:
    return train_detector(
        training_data(), SPACE, RECIPE, threat=THREAT, budget=BUDGET, adversarial=adversarial, seed=seed, **more
    )


def test_a_plain_training_detects_at_the_budget() -> None:
    rows = world(2000, 99)
    verdict = fit().detector.score_raw(rows.raw).verdict
    assert verdict[rows.y == 1].mean() > 0.95
    assert verdict[rows.y == 0].mean() < 2 * BUDGET


@pytest.mark.parametrize("adversarial", [False, True])
def test_the_same_seed_gives_the_same_bytes(*, adversarial: bool) -> None:
    first, again = (fit(3, adversarial=adversarial).detector.to_files() for _ in range(2))
    assert first == again
    assert first != fit(4, adversarial=adversarial).detector.to_files()


def test_the_first_weights_depend_on_the_seed_alone() -> None:
    x = torch.rand(50, 5, generator=torch.Generator().manual_seed(0))
    first, again, other = (_start(x, RECIPE, seed, None)[0][1].weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_leaves_the_global_generators_alone() -> None:
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    fit()
    assert torch.equal(torch_before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()  # noqa: NPY002


class Killed(Exception):
    pass


@pytest.mark.parametrize("adversarial", [False, True])
def test_a_killed_training_resumes_to_the_same_bytes(tmp_path: Path, *, adversarial: bool) -> None:
    whole = fit(adversarial=adversarial)
    extras = Extras(checkpoint=tmp_path / "run" / "epoch.safetensors")

    def kill(message: str, share: float) -> None:
        if share >= 0.5:
            raise Killed

    with pytest.raises(Killed):
        fit(adversarial=adversarial, extras=extras, progress=kill)
    seen: list[float] = []
    resumed = fit(adversarial=adversarial, extras=extras, progress=lambda _, share: seen.append(share))
    assert seen[0] > 0.5
    assert resumed.history == whole.history
    assert resumed.detector.to_files() == whole.detector.to_files()


def test_a_checkpoint_of_another_seed_is_not_resumed(tmp_path: Path) -> None:
    extras = Extras(checkpoint=tmp_path / "epoch.safetensors")
    fit(1, extras=extras)
    assert fit(2, extras=extras).detector.to_files() == fit(2).detector.to_files()


def test_a_damaged_checkpoint_is_reported_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "epoch.safetensors"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CorruptFile, match=r"epoch\.safetensors"):
        fit(extras=Extras(checkpoint=path))


def test_a_training_without_malicious_rows_is_refused() -> None:
    data = training_data()
    with pytest.raises(NotEnoughRows, match="training"):
        train_detector(
            dataclasses.replace(data, train=data.train.benign), SPACE, RECIPE,
            threat=THREAT, budget=BUDGET, adversarial=False, seed=0,
        )  # fmt: skip


def test_capping_keeps_all_malicious_rows_where_they_fit() -> None:
    rows = world(1000, 5)
    kept, positions = cap_rows(rows, 900, 0)
    assert len(kept) == 900
    assert kept.y.sum() == rows.y.sum()
    assert (rows.raw[positions] == kept.raw).all()


def test_capping_leaves_half_to_the_benign_rows_where_malicious_ones_are_many() -> None:
    rows = world(1000, 5)
    kept, _ = cap_rows(rows, 200, 0)
    assert kept.y.sum() == 100
