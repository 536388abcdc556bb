"""The columns that the tables of the ledger are made of."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, String, Text, false

from registry.ledger.types import BigId, UtcDateTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def monitor_name(*, key: bool = False) -> Column[str]:
    """Return the column that namespaces a row by its monitor."""
    return Column("monitor", String(41), primary_key=key, nullable=False)


def text(name: str, *, key: bool = False) -> Column[str]:
    """Return a text column, empty by default."""
    return Column(name, Text, primary_key=key, nullable=False, server_default=None if key else "")


def digest(name: str = "digest", *, key: bool = False, nullable: bool = False) -> Column[str]:
    """Return a column of 64 hexadecimal digits."""
    return Column(name, String(64), primary_key=key, nullable=nullable)


def moment(name: str, *, key: bool = False, nullable: bool = False) -> Column[Any]:
    """Return a column with a point in time."""
    return Column(name, UtcDateTime, primary_key=key, nullable=nullable)


def count(name: str) -> Column[int]:
    """Return a counter, zero by default."""
    return Column(name, BigInteger, nullable=False, server_default="0")


def version(name: str = "version", *, key: bool = False, nullable: bool = False) -> Column[int]:
    """Return a column with a model version or revision."""
    return Column(name, Integer, primary_key=key, nullable=nullable, autoincrement=False)


def identity() -> Column[int]:
    """Return an automatic number as primary key."""
    return Column("id", BigId, primary_key=True, autoincrement=True)


def flag(name: str) -> Column[bool]:
    """Return a yes-or-no column, no by default."""
    return Column(name, Boolean, nullable=False, server_default=false())
