"""Events packed in chunks beside their rows, for replays to read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "chunk_t",
        sa.Column("trace", INTEGER, nullable=False),
        sa.Column("first_seq", INTEGER, nullable=False, autoincrement=False),
        sa.Column("last_seq", INTEGER, nullable=False),
        sa.Column("form", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("trace", "first_seq", name="pk_chunk_t"),
        sa.ForeignKeyConstraint(["trace"], ["trace_t.trace"], name="fk_chunk_t_trace"),
    )


def downgrade() -> None:
    op.drop_table("chunk_t")
