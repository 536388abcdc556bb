"""Suites: versioned, digested lists of attacks, cheapest first, kept as package data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any

import yaml

from domain.digests import digest_json
from domain.errors import AttackError
from domain.monitor import Norm
from evaluation.attacks.feasible_descent import FeasibleDescent
from evaluation.attacks.genetic import GeneticSearch
from evaluation.attacks.problem import Attack
from evaluation.attacks.torch_adapter import TorchAttack
from evaluation.attacks.url_search import UrlSearch

BUILDERS: dict[str, Callable[..., Attack]] = {
    "fgsm": partial(TorchAttack, "fgsm"),
    "pgd": partial(TorchAttack, "pgd"),
    "apgd": partial(TorchAttack, "apgd"),
    "square": partial(TorchAttack, "square"),
    "feasible-descent": FeasibleDescent,
    "genetic": GeneticSearch,
    "url-search": UrlSearch,
}


@dataclass(frozen=True)
class Suite:
    """An ordered list of attacks under one digest.

    Attributes:
        attacks: attacks on rows, cheapest first.
        object_attacks: attacks on the raw objects, used instead where objects exist.
        digest: SHA-256 over name, version, attacks and parameters.
    """

    name: str
    version: int
    attacks: tuple[Attack, ...]
    object_attacks: tuple[Attack, ...]
    digest: str

    def for_threat(self, norm: Norm, *, white_box: bool, objects: bool) -> tuple[Attack, ...]:
        """Return the attacks that fit the norm, the attacker's knowledge and the kind of rows.

        Raises:
            AttackError: none is left.
        """
        pool = self.object_attacks if objects else self.attacks
        fitting = tuple(
            attack
            for attack in pool
            if (white_box or not attack.needs_gradient) and norm in getattr(attack, "norms", ("linf", "l2"))
        )
        if not fitting:
            raise AttackError(f"suite {self.name!r} has no attack for norm {norm!r} with white_box={white_box}")
        return fitting


def parse_suite(text: str, origin: str) -> Suite:
    """Build a suite from YAML.

    Raises:
        AttackError: an attack is unknown, or a parameter does not fit.
    """
    try:
        content: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise AttackError(f"{origin}: not valid YAML: {error}") from error
    if not isinstance(content, dict) or not {"name", "version", "attacks"} <= content.keys():
        raise AttackError(f"{origin}: a suite is a mapping with name, version and attacks")
    lists = {key: tuple(_build(entry, origin) for entry in content.get(key, ())) for key in ("attacks", "objects")}
    return Suite(content["name"], int(content["version"]), lists["attacks"], lists["objects"], digest_json(content))


def _build(entry: dict[str, Any], origin: str) -> Attack:
    parameters = dict(entry)
    kind = parameters.pop("attack", None)
    if kind not in BUILDERS:
        raise AttackError(f"{origin}: unknown attack {kind!r}; known are {sorted(BUILDERS)}")
    try:
        return BUILDERS[kind](**parameters)
    except TypeError as error:
        raise AttackError(f"{origin}: attack {kind!r} does not take {parameters}: {error}") from error


def load_suite(name: str) -> Suite:
    """Load a shipped suite by name.

    Raises:
        AttackError: no such suite.
    """
    folder = resources.files("evaluation.attacks") / "data"
    file = folder / f"{name}.yaml"
    if "/" in name or not file.is_file():
        known = sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))
        raise AttackError(f"unknown attack suite {name!r}; shipped are {known}")
    return parse_suite(file.read_text(encoding="utf-8"), f"suite {name!r}")
