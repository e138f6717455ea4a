"""Versions of the events' arguments, keys of batches, and which vmastore a store needs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "about_t",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_about_t"),
    )
    op.create_table(
        "append_t",
        sa.Column("trace", INTEGER, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("first_seq", INTEGER, nullable=False),
        sa.Column("last_seq", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("trace", "key", name="pk_append_t"),
        sa.ForeignKeyConstraint(["trace"], ["trace_t.trace"], name="fk_append_t_trace"),
    )
    with op.batch_alter_table("call_t") as table:
        table.add_column(sa.Column("version", INTEGER, nullable=False, server_default="1"))
        table.drop_constraint("uq_call_t_name", type_="unique")
        table.create_unique_constraint("uq_call_t_name_version", ["name", "version"])


def downgrade() -> None:
    newer = op.get_bind().exec_driver_sql("SELECT count(*) FROM call_t WHERE version > 1").scalar_one()
    if newer:
        raise ValueError("0002 has no place for the versions of newer arguments, which this store holds")
    with op.batch_alter_table("call_t") as table:
        table.drop_constraint("uq_call_t_name_version", type_="unique")
        table.create_unique_constraint("uq_call_t_name", ["name"])
        table.drop_column("version")
    op.drop_table("append_t")
    op.drop_table("about_t")
