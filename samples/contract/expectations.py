"""Great Expectations as the judge of a frame. Imported only when a frame is judged; analytics are off."""

from __future__ import annotations

import importlib
import os
import threading
import warnings
from collections import OrderedDict
from typing import Any

import pandas as pd

from domain.errors import ConfigError
from samples.contract.rules import Contract, Expectation, Outcome

_CACHE: OrderedDict[str, tuple[Any, Any]] = OrderedDict()
_CACHE_SIZE = 4
_LOCK = threading.Lock()  # its context and its registries are of the whole process


def judge_with_great_expectations(frame: pd.DataFrame, contract: Contract) -> list[Outcome]:
    """Return how every expectation of `contract` went on `frame`, in the contract's order.

    Raises:
        ConfigError: an expectation is unknown to Great Expectations or cannot be evaluated on these columns.
    """
    with _LOCK, warnings.catch_warnings():
        # Its metrics warn about pandas' own future behaviour, and it cannot be told not to.
        warnings.simplefilter("ignore")
        suite, batches = _prepared(contract)
        batch = batches.get_batch(batch_parameters={"dataframe": frame.reset_index(drop=True)})
        result = batch.validate(suite, result_format={"result_format": "COMPLETE"})
    by_position = {item.expectation_config.meta["position"]: item for item in result.results}
    return [_outcome(item, by_position.get(position)) for position, item in enumerate(contract.expectations)]


def _prepared(contract: Contract) -> tuple[Any, Any]:
    """Return suite and batch definition of `contract`; made once per process, since setting up takes a second."""
    if contract.version in _CACHE:
        _CACHE.move_to_end(contract.version)
        return _CACHE[contract.version]
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    gx: Any = importlib.import_module("great_expectations")
    refusals = (gx.exceptions.GreatExpectationsError, ValueError, TypeError)

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = gx.data_context.types.base.ProgressBarsConfig(globally=False)
    suite = gx.ExpectationSuite(name=contract.version)
    for position, expectation in enumerate(contract.expectations):
        try:
            configuration = gx.expectations.expectation_configuration.ExpectationConfiguration(
                type=expectation.type, kwargs=dict(expectation.kwargs), meta={"position": position}
            )
            # Not by `add_expectation...`: a second rule on a column would replace the first of its type, or vanish.
            suite.expectations.append(configuration.to_domain_obj())
        except refusals as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"contract: {expectation.type} with {expectation.kwargs} is refused: {reason}") from error
    asset = context.data_sources.add_pandas("samples").add_dataframe_asset("samples")
    batches = asset.add_batch_definition_whole_dataframe("samples")
    _CACHE[contract.version] = (suite, batches)
    if len(_CACHE) > _CACHE_SIZE:
        _CACHE.popitem(last=False)
    return _CACHE[contract.version]


def _outcome(expectation: Expectation, item: Any) -> Outcome:
    if item is None or (not item.success and _raised(item.exception_info)):
        reason = _raised(item.exception_info) if item is not None else "no result came back"
        raise ConfigError(f"contract: {expectation.type} with {expectation.kwargs} cannot be evaluated: {reason}")
    details = item.result or {}
    broken = details.get("unexpected_index_list") or []
    return Outcome(
        expectation, bool(item.success), tuple(int(position) for position in broken), details.get("observed_value")
    )


def _raised(info: Any) -> str:
    """Return the message of an exception inside Great Expectations, or an empty string."""
    entries = [info] if isinstance(info, dict) and "raised_exception" in info else list((info or {}).values())
    for entry in entries:
        if isinstance(entry, dict) and entry.get("raised_exception"):
            return str(entry.get("exception_message"))
    return ""
