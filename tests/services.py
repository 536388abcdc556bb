"""Real servers for tests: one of each a test session, ended by id; `tests/conftest.py` makes them known."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def prefect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the API address of a Prefect server of this test session."""
    from flows.local.environment import QUIET, SAFE, scrubbed
    from flows.local.prefect_server import start_prefect_server
    from flows.local.processes import Processes

    folder = tmp_path_factory.mktemp("prefect")
    processes = Processes(folder / "run", folder / "logs")
    environ = {**scrubbed(os.environ), **QUIET, **SAFE, "PREFECT_PROFILES_PATH": str(folder / "profiles.toml")}
    try:
        yield start_prefect_server(processes, environ, folder / "home")[1]
    finally:
        processes.stop()


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of an MLflow server of this test session."""
    from flows.local.environment import QUIET, SAFE, scrubbed
    from flows.local.mlflow_server import start_mlflow_server
    from flows.local.processes import Processes

    folder = tmp_path_factory.mktemp("mlflow")
    processes = Processes(folder / "run", folder / "logs")
    try:
        yield start_mlflow_server(processes, {**scrubbed(os.environ), **QUIET, **SAFE}, folder / "home")[1]
    finally:
        processes.stop()


def postgres_binaries() -> Path | None:
    """Return the folder of the newest `initdb` and `postgres`, or None."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    if folders:
        return folders[-1]
    found = shutil.which("postgres")
    return Path(found).parent if found else None


def unprivileged() -> dict[str, Any]:
    """Return the keywords for subprocess that start PostgreSQL as another user than root, which it refuses."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody`")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Yield the URL of a PostgreSQL server of this test session, or skip where none is installed."""
    import psycopg

    from flows.local.ports import HOST, free_port

    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql); these tests need initdb and postgres")
    who = unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="revet-postgres-"))
    if who:
        os.chown(folder, who["user"], who["group"])
    data, log = folder / "data", folder / "log"
    common: dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, **who}
    server: subprocess.Popen[bytes] | None = None
    try:
        with log.open("wb") as output:
            init = [
                binaries / "initdb",
                "-D",
                data,
                "-U",
                "revet",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            ]
            subprocess.run(init, check=True, stdout=output, timeout=120, **common)
            port = free_port()
            start = [binaries / "postgres", "-D", data, "-h", HOST, "-p", str(port), "-k", folder, "-c", "fsync=off"]
            server = subprocess.Popen(start, stdout=output, start_new_session=True, **common)
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(f"postgresql://revet@{HOST}:{port}/postgres", connect_timeout=5).close()
                break
            except psycopg.OperationalError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}") from None
                time.sleep(0.1)
        yield f"postgresql+psycopg://revet@{HOST}:{port}/postgres"
    finally:
        if server is not None:
            end_postgres(server)
        shutil.rmtree(folder, ignore_errors=True)


def end_postgres(server: subprocess.Popen[bytes]) -> None:
    """End the server: a fast shutdown first, the end of its session after 20 seconds."""
    server.send_signal(signal.SIGINT)
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(20)
