from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.town import Town, running_town


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory, prefect_url: str, mlflow_url: str) -> Iterator[Town]:
    """Yield the workspace of all end-to-end tests, on the servers of the test session."""
    with running_town(tmp_path_factory.mktemp("town"), prefect_url, mlflow_url) as up:
        yield up
