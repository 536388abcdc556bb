"""Runs the revisions on the connection that `Ledger.upgrade()` hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from registry.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    **context.config.attributes.get("options", {}),
)
with context.begin_transaction():
    context.run_migrations()
