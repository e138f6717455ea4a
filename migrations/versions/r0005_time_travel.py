"""Lifetimes found by moment and by address; saved queries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
_NODES = ("seq_node", "page_node")


def upgrade() -> None:
    for node in _NODES:
        op.add_column("vma_t", sa.Column(node, sa.BigInteger(), nullable=True))
        op.create_index(f"ix_vma_t_replay_{node}", "vma_t", ["replay", node])
    op.add_column("replay_t", sa.Column("peak_seq", INTEGER, nullable=True))
    op.create_table(
        "query_t",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sql", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_query_t"),
    )


def downgrade() -> None:
    op.drop_table("query_t")
    op.drop_column("replay_t", "peak_seq")
    for node in _NODES:
        op.drop_index(f"ix_vma_t_replay_{node}", "vma_t")
        op.drop_column("vma_t", node)
