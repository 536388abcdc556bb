"""Named places at which a test can end the process, to prove that a restart repairs everything."""

from __future__ import annotations

import os

EXIT_CODE = 137


def failpoint(name: str) -> None:
    """End this process at once, as SIGKILL would, if `REVET_FAILPOINT` is `name`; else do nothing."""
    if os.environ.get("REVET_FAILPOINT") == name:
        os._exit(EXIT_CODE)
