"""The feature space: what each feature is, what it may be, and what an attacker can do to it."""

from __future__ import annotations

import itertools
import math
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from domain.digests import digest_json
from domain.errors import FeatureSpaceError, RelationError
from domain.relations import Relation, parse_relation

Kind = Literal["real", "integer", "binary", "categorical"]
Transform = Literal["linear", "log1p"]
Mutability = Literal["free", "increase-only", "decrease-only", "fixed"]
Level = Literal["weak", "expected", "strong"]
LEVELS: tuple[Level, ...] = ("weak", "expected", "strong")
NAME_PATTERN = r"^[a-z][a-z0-9-]{1,40}$"
FEATURE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"


class Feature(BaseModel):
    """One column: kind, bounds, transform, and per attacker level its mutability and its price."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=FEATURE_PATTERN)
    kind: Kind = "real"
    low: float = 0.0
    high: float = 1.0
    categories: tuple[str, ...] = ()
    transform: Transform = "linear"
    mutability: dict[Level, Mutability]
    cost: dict[Level, float]
    reason: str = ""
    description: str = ""

    @model_validator(mode="before")
    @classmethod
    def _spread_over_levels(cls, data: Any) -> Any:
        """Let `mutability: fixed` and `cost: 2` stand for all three levels."""
        if not isinstance(data, dict):
            return data
        spread = dict(data)
        for key, default in (("mutability", "fixed"), ("cost", 1.0)):
            value = spread.get(key, default)
            spread[key] = value if isinstance(value, dict) else dict.fromkeys(LEVELS, value)
        return spread

    @field_validator("mutability", "cost")
    @classmethod
    def _names_every_level(cls, value: dict[Level, Any]) -> dict[Level, Any]:
        if missing := [level for level in LEVELS if level not in value]:
            raise ValueError(f"every level needs a value; missing {missing}")
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.kind == "categorical":
            if len(self.categories) < 1 or len(set(self.categories)) != len(self.categories):
                raise ValueError(f"feature {self.name!r}: a categorical feature needs distinct categories")
        elif self.categories:
            raise ValueError(f"feature {self.name!r}: only categorical features have categories, this is {self.kind}")
        elif not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(
                f"feature {self.name!r}: bounds must be finite with low < high, got [{self.low}, {self.high}]"
            )
        if self.transform == "log1p" and (self.kind == "categorical" or self.low < 0):
            raise ValueError(f"feature {self.name!r}: log1p needs a numeric feature with low >= 0")
        if self.kind == "binary" and (self.low, self.high) != (0.0, 1.0):
            raise ValueError(
                f"feature {self.name!r}: a binary feature has bounds 0 and 1, got [{self.low}, {self.high}]"
            )
        if "fixed" in self.mutability.values() and not self.reason:
            raise ValueError(f"feature {self.name!r} is fixed at some level: give the reason in one line")
        if any(not math.isfinite(price) or price <= 0 for price in self.cost.values()):
            raise ValueError(f"feature {self.name!r}: costs must be positive numbers, got {self.cost}")
        order = [self.mutability[level] for level in LEVELS]
        if self.kind == "categorical" and not {"fixed", "free"}.issuperset(order):
            raise ValueError(f"feature {self.name!r}: categories have no order, so they are fixed or free, got {order}")
        if any(not _at_most(weaker, stronger) for weaker, stronger in itertools.pairwise(order)):
            raise ValueError(
                f"feature {self.name!r}: a stronger attacker may never do less than a weaker one, got {order}"
            )
        return self


def _at_most(weaker: Mutability, stronger: Mutability) -> bool:
    return weaker in {"fixed", stronger} or stronger == "free"


class FeatureSpace(BaseModel):
    """A versioned, digested description of all features and of the relations between them."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    version: Literal[1]
    name: str = Field(pattern=NAME_PATTERN)
    description: str = ""
    features: tuple[Feature, ...] = Field(min_length=1)
    relations: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique_and_relations_parse(self) -> Self:
        names = [feature.name for feature in self.features]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"feature names must be unique, repeated: {repeated}")
        categorical = {feature.name for feature in self.features if feature.kind == "categorical"}
        for text in self.relations:
            try:
                relation = parse_relation(text, names)
            except RelationError as error:  # as a ValueError it is reported with the file and the other faults
                raise ValueError(str(error)) from error
            if used := sorted(names[index] for index in relation.references if names[index] in categorical):
                raise ValueError(f"relation {text!r} uses categorical features {used}; relations are over numbers")
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Feature names in column order, `(d,)`."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def parsed_relations(self) -> tuple[Relation, ...]:
        """All relations as syntax trees."""
        return tuple(parse_relation(text, self.names) for text in self.relations)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical content; reports of different digests are never compared."""
        return digest_json(self.model_dump(mode="json"))

    @cached_property
    def encoded_width(self) -> int:
        """Width of model space: one column per numeric feature, one per category of a categorical one."""
        return sum(len(feature.categories) or 1 for feature in self.features)


def parse_feature_space(text: str, origin: str) -> FeatureSpace:
    """Parse YAML `text`; `origin` is named in errors.

    Raises:
        FeatureSpaceError: with every fault, each naming key, value and rule.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FeatureSpaceError(f"{origin}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise FeatureSpaceError(
            f"{origin}: expected a mapping with `version`, `name` and `features`, got {type(data).__name__}"
        )
    try:
        return FeatureSpace.model_validate(data)
    except ValidationError as error:
        raise FeatureSpaceError(f"{origin}: {describe_validation_error(error)}") from error


def describe_validation_error(error: ValidationError) -> str:
    """Return one line per fault: key, what is wrong, the value that was given."""
    lines = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"]) or "(whole file)"
        value = repr(fault["input"])
        shown = value if len(value) <= 80 else f"{value[:77]}..."
        lines.append(f"{key}: {fault['msg'].removeprefix('Value error, ')} (got {shown})")
    return "; ".join(lines)


def load_feature_space(reference: str, base: Path | None = None) -> FeatureSpace:
    """Load a feature space by the name of a shipped one, or by path (relative to `base`).

    Raises:
        FeatureSpaceError: neither a shipped name nor a readable file, or the content is wrong.
    """
    shipped = resources.files("samples") / "catalogue" / "spaces" / f"{reference}.yaml"
    if "/" not in reference and shipped.is_file():
        return parse_feature_space(shipped.read_text(encoding="utf-8"), f"shipped feature space {reference!r}")
    path = (base or Path.cwd()) / reference
    if not path.is_file():
        names = sorted(item.name.removesuffix(".yaml") for item in shipped_spaces())
        raise FeatureSpaceError(
            f"feature space {reference!r}: no file {path} and no shipped space; shipped are {names}"
        )
    return parse_feature_space(path.read_text(encoding="utf-8"), str(path))


def shipped_spaces() -> list[Any]:
    """Return the package files of the feature spaces that ship with Revet."""
    folder = resources.files("samples") / "catalogue" / "spaces"
    return [item for item in folder.iterdir() if item.name.endswith(".yaml")] if folder.is_dir() else []
