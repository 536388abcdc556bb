"""The ledger: one SQL database, opened so that SQLite and PostgreSQL give the same guarantees."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from domain.digests import canonical_json
from domain.errors import ConfigError

BUSY_SECONDS = 30.0
UPGRADE_LOCK = 7_386_338  # an arbitrary number that only our upgrades take on PostgreSQL


def utc_now() -> datetime:
    """Return the time of this machine, aware and in UTC."""
    return datetime.now(UTC)


def database_time(connection: Connection) -> datetime:
    """Return the database's own time, aware and in UTC: the clocks of workers may differ."""
    if connection.dialect.name == "sqlite":
        value = str(connection.execute(text("SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now')")).scalar_one())
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    moment: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return moment.astimezone(UTC)


class Ledger:
    """An open ledger.

    Writers take the write lock of SQLite when their transaction begins, so that a check and the write that follows
    it are one step; on PostgreSQL row locks and unique keys do that.

    Attributes:
        engine: the SQLAlchemy engine.
        clock: the time for columns that only inform (`at`, `created_at`); leases use the database's time.
    """

    def __init__(self, url: str, clock: Callable[[], datetime] = utc_now) -> None:
        parsed = _parse(url)
        self.url = parsed.render_as_string(hide_password=True)
        self.clock = clock
        self.engine: Engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgres(parsed)
        self._reader = self.engine.execution_options(revet_read=True)

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is SQLite."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Give a connection in a write transaction; commits at the end, rolls back on any exception."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection in a read transaction with one consistent view; nothing may be written through it."""
        with self._reader.begin() as connection:
            yield connection

    def upgrade(self) -> None:
        """Bring the tables to the newest revision; safe when several processes do it at once."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", "registry.ledger:migrations")
        config.set_main_option("path_separator", "os")
        with self.begin() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def revision(self) -> tuple[str, str]:
        """Return the revision of the tables, empty before the first upgrade, and the newest that this code knows."""
        from alembic.config import Config
        from alembic.runtime.migration import MigrationContext
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", "registry.ledger:migrations")
        config.set_main_option("path_separator", "os")
        with self.read() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
        return current or "", ScriptDirectory.from_config(config).get_current_head() or ""

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"the ledger's URL {url!r} is not a database URL such as sqlite:///ledger.db") from error
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise ConfigError(f"the ledger's URL {url!r} names no file; a ledger in memory would be lost")
        return parsed.set(drivername="sqlite+pysqlite")
    if parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    raise ConfigError(f"the ledger's URL {url!r} must start with sqlite:/// or postgresql://")


def _sqlite(url: URL) -> Engine:
    Path(str(url.database)).resolve().parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        json_serializer=canonical_json,
        connect_args={"isolation_level": None, "timeout": BUSY_SECONDS, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL; the switch ignores the busy timeout, so it is tried again for as long."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get("revet_read", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _postgres(url: URL) -> Engine:
    return create_engine(
        url,
        json_serializer=canonical_json,
        pool_pre_ping=True,
        connect_args={"connect_timeout": 10, "options": "-c timezone=utc"},
    )
