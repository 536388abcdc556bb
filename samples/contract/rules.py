"""What a contract is made of: expectations, the contract itself, and how an expectation went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from domain.digests import digest_json
from domain.features import FeatureSpace


class Expectation(BaseModel):
    """One expectation of Great Expectations, and what to tell about a row that breaks it.

    Attributes:
        type: name of the expectation, such as `expect_column_values_to_be_between`.
        kwargs: its arguments.
        severity: `critical` puts a row that breaks it into quarantine; `warning` is only reported.
        reason: the rule in words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(pattern=r"^expect_[a-z_]+$")
    kwargs: dict[str, Any]
    severity: Literal["critical", "warning"] = "critical"
    reason: str = ""


@dataclass(frozen=True)
class Contract:
    """Expectations on production samples of one feature space."""

    space: FeatureSpace
    expectations: tuple[Expectation, ...]

    @cached_property
    def version(self) -> str:
        """SHA-256 over all expectations: which contract a row was judged by."""
        return digest_json([self.space.digest, [item.model_dump(mode="json") for item in self.expectations]])


@dataclass(frozen=True)
class Outcome:
    """How one expectation went: rows that broke it and, for one over the whole table, whether it failed."""

    expectation: Expectation
    success: bool
    broken: tuple[int, ...]
    observed: Any = None


Judge = Callable[[pd.DataFrame, Contract], list[Outcome]]
