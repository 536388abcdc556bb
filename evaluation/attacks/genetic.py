"""A batched genetic search that needs no gradient: one population per surviving row, all rows in one forward pass.

Feasibility-first tournament: Deb, "An efficient constraint handling method for genetic algorithms", 2000. Rows leave at
their first verified success, so that the cost falls with every generation.
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


@dataclass(frozen=True)
class GeneticSearch:
    """Genetic search on the margin inside the ball.

    Attributes:
        population: candidates per row.
        generations: rounds of offspring; at most population x (generations + 1) queries per row.
        neighbour_share: share of the first population that starts toward the nearest benign rows.
    """

    population: int = 48
    generations: int = 20
    neighbour_share: float = 0.4
    name: str = "genetic"
    needs_gradient: bool = False

    @property
    def parameters(self) -> dict[str, float | int | str]:
        """What the report records."""
        return {
            "population": self.population,
            "generations": self.generations,
            "neighbour_share": self.neighbour_share,
        }

    def run(self, problem: AttackProblem, generator: torch.Generator) -> Candidates:
        """Return per row the first verified success, else the fittest row."""
        result = problem.x.clone()
        chunk = max(1, MAX_CELLS // (self.population * problem.x.shape[1]))
        with torch.inference_mode():
            for start in range(0, problem.x.shape[0], chunk):
                rows = torch.arange(start, min(start + chunk, problem.x.shape[0]))
                result[rows] = self._search(problem.take(rows.numpy()), generator)
        return Candidates(result)

    def _search(self, problem: AttackProblem, generator: torch.Generator) -> Tensor:
        result = problem.x.clone()
        alive = torch.arange(problem.x.shape[0])
        people = self._first_population(problem, generator)
        people, fitness = self._judge(problem, people)
        for generation in range(self.generations + 1):
            if generation:
                children, children_fitness = self._judge(problem, self._offspring(problem, people, fitness, generator))
                people = torch.cat([people, children], dim=1)
                fitness = torch.cat([fitness, children_fitness], dim=1)
            order = fitness.argsort(dim=1)[:, : self.population]
            fitness = fitness.gather(1, order)
            people = people.gather(1, order[:, :, None].expand(-1, -1, people.shape[2]))
            result[alive] = people[:, 0]
            done, fitness = _verify(problem, people, fitness)
            keep = (~done).nonzero().flatten()
            if keep.numel() < alive.numel():
                alive, people, fitness = alive[keep], people[keep], fitness[keep]
                problem = problem.take(keep.numpy())
            if alive.numel() == 0:
                break
        return result

    def _first_population(self, problem: AttackProblem, generator: torch.Generator) -> Tensor:
        """Return `(n, P, D)`: clean row, ends of earlier attacks, corners of single features, benign mixes, corners."""
        n, width = problem.x.shape
        low, high = problem.compiled.limits(problem.x, problem.ball)
        clean = problem.x[:, None]
        parts = [clean]
        if problem.starts is not None:
            parts.append(problem.starts[:, None])
        benign = round(self.neighbour_share * self.population) if problem.benign.shape[0] else 0
        if benign:
            parts.append(toward_benign(problem, benign, generator))
        rest = self.population - sum(part.shape[1] for part in parts)
        if rest > 0:
            shape = (n, rest, width)
            corner = torch.where(_coin(shape, 0.5, generator), low[:, None], high[:, None])
            share = torch.rand((n, rest, 1), generator=generator, dtype=torch.float64)
            parts.append(torch.where(_draw(shape, generator) < share, corner, clean))
        return torch.cat(parts, dim=1)[:, : self.population]

    def _judge(self, problem: AttackProblem, people: Tensor) -> tuple[Tensor, Tensor]:
        """Return the projected people and their fitness `(n, P)`: the margin, or the penalty far above any margin."""
        n, count, width = people.shape
        clean = problem.x[:, None].expand(-1, count, -1).reshape(-1, width)
        flat = problem.compiled.project(people.reshape(-1, width), clean, problem.ball)
        margins = problem.margins(flat)
        margins = torch.nan_to_num(margins, nan=INFEASIBLE, posinf=INFEASIBLE, neginf=-INFEASIBLE)
        if problem.compiled.space.relations:
            penalty = problem.compiled.penalty(flat)
            margins = torch.where(penalty <= FEASIBLE, margins, INFEASIBLE * (1 + penalty))
        return flat.reshape(n, count, width), margins.reshape(n, count)

    def _offspring(self, problem: AttackProblem, people: Tensor, fitness: Tensor, generator: torch.Generator) -> Tensor:
        """Return `(n, P, D)` children: tournament of two, uniform crossover, sparse mutation, resets to clean."""
        n, count, width = people.shape
        draws = torch.randint(0, people.shape[1], (4, n, count), generator=generator)
        first = torch.where(fitness.gather(1, draws[0]) <= fitness.gather(1, draws[1]), draws[0], draws[1])
        second = torch.where(fitness.gather(1, draws[2]) <= fitness.gather(1, draws[3]), draws[2], draws[3])
        mother = people.gather(1, first[:, :, None].expand(-1, -1, width))
        father = people.gather(1, second[:, :, None].expand(-1, -1, width))
        shape = (n, count, width)
        bias = torch.rand((n, count, 1), generator=generator)
        child = torch.where(_draw(shape, generator) < bias, mother, father)
        low, high = problem.compiled.limits(problem.x, problem.ball)
        low, high = low[:, None], high[:, None]
        movable = max(1, int(problem.compiled.movable.sum()))
        rates = torch.tensor([1.0, 3.0, 10.0]) / movable
        rate = rates[torch.randint(0, 3, (n, count, 1), generator=generator)]
        scale = 10 ** (-1.5 * torch.rand((n, count, 1), generator=generator))
        moved = child + scale * (high - low) * torch.randn(shape, generator=generator)
        corner = torch.where(_coin(shape, 0.5, generator), low, high)
        kind = _draw(shape, generator)
        mutant = torch.where(kind < 0.45, moved, torch.where(kind < 0.8, corner, problem.x[:, None]))
        return torch.where(_draw(shape, generator) < rate, mutant, child).clamp(low, high)


def _draw(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator)


def _coin(shape: tuple[int, ...], probability: float, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) < probability


def _verify(problem: AttackProblem, people: Tensor, fitness: Tensor) -> tuple[Tensor, Tensor]:
    """Return which rows are verified as broken `(n,)`, and the fitness with refused leaders put behind all others."""
    done = torch.zeros(fitness.shape[0], dtype=torch.bool)
    claims = (fitness[:, 0] < 0).nonzero().flatten()
    if claims.numel():
        part = problem.take(claims.numpy())
        accepted = torch.as_tensor(part.evaded(people[claims, 0]))
        done[claims[accepted]] = True
        fitness = fitness.clone()
        fitness[claims[~accepted], 0] = INFEASIBLE
    return done, fitness
