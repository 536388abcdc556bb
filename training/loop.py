"""The training loop: batches, inner attack, averaged weights, checkpoints."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from domain.errors import NotEnoughRows
from domain.monitor import HardeningSettings
from training.adversarial import Adversary, Schedule, balanced_loss
from training.checkpoints import TrainingState, save_checkpoint
from training.data import EpochRecord, Progress
from training.selection import Judge

GRADIENT_LIMIT = 5.0
SMALLEST_BATCH = 64
WANTED_BATCHES = 40


@dataclass
class Loop:
    """The fixed part of a run: rows in model space `(n, D)`, labels, row weights, adversary, schedule, rate."""

    x: Tensor
    y: Tensor
    weight: Tensor
    adversary: Adversary | None
    schedule: Schedule
    recipe: HardeningSettings
    rate: float

    def __post_init__(self) -> None:
        # Position of each malicious row within the malicious rows: how the adversary numbers them.
        self.rank = torch.cumsum(self.y.long(), 0) - 1
        # Few rows still get enough steps: smaller batches instead of a training that ends before it converged.
        size = min(self.recipe.batch_size, max(SMALLEST_BATCH, len(self.x) // WANTED_BATCHES))
        self.batches = max(1, math.ceil(len(self.x) / size))

    def epoch(self, state: TrainingState) -> float:
        """Run one epoch and return the mean loss."""
        order = torch.randperm(len(self.x), generator=state.generator)
        total = 0.0
        for rows in order.tensor_split(self.batches):
            self._set_rate(state)
            attacked = self._attack(state, rows)
            state.network.train()
            inputs = self.x[rows] if attacked is None else torch.cat([self.x[rows], attacked])
            output = state.network(inputs)
            under_attack = None if attacked is None else output[len(rows) :]
            loss = balanced_loss(
                output[: len(rows)], self.y[rows], self.weight[rows], under_attack, self.recipe.adversarial_share
            )
            state.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(state.network.parameters(), GRADIENT_LIMIT)
            state.optimiser.step()
            state.step += 1
            self._average(state)
            total += loss.item() * len(rows)
        return total / len(self.x)

    def _attack(self, state: TrainingState, rows: Tensor) -> Tensor | None:
        if self.adversary is None:
            return None
        malicious = rows[self.y[rows] > 0.5]
        if len(malicious) == 0:
            return self.x[:0]
        state.network.eval()
        return self.adversary.perturb(
            lambda x: state.network(x.to(torch.float32)).to(x.dtype), self.rank[malicious],
            strength=self.schedule.strength(state.epoch), steps=self.schedule.attack_steps(state.epoch),
            generator=state.generator,
        )  # fmt: skip

    def _set_rate(self, state: TrainingState) -> None:
        total = self.schedule.epochs * self.batches
        ramp = max(1, total // 20)
        done = state.step / total
        rate = self.rate * min(1.0, (state.step + 1) / ramp) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in state.optimiser.param_groups:
            group["lr"] = rate

    def _average(self, state: TrainingState) -> None:
        decay = min(self.recipe.ema_decay, (1 + state.step) / (10 + state.step))
        for name, tensor in state.network.state_dict().items():
            state.ema[name].lerp_(tensor, 1 - decay)


def run(loop: Loop, state: TrainingState, judge: Judge, checkpoint: Path | None, progress: Progress | None) -> None:
    """Run the epochs that are left; `state.best` holds the chosen weights afterwards.

    Raises:
        NotEnoughRows: the loss is not finite.
    """
    if loop.adversary is not None and state.epoch:
        loop.adversary.memory = state.memory
    judged = copy.deepcopy(state.network).eval()
    while state.epoch < loop.schedule.epochs:
        loss = loop.epoch(state)
        if not math.isfinite(loss):
            raise NotEnoughRows(
                f"the loss of epoch {state.epoch + 1} is {loss}: check the rows for NaN, or lower learning_rate"
                f" (now {loop.recipe.learning_rate})"
            )
        judged.load_state_dict(state.ema)
        # Before the attack is at full strength a checkpoint has not seen what it is judged by.
        ripe = loop.adversary is None or loop.schedule.strength(state.epoch) >= 1
        result = judge.judge(judged, attack=ripe)
        state.history.append(
            EpochRecord(
                state.epoch + 1, loss, result.detection_rate, result.robust_rate, result.recent_rate, result.score
            )
        )
        if (ripe and result.score > state.best_score) or not state.best:
            state.best = {name: tensor.clone() for name, tensor in state.ema.items()}
            state.best_score = result.score if ripe else float("-inf")
            state.threshold = result.threshold
        state.epoch += 1
        if loop.adversary is not None:
            state.memory = loop.adversary.memory
        if checkpoint is not None:
            save_checkpoint(checkpoint, state)
        if progress is not None:
            robust = "" if result.robust_rate is None else f", robust {result.robust_rate:.3f}"
            message = f"epoch {state.epoch}/{loop.schedule.epochs}: detection {result.detection_rate:.3f}{robust}"
            progress(message, state.epoch / loop.schedule.epochs)
