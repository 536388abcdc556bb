"""Alembic's environment and revisions; run through `Ledger.upgrade()`, without an ini file."""
