from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, inspect, select
from sqlalchemy.exc import StatementError

from domain.errors import ConfigError
from registry.ledger import Ledger
from registry.ledger.engine import database_time
from registry.ledger.tables import head, metadata, outbox, source
from registry.ledger.types import UtcDateTime

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_an_upgraded_database_equals_the_tables_of_the_code(ledger):
    with ledger.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
        assert compare_metadata(context, metadata) == []


def test_keys_and_unique_constraints_of_the_database_are_those_of_the_code(ledger):
    inspector = inspect(ledger.engine)
    for table in metadata.sorted_tables:
        wanted = [column.name for column in table.primary_key.columns]
        assert inspector.get_pk_constraint(table.name)["constrained_columns"] == wanted
        nullable = {column["name"]: column["nullable"] for column in inspector.get_columns(table.name)}
        assert nullable == {column.name: column.nullable for column in table.columns}


def test_upgrading_twice_and_from_two_threads_changes_nothing(ledger_url):
    ledger = Ledger(ledger_url)
    failures = []

    def upgrade():
        try:
            ledger.upgrade()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            failures.append(error)

    threads = [threading.Thread(target=upgrade) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.upgrade()
    ledger.close()
    assert failures == []


def test_a_time_comes_back_aware_and_equal_whatever_zone_it_had(ledger):
    east = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    with ledger.begin() as connection:
        connection.execute(insert(source).values(monitor="m", watermark=east, updated_at=NOON))
    with ledger.read() as connection:
        row = connection.execute(select(source)).one()
        found = connection.execute(select(source.c.monitor).where(source.c.watermark == east)).scalar_one()
    assert (row.watermark, row.watermark.tzinfo, row.cursor_time, found) == (NOON, UTC, None, "m")


def test_a_time_without_a_zone_is_refused(ledger):
    naive = NOON.replace(tzinfo=None)
    with pytest.raises(StatementError, match="needs a time zone"), ledger.begin() as connection:
        connection.execute(insert(source).values(monitor="m", watermark=naive, updated_at=NOON))


@given(st.datetimes(timezones=st.timezones()))
@settings(max_examples=30, deadline=None)
def test_times_keep_their_order_and_value_on_sqlite(moment):
    from sqlalchemy.dialects import sqlite

    column = UtcDateTime()
    dialect = sqlite.dialect()
    try:
        stored = column.process_bind_param(moment, dialect)
    except OverflowError:  # year 1 or 9999 moved over the edge
        return
    assert column.process_result_value(stored, dialect) == moment.astimezone(UTC)


def test_nothing_is_written_when_the_body_fails(ledger):
    row = {"monitor": "m", "version": 1, "epoch": 1, "digest": "a" * 64, "updated_at": NOON}

    def write_and_fail(connection):
        connection.execute(insert(head).values(**row))
        raise RuntimeError

    with pytest.raises(RuntimeError), ledger.begin() as connection:
        write_and_fail(connection)
    with ledger.read() as connection:
        assert connection.execute(select(func.count()).select_from(head)).scalar_one() == 0


def test_a_payload_with_nan_is_refused(ledger):
    row = {"monitor": "m", "topic": "t", "key": "k", "payload": {"value": float("nan")}, "created_at": NOON}
    with pytest.raises((StatementError, ValueError)), ledger.begin() as connection:
        connection.execute(insert(outbox).values(**row))


def test_writers_on_sqlite_wait_for_each_other_from_the_first_read_on(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.upgrade()
    with ledger.begin() as connection:
        connection.execute(insert(head).values(monitor="m", version=0, epoch=0, digest="a" * 64, updated_at=NOON))

    def add_one():
        for _ in range(20):
            with ledger.begin() as connection:
                epoch = connection.execute(select(head.c.epoch)).scalar_one()
                connection.execute(head.update().values(epoch=epoch + 1))

    threads = [threading.Thread(target=add_one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ledger.read() as connection:
        assert connection.execute(select(head.c.epoch)).scalar_one() == 60
    ledger.close()


def test_the_database_tells_the_time(ledger):
    with ledger.read() as connection:
        assert abs((database_time(connection) - datetime.now(UTC)).total_seconds()) < 60


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y", "nonsense"])
def test_a_url_that_cannot_be_a_ledger_is_refused(url):
    with pytest.raises(ConfigError, match="ledger"):
        Ledger(url)


def test_no_password_is_shown():
    ledger = Ledger("postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in ledger.url
    ledger.close()


def test_the_folder_of_a_new_ledger_is_made(tmp_path: Path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'a' / 'b' / 'ledger.db'}")
    ledger.upgrade()
    ledger.close()
    assert (tmp_path / "a" / "b" / "ledger.db").is_file()
