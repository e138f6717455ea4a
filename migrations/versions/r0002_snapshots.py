"""Snapshots of replays, a rolling hash of outcomes, what a replay was made from, events by address space."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "snapshot_t",
        sa.Column("replay", INTEGER, nullable=False),
        sa.Column("seq", INTEGER, nullable=False, autoincrement=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("replay", "seq", name="pk_snapshot_t"),
        sa.ForeignKeyConstraint(["replay"], ["replay_t.replay"], name="fk_snapshot_t_replay"),
    )
    op.add_column("replay_t", sa.Column("basis", sa.Text(), nullable=True))
    op.add_column("outcome_t", sa.Column("rolling", sa.BigInteger(), nullable=True))
    op.add_column("address_space_t", sa.Column("events", INTEGER, nullable=False, server_default="0"))
    op.execute(
        "UPDATE address_space_t SET events = counted.n"
        " FROM (SELECT trace, mm, count(*) AS n FROM event_t GROUP BY trace, mm) AS counted"
        " WHERE counted.trace = address_space_t.trace AND counted.mm = address_space_t.mm"
    )


def downgrade() -> None:
    op.drop_column("address_space_t", "events")
    op.drop_column("outcome_t", "rolling")
    op.drop_column("replay_t", "basis")
    op.drop_table("snapshot_t")
