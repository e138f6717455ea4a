"""The first schema: traces, append-only events with their chain, observations, derived data."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")  # 64 bits in both


def upgrade() -> None:
    op.create_table(
        "call_t",
        sa.Column("call", INTEGER, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("arg_names", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("call", name="pk_call_t"),
        sa.UniqueConstraint("name", name="uq_call_t_name"),
    )
    op.create_table(
        "site_t",
        sa.Column("site", INTEGER, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("site", name="pk_site_t"),
        sa.UniqueConstraint("text", name="uq_site_t_text"),
    )
    op.create_table(
        "trace_t",
        sa.Column("trace", INTEGER, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("release", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("faults", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("source_key", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("complete", INTEGER, nullable=False),
        sa.Column("head_seq", INTEGER, nullable=False),
        sa.Column("head_hash", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("trace", name="pk_trace_t"),
        sa.UniqueConstraint("name", name="uq_trace_t_name"),
        sa.UniqueConstraint("source_key", name="uq_trace_t_source_key"),
    )
    op.create_table(
        "address_space_t",
        sa.Column("trace", INTEGER, nullable=False),
        sa.Column("mm", INTEGER, nullable=False, autoincrement=False),
        sa.Column("pid", INTEGER, nullable=False),
        sa.Column("parent_mm", INTEGER, nullable=True),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("born_seq", INTEGER, nullable=False),
        sa.Column("died_seq", INTEGER, nullable=True),
        sa.PrimaryKeyConstraint("trace", "mm", name="pk_address_space_t"),
        sa.ForeignKeyConstraint(["trace"], ["trace_t.trace"], name="fk_address_space_t_trace"),
    )
    op.create_table(
        "event_t",
        sa.Column("trace", INTEGER, nullable=False),
        sa.Column("seq", INTEGER, nullable=False, autoincrement=False),
        sa.Column("mm", INTEGER, nullable=False),
        sa.Column("pid", INTEGER, nullable=False),
        sa.Column("tid", INTEGER, nullable=False),
        sa.Column("ts_ns", sa.BigInteger(), nullable=True),
        sa.Column("call", INTEGER, nullable=False),
        sa.Column("args", sa.Text(), nullable=False),
        sa.Column("result", sa.BigInteger(), nullable=True),
        sa.Column("errno", INTEGER, nullable=False),
        sa.Column("file", INTEGER, nullable=True),
        sa.Column("injected", INTEGER, nullable=False),
        sa.Column("site", INTEGER, nullable=True),
        sa.Column("source_line", INTEGER, nullable=True),
        sa.Column("source_offset", sa.BigInteger(), nullable=True),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("trace", "seq", name="pk_event_t"),
        sa.ForeignKeyConstraint(["call"], ["call_t.call"], name="fk_event_t_call"),
        sa.ForeignKeyConstraint(["trace"], ["trace_t.trace"], name="fk_event_t_trace"),
        sa.ForeignKeyConstraint(["site"], ["site_t.site"], name="fk_event_t_site"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "file_t",
        sa.Column("trace", INTEGER, nullable=False),
        sa.Column("file", INTEGER, nullable=False, autoincrement=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("readable", INTEGER, nullable=True),
        sa.Column("writable", INTEGER, nullable=True),
        sa.Column("dev", sa.Text(), nullable=True),
        sa.Column("inode", sa.BigInteger(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("flags", INTEGER, nullable=True),
        sa.PrimaryKeyConstraint("trace", "file", name="pk_file_t"),
        sa.ForeignKeyConstraint(["trace"], ["trace_t.trace"], name="fk_file_t_trace"),
    )
    op.create_table(
        "observed_t",
        sa.Column("trace", INTEGER, nullable=False),
        sa.Column("seq", INTEGER, nullable=False, autoincrement=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("trace", "seq", name="pk_observed_t"),
        sa.ForeignKeyConstraint(["trace"], ["trace_t.trace"], name="fk_observed_t_trace"),
    )
    op.create_table(
        "replay_t",
        sa.Column("replay", INTEGER, nullable=False),
        sa.Column("trace", INTEGER, nullable=False),
        sa.Column("kernel", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("events", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("replay", name="pk_replay_t"),
        sa.ForeignKeyConstraint(["trace"], ["trace_t.trace"], name="fk_replay_t_trace"),
        sa.UniqueConstraint("trace", "kernel", "options", name="uq_replay_t_trace_kernel_options"),
    )
    op.create_table(
        "skip_t",
        sa.Column("trace", INTEGER, nullable=False),
        sa.Column("n", INTEGER, nullable=False, autoincrement=False),
        sa.Column("tid", INTEGER, nullable=True),
        sa.Column("call", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("source_line", INTEGER, nullable=True),
        sa.Column("count", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("trace", "n", name="pk_skip_t"),
        sa.ForeignKeyConstraint(["trace"], ["trace_t.trace"], name="fk_skip_t_trace"),
    )
    op.create_table(
        "decision_t",
        sa.Column("replay", INTEGER, nullable=False),
        sa.Column("seq", INTEGER, nullable=False, autoincrement=False),
        sa.Column("n", INTEGER, nullable=False, autoincrement=False),
        sa.Column("mm", INTEGER, nullable=False),
        sa.Column("api", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("vm_start", sa.BigInteger(), nullable=False),
        sa.Column("vm_end", sa.BigInteger(), nullable=False),
        sa.Column("case", sa.Text(), nullable=False),
        sa.Column("reason_prev", sa.Text(), nullable=True),
        sa.Column("reason_next", sa.Text(), nullable=True),
        sa.Column("certain", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("replay", "seq", "n", name="pk_decision_t"),
        sa.ForeignKeyConstraint(["replay"], ["replay_t.replay"], name="fk_decision_t_replay"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "lost_merge_t",
        sa.Column("replay", INTEGER, nullable=False),
        sa.Column("mm", INTEGER, nullable=False, autoincrement=False),
        sa.Column("boundary", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("seq", INTEGER, nullable=False),
        sa.Column("left_start", sa.BigInteger(), nullable=False),
        sa.Column("right_end", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("replay", "mm", "boundary", name="pk_lost_merge_t"),
        sa.ForeignKeyConstraint(["replay"], ["replay_t.replay"], name="fk_lost_merge_t_replay"),
    )
    op.create_table(
        "outcome_t",
        sa.Column("replay", INTEGER, nullable=False),
        sa.Column("seq", INTEGER, nullable=False, autoincrement=False),
        sa.Column("mm", INTEGER, nullable=False),
        sa.Column("merges", INTEGER, nullable=False),
        sa.Column("splits", INTEGER, nullable=False),
        sa.Column("cases", sa.Text(), nullable=False),
        sa.Column("map_count", INTEGER, nullable=False),
        sa.Column("certain", INTEGER, nullable=False),
        sa.Column("divergence", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("replay", "seq", name="pk_outcome_t"),
        sa.ForeignKeyConstraint(["replay"], ["replay_t.replay"], name="fk_outcome_t_replay"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "vma_t",
        sa.Column("replay", INTEGER, nullable=False),
        sa.Column("mm", INTEGER, nullable=False),
        sa.Column("vm_start", sa.BigInteger(), nullable=False),
        sa.Column("vm_end", sa.BigInteger(), nullable=False),
        sa.Column("vm_flags", sa.BigInteger(), nullable=False),
        sa.Column("pgoff", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("born_seq", INTEGER, nullable=False),
        sa.Column("died_seq", INTEGER, nullable=True),
        sa.ForeignKeyConstraint(["replay"], ["replay_t.replay"], name="fk_vma_t_replay"),
    )
    op.create_index("ix_vma_t_replay_mm_born_seq", "vma_t", ["replay", "mm", "born_seq"])
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER event_t_no_{verb.lower()} BEFORE {verb} ON event_t "
                "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"
            )
    elif op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION event_t_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'events are append-only'; END $$"
        )
        op.execute(
            "CREATE TRIGGER event_t_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event_t "
            "EXECUTE FUNCTION event_t_append_only()"
        )


def downgrade() -> None:
    op.drop_table("vma_t")
    op.drop_table("outcome_t")
    op.drop_table("lost_merge_t")
    op.drop_table("decision_t")
    op.drop_table("skip_t")
    op.drop_table("replay_t")
    op.drop_table("observed_t")
    op.drop_table("file_t")
    op.drop_table("event_t")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION event_t_append_only()")
    op.drop_table("address_space_t")
    op.drop_table("trace_t")
    op.drop_table("site_t")
    op.drop_table("call_t")
