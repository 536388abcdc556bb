"""The system of record: one SQL database that decides what is true."""

from registry.ledger.engine import Ledger

__all__ = ["Ledger"]
