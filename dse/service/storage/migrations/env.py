"""What Alembic runs: the migrations, in the transaction that it is given."""

from __future__ import annotations

from alembic import context

from dse.service.storage.database import VERSION_TABLE
from dse.service.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
