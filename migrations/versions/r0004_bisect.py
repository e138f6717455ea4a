"""Bisection sessions and their marks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "bisect_t",
        sa.Column("bisect", INTEGER, nullable=False),
        sa.Column("trace", INTEGER, nullable=False),
        sa.Column("kernel", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("mm", INTEGER, nullable=False),
        sa.Column("last", INTEGER, nullable=False),
        sa.Column("term_old", sa.Text(), nullable=False),
        sa.Column("term_new", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["trace"], ["trace_t.trace"], name="fk_bisect_t_trace"),
        sa.PrimaryKeyConstraint("bisect", name="pk_bisect_t"),
    )
    op.create_table(
        "bisect_mark_t",
        sa.Column("bisect", INTEGER, nullable=False),
        sa.Column("n", INTEGER, autoincrement=False, nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("low", INTEGER, nullable=False),
        sa.Column("high", INTEGER, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["bisect"], ["bisect_t.bisect"], name="fk_bisect_mark_t_bisect"),
        sa.PrimaryKeyConstraint("bisect", "n", name="pk_bisect_mark_t"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("bisect_mark_t")
    op.drop_table("bisect_t")
