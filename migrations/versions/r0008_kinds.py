"""Derived data that costs half to write: what many rows share is kept once, lifetimes in one tree.

What was derived is forgotten, and every replay stale until `db rebuild`: another engine has made it anyway.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
BIG, TEXT, BYTES = sa.BigInteger(), sa.Text(), sa.LargeBinary()
_DECIDED = (("api", TEXT, False), ("action", TEXT, False))
_REASONS = (
    ("case", TEXT, False), ("reason_prev", TEXT, True), ("reason_next", TEXT, True), ("certain", INTEGER, False),
)  # fmt: skip
_COUNTS = (("merges", INTEGER, False), ("splits", INTEGER, False), ("cases", TEXT, False))
_RANGE = (("vm_start", BIG, False), ("vm_end", BIG, False))
_LIFE = (("born_seq", INTEGER, False), ("died_seq", INTEGER, True))
_ENDS = (("certain", INTEGER, False), ("divergence", TEXT, True))
_MM, _KIND = ("mm", INTEGER, False), ("kind", INTEGER, False)
_Columns = tuple[tuple[str, sa.types.TypeEngine[Any], bool], ...]

# by table: the columns of its key behind `replay`, the others
_NEW: dict[str, tuple[_Columns, _Columns]] = {
    "outcome_t": ((("seq", INTEGER, False),), (_MM, ("map_count", INTEGER, False), _KIND)),
    "outcome_kind_t": ((_KIND,), (*_COUNTS, *_ENDS)),
    "decision_t": ((("seq", INTEGER, False), ("n", INTEGER, False)), (_MM, *_RANGE, _KIND)),
    "decision_kind_t": ((_KIND,), (*_DECIDED, *_REASONS)),
    "vma_t": (
        (("seq_node", BIG, False), ("n", INTEGER, False)), (_MM, *_RANGE, ("pgoff", BIG, False), _KIND, *_LIFE),
    ),
    "vma_kind_t": ((_KIND,), (("vm_flags", BIG, False), ("path", TEXT, True), ("name", TEXT, True))),
    "vma_page_t": ((("page_node", BIG, False), ("seq_node", BIG, False), ("n", INTEGER, False)), ()),
}  # fmt: skip
_OLD: dict[str, tuple[_Columns, _Columns]] = {
    "outcome_t": (
        (("seq", INTEGER, False),), (_MM, *_COUNTS, ("map_count", INTEGER, False), *_ENDS, ("rolling", BIG, True)),
    ),
    "decision_t": ((("seq", INTEGER, False), ("n", INTEGER, False)), (_MM, *_DECIDED, *_RANGE, *_REASONS)),
}  # fmt: skip
_OLD_VMA: _Columns = (
    _MM, *_RANGE, ("vm_flags", BIG, False), ("pgoff", BIG, False), ("path", TEXT, True), ("name", TEXT, True), *_LIFE,
    ("seq_node", BIG, True), ("page_node", BIG, True),
)  # fmt: skip


def upgrade() -> None:
    _forget("outcome_t", "decision_t", "vma_t")
    for table, (key, rest) in _NEW.items():
        _make(table, key, rest)
    op.create_table(
        "rolling_t",
        sa.Column("replay", INTEGER, nullable=False),
        sa.Column("first_seq", INTEGER, nullable=False, autoincrement=False),
        sa.Column("payload", BYTES, nullable=False),
        sa.PrimaryKeyConstraint("replay", "first_seq", name="pk_rolling_t"),
        sa.ForeignKeyConstraint(["replay"], ["replay_t.replay"], name="fk_rolling_t_replay"),
    )


def downgrade() -> None:
    _forget("rolling_t", *_NEW)
    for table, (key, rest) in _OLD.items():
        _make(table, key, rest)
    op.create_table(
        "vma_t",
        sa.Column("replay", INTEGER, nullable=False),
        *(sa.Column(name, kind, nullable=null) for name, kind, null in _OLD_VMA),
        sa.ForeignKeyConstraint(["replay"], ["replay_t.replay"], name="fk_vma_t_replay"),
    )
    for columns in (("mm", "born_seq"), ("seq_node",), ("page_node",)):
        op.create_index(f"ix_vma_t_replay_{'_'.join(columns)}", "vma_t", ["replay", *columns])


def _forget(*tables: str) -> None:
    """Drop tables of derived data; with what else a replay has, since it is stale now."""
    for table in tables:
        op.drop_table(table)
    op.execute("DELETE FROM lost_merge_t")
    op.execute("DELETE FROM snapshot_t")
    op.execute("UPDATE replay_t SET events = 0, peak_seq = NULL")


def _make(table: str, key: _Columns, rest: _Columns) -> None:
    op.create_table(
        table,
        sa.Column("replay", INTEGER, nullable=False),
        *(sa.Column(name, kind, nullable=null, autoincrement=False) for name, kind, null in (*key, *rest)),
        sa.PrimaryKeyConstraint("replay", *(name for name, _, _ in key), name=f"pk_{table}"),
        sa.ForeignKeyConstraint(["replay"], ["replay_t.replay"], name=f"fk_{table}_replay"),
        sqlite_with_rowid=False,
    )
