from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.samples.helpers import Place, make_place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = make_place(tmp_path)
    yield made
    made.close()
