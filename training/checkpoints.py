"""Checkpoints between epochs: one safetensors file whose header carries the JSON; never a pickle.

A training that is killed and started again with the same inputs ends with the same weights, bit by bit, on a CPU.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from domain.errors import CorruptFile
from training.data import EpochRecord

FORMAT = "1"


@dataclass
class TrainingState:
    """All that changes from epoch to epoch.

    Attributes:
        key: digest of data, recipe and seed; a checkpoint of another key is not resumed.
        epoch: number of finished epochs.
        ema: averaged weights.
        memory: what the inner attack keeps from epoch to epoch.
        best: weights of the best checkpoint so far; empty before the first.
        threshold: operating point of the best checkpoint.
    """

    key: str
    network: nn.Module
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    ema: dict[str, Tensor]
    memory: Tensor = field(default_factory=lambda: torch.empty(0))
    best: dict[str, Tensor] = field(default_factory=dict)
    best_score: float = float("-inf")
    threshold: float = 0.0
    epoch: int = 0
    step: int = 0
    history: list[EpochRecord] = field(default_factory=list)


def save_checkpoint(path: Path, state: TrainingState) -> None:
    """Write `state` to `path` atomically: a crash leaves the old file or the new one."""
    tensors: dict[str, Tensor] = {"generator": state.generator.get_state(), "memory": state.memory}
    tensors |= {f"network/{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"ema/{name}": tensor for name, tensor in state.ema.items()}
    tensors |= {f"best/{name}": tensor for name, tensor in state.best.items()}
    optimiser = state.optimiser.state_dict()
    for parameter, values in optimiser["state"].items():
        tensors |= {f"optimiser/{parameter}/{name}": torch.as_tensor(value) for name, value in values.items()}
    description = {
        "key": state.key,
        "epoch": state.epoch,
        "step": state.step,
        "threshold": state.threshold,
        "best_score": state.best_score if state.best else None,
        "history": [asdict(record) for record in state.history],
    }
    data = save(
        {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()},
        metadata={"format": FORMAT, "state": json.dumps(description)},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def load_checkpoint(path: Path, state: TrainingState) -> bool:
    """Restore `state` in place from `path`; return whether a checkpoint of the same key was there.

    Raises:
        CorruptFile: the file is no checkpoint of this format.
    """
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise CorruptFile(f"checkpoint {path}: format must be {FORMAT}, got {metadata.get('format')!r}; delete it")
        description: dict[str, Any] = json.loads(metadata["state"])
        if description["key"] != state.key:
            return False
        _restore(state, description, tensors)
    except CorruptFile:
        raise
    except Exception as error:  # whatever is malformed must end in one clear message
        raise CorruptFile(f"checkpoint {path} cannot be read ({error}); delete it to start afresh") from error
    return True


def _restore(state: TrainingState, description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    state.network.load_state_dict(part("network/"))
    optimiser = state.optimiser.state_dict()
    values: dict[int, dict[str, Tensor]] = {}
    for name, tensor in part("optimiser/").items():
        parameter, key = name.split("/", 1)
        values.setdefault(int(parameter), {})[key] = tensor
    state.optimiser.load_state_dict({"state": values, "param_groups": optimiser["param_groups"]})
    state.generator.set_state(tensors["generator"])
    state.memory = tensors["memory"]
    state.ema, state.best = part("ema/"), part("best/")
    state.epoch, state.step = int(description["epoch"]), int(description["step"])
    state.threshold = float(description["threshold"])
    best_score = description["best_score"]
    state.best_score = float("-inf") if best_score is None else float(best_score)
    state.history = [EpochRecord(**record) for record in description["history"]]
