"""Search over edited URLs: every candidate is a URL that the attacker can really publish, with its own features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domain.errors import AttackError
from evaluation.attacks.problem import AttackProblem, Candidates, draw_seed
from evaluation.urls.edits import propose_edits
from evaluation.urls.features import extract


@dataclass(frozen=True)
class UrlSearch:
    """Beam search on the margin: edit the URLs of the beam, extract features again, keep the lowest in the ball.

    Attributes:
        rounds: edits in a row.
        beam: URLs kept per row.
        edits: edits tried per kept URL and round, drawn from all that the level allows.
    """

    rounds: int = 6
    beam: int = 3
    edits: int = 12
    name: str = "url-search"
    needs_gradient: bool = False

    @property
    def parameters(self) -> dict[str, float | int | str]:
        """What the report records."""
        return {"rounds": self.rounds, "beam": self.beam, "edits": self.edits}

    def run(self, problem: AttackProblem, generator: torch.Generator) -> Candidates:
        """Return per row the first URL found below the operating point, else the lowest one found.

        Raises:
            AttackError: the rows have no objects.
        """
        if problem.objects is None:
            raise AttackError("the URL search edits raw objects, and these rows have none")
        rng = np.random.default_rng(draw_seed(generator))
        urls, best = problem.objects.copy(), problem.x.clone()
        with torch.no_grad():
            lowest = problem.margins(problem.x).double()
        beams = [[str(url)] for url in problem.objects]
        seen = [{str(url)} for url in problem.objects]
        alive = [row for row in range(len(urls)) if lowest[row] >= 0]
        for _ in range(self.rounds):
            owners, proposals = self._propose(alive, beams, seen, rng, problem)
            if not proposals:
                break
            x, margins, feasible = _judge(problem, owners, proposals)
            order = torch.argsort(margins, stable=True).tolist()
            fresh: dict[int, list[int]] = {row: [] for row in alive}
            for place in order:
                if feasible[place] and len(fresh[owners[place]]) < self.beam:
                    fresh[owners[place]].append(place)
            for row, places in fresh.items():
                if places:
                    beams[row] = [proposals[place] for place in places]
                    if margins[places[0]] < lowest[row]:
                        urls[row], best[row], lowest[row] = beams[row][0], x[places[0]], margins[places[0]]
            alive = [row for row in alive if lowest[row] >= 0]
        return Candidates(best, urls)

    def _propose(
        self,
        alive: list[int],
        beams: list[list[str]],
        seen: list[set[str]],
        rng: np.random.Generator,
        problem: AttackProblem,
    ) -> tuple[list[int], list[str]]:
        """Return new URLs with the rows that they belong to; no row gets the same URL twice."""
        owners: list[int] = []
        proposals: list[str] = []
        for row in alive:
            for url in beams[row]:
                variants = [v for v in propose_edits(url, rng, problem.compiled.level) if v not in seen[row]]
                if len(variants) > self.edits:
                    variants = [variants[place] for place in rng.permutation(len(variants))[: self.edits]]
                seen[row].update(variants)
                owners += [row] * len(variants)
                proposals += variants
        return owners, proposals


def _judge(problem: AttackProblem, owners: list[int], urls: list[str]) -> tuple[Tensor, Tensor, NDArray[np.bool_]]:
    """Return features in model space `(k, D)`, margins `(k,)` and which URLs lie within rules and budget, `(k,)`."""
    x = problem.compiled.encode(extract(urls))
    with torch.no_grad():
        margins = torch.nan_to_num(problem.margins(x).double(), nan=torch.inf)
    return x, margins, problem.compiled.feasible(x, problem.x[owners], problem.ball)


def features_of(objects: NDArray[Any]) -> NDArray[np.float64]:
    """Return the features that the edited URLs really have, `(n, d)`."""
    return extract([str(url) for url in objects])
