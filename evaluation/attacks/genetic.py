"""A batched genetic search that needs no gradient: one population per surviving row, all rows in one forward pass.

Feasibility-first tournament: Deb, "An efficient constraint handling method for genetic algorithms", 2000. Genes are the
columns that the attacker can move. Rows leave at their first verified success, or when several generations brought
nothing, so that the cost falls with every generation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evaluation.attacks.problem import AttackProblem, Candidates
from evaluation.attacks.starts import toward_benign

FEASIBLE = 1e-6
INFEASIBLE = 1e6  # above any margin, so that a feasible row always beats an infeasible one
MAX_CELLS = 4_000_000  # rows x population x columns held at once
SMALL_POPULATION, PER_COLUMN = 16, 6


@dataclass
class _Rows:
    """The rows still searched: their problem, and in gene columns `(n, M)` the clean value and its limits."""

    problem: AttackProblem
    columns: Tensor
    clean: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, problem: AttackProblem) -> _Rows:
        low, high = problem.compiled.limits(problem.x, problem.ball)
        columns = problem.compiled.movable.nonzero().flatten()
        return cls(problem, columns, problem.x[:, columns], low[:, columns], high[:, columns])

    def keep(self, rows: Tensor) -> _Rows:
        return _Rows(self.problem.take(rows.numpy()), self.columns, self.clean[rows], self.low[rows], self.high[rows])

    def judge(self, genes: Tensor) -> tuple[Tensor, Tensor]:
        """Return projected genes and their fitness `(n, P)`: the margin, or the penalty far above any margin."""
        n, count, _ = genes.shape
        clean = self.problem.x[:, None].expand(-1, count, -1).reshape(n * count, -1)
        flat = clean.clone()
        flat[:, self.columns] = genes.reshape(n * count, -1)
        flat = self.problem.compiled.project(flat, clean, self.problem.ball)
        margins = torch.nan_to_num(self.problem.margins(flat), nan=INFEASIBLE, posinf=INFEASIBLE, neginf=-INFEASIBLE)
        if self.problem.compiled.space.relations:
            penalty = self.problem.compiled.penalty(flat)
            margins = torch.where(penalty <= FEASIBLE, margins, INFEASIBLE * (1 + penalty))
        return flat[:, self.columns].reshape(genes.shape), margins.reshape(n, count)

    def rows(self, genes: Tensor) -> Tensor:
        """Return full rows `(n, D)` of one set of genes per row `(n, M)`."""
        full = self.problem.x.clone()
        full[:, self.columns] = genes
        return full


@dataclass(frozen=True)
class GeneticSearch:
    """Genetic search on the margin inside the ball.

    Attributes:
        population: candidates per row; fewer where the attacker can move only a few columns.
        generations: rounds of offspring; at most population x (generations + 1) queries per row.
        patience: a row leaves after this many generations without a lower margin.
        neighbour_share: share of the first population that starts toward the nearest benign rows.
    """

    population: int = 24
    generations: int = 60
    patience: int = 12
    neighbour_share: float = 0.4
    name: str = "genetic"
    needs_gradient: bool = False

    @property
    def parameters(self) -> dict[str, float | int | str]:
        """What the report records."""
        return {
            "population": self.population,
            "generations": self.generations,
            "patience": self.patience,
            "neighbour_share": self.neighbour_share,
        }

    def run(self, problem: AttackProblem, generator: torch.Generator) -> Candidates:
        """Return per row the first verified success, else the fittest row."""
        result = problem.x.clone()
        if not bool(problem.compiled.movable.any()):
            return Candidates(result)
        chunk = max(1, MAX_CELLS // (self.population * problem.x.shape[1]))
        with torch.no_grad():
            for start in range(0, problem.x.shape[0], chunk):
                rows = torch.arange(start, min(start + chunk, problem.x.shape[0]))
                result[rows] = self._search(_Rows.of(problem.take(rows.numpy())), generator)
        return Candidates(result)

    def _search(self, rows: _Rows, generator: torch.Generator) -> Tensor:
        result = rows.problem.x.clone()
        alive = torch.arange(result.shape[0])
        size = min(self.population, max(SMALL_POPULATION, PER_COLUMN * rows.columns.numel()))
        genes, fitness = rows.judge(self._first_population(rows, size, generator))
        lowest, idle = torch.full((result.shape[0],), torch.inf), torch.zeros(result.shape[0])
        for generation in range(self.generations + 1):
            if generation:
                children, children_fitness = rows.judge(_offspring(rows, genes, fitness, size, generator))
                genes = torch.cat([genes, children], dim=1)
                fitness = torch.cat([fitness, children_fitness], dim=1)
            fitness, order = fitness.sort(dim=1, stable=True)
            fitness, order = fitness[:, :size], order[:, :size]
            genes = genes.gather(1, order[:, :, None].expand(-1, -1, genes.shape[2]))
            result[alive] = rows.rows(genes[:, 0])
            idle = torch.where(fitness[:, 0] < lowest, 0, idle + 1)
            lowest = torch.minimum(lowest, fitness[:, 0])
            done, fitness = _verify(rows, genes, fitness)
            keep = (~done & (idle < self.patience)).nonzero().flatten()
            if keep.numel() == 0:
                break
            if keep.numel() < alive.numel():
                alive, genes, fitness = alive[keep], genes[keep], fitness[keep]
                rows, lowest, idle = rows.keep(keep), lowest[keep], idle[keep]
        return result

    def _first_population(self, rows: _Rows, size: int, generator: torch.Generator) -> Tensor:
        """Return `(n, P, M)`: clean row, ends of earlier attacks, mixes with benign neighbours, sparse corners."""
        problem, clean = rows.problem, rows.clean[:, None]
        parts = [clean]
        if problem.starts is not None:
            parts.append(problem.starts[:, None, rows.columns])
        benign = round(self.neighbour_share * size) if problem.benign.shape[0] else 0
        if benign:
            parts.append(toward_benign(problem, benign, generator)[:, :, rows.columns])
        rest = size - sum(part.shape[1] for part in parts)
        if rest > 0:
            shape = (clean.shape[0], rest, clean.shape[2])
            corner = torch.where(torch.rand(shape, generator=generator) < 0.5, rows.low[:, None], rows.high[:, None])
            share = torch.rand((clean.shape[0], rest, 1), generator=generator)
            parts.append(torch.where(torch.rand(shape, generator=generator) < share, corner, clean))
        return torch.cat(parts, dim=1)[:, :size]


def _offspring(rows: _Rows, genes: Tensor, fitness: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return `(n, P, M)` children: tournament of two, uniform crossover, sparse mutation, resets to clean."""
    n, width = genes.shape[0], genes.shape[2]
    draws = torch.randint(0, genes.shape[1], (4, n, size), generator=generator)
    first = torch.where(fitness.gather(1, draws[0]) <= fitness.gather(1, draws[1]), draws[0], draws[1])
    second = torch.where(fitness.gather(1, draws[2]) <= fitness.gather(1, draws[3]), draws[2], draws[3])
    mother = genes.gather(1, first[:, :, None].expand(-1, -1, width))
    father = genes.gather(1, second[:, :, None].expand(-1, -1, width))
    shape, single = (n, size, width), (n, size, 1)
    child = torch.where(
        torch.rand(shape, generator=generator) < torch.rand(single, generator=generator), mother, father
    )
    low, high = rows.low[:, None], rows.high[:, None]
    rates = torch.tensor([1.0, 2.0, 4.0]) / width
    rate = rates[torch.randint(0, 3, single, generator=generator)]
    scale = 10 ** (-1.5 * torch.rand(single, generator=generator))
    moved = child + scale * (high - low) * torch.randn(shape, generator=generator)
    # One draw per gene: whether it mutates, and if so into what.
    kind = torch.rand(shape, generator=generator) / rate
    child = torch.where(kind < 1.0, rows.clean[:, None], child)
    child = torch.where(kind < 0.8, high, child)
    child = torch.where(kind < 0.62, low, child)
    return torch.where(kind < 0.45, moved, child).clamp(low, high)


def _verify(rows: _Rows, genes: Tensor, fitness: Tensor) -> tuple[Tensor, Tensor]:
    """Return which rows are verified as broken `(n,)`, and the fitness with refused leaders put behind all others."""
    done = torch.zeros(fitness.shape[0], dtype=torch.bool)
    claims = (fitness[:, 0] < 0).nonzero().flatten()
    if claims.numel():
        part = rows.keep(claims)
        accepted = torch.as_tensor(part.problem.evaded(part.rows(genes[claims, 0]), fitness[claims, 0]))
        done[claims[accepted]] = True
        fitness = fitness.clone()
        fitness[claims[~accepted], 0] = INFEASIBLE
    return done, fitness
