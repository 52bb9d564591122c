"""How Alembic runs our migrations: on the connection it is given, or as printed SQL."""

from __future__ import annotations

import sqlalchemy
import sqlalchemy.schema
from alembic import context

from runbook_lib.database.schema import VERSION_TABLE

schema = context.config.attributes["schema"]
options = {"version_table": VERSION_TABLE, "version_table_schema": schema}

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, **options)
    with context.begin_transaction():
        if schema != "public":
            context.execute(sqlalchemy.schema.CreateSchema(schema, if_not_exists=True))
        path = f'"{schema}", public'
        context.execute(sqlalchemy.select(sqlalchemy.func.set_config("search_path", path, True)))
        context.run_migrations()
else:
    context.configure(connection=context.config.attributes["connection"], **options)
    with context.begin_transaction():
        context.run_migrations()
