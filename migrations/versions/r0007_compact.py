"""Fewer bytes an event, and digests of what the chain of events does not cover: headers, files, argument names."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

INTEGER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
_HEAD = (("trace", INTEGER, False), ("seq", INTEGER, False), ("mm", INTEGER, False))
_BODY = (
    ("call", INTEGER, False),
    ("args", sa.Text(), False),
    ("result", sa.BigInteger(), True),
    ("errno", INTEGER, False),
    ("file", INTEGER, True),
    ("injected", INTEGER, False),
    ("site", INTEGER, True),
)
_TAIL = (("source_offset", sa.BigInteger(), True), ("hash", sa.LargeBinary(), False))
_PLAIN = (
    *_HEAD, ("pid", INTEGER, False), ("tid", INTEGER, False), ("ts_ns", sa.BigInteger(), True), *_BODY,
    ("source_line", INTEGER, True), *_TAIL,
)  # fmt: skip
_COMPACT = (
    *_HEAD, ("task", INTEGER, False), ("ts", sa.BigInteger(), True), *_BODY, ("line", INTEGER, True), *_TAIL,
)  # fmt: skip
_SHARED = ", ".join(name for name, _, _ in (*_HEAD, *_BODY, *_TAIL))
_FIRST_TS = "(SELECT ts_ns FROM event_t e WHERE e.trace = trace_t.trace AND ts_ns IS NOT NULL ORDER BY seq LIMIT 1)"

_HEADER = "name,source,format,release,version,config,faults,note,source_key,created_at,complete"
_FILE = "file,path,kind,readable,writable,dev,inode,size,origin,flags"


def upgrade() -> None:
    op.create_table(
        "task_t",
        sa.Column("task", INTEGER, nullable=False),
        sa.Column("pid", INTEGER, nullable=False),
        sa.Column("tid", INTEGER, nullable=False),
        sa.PrimaryKeyConstraint("task", name="pk_task_t"),
        sa.UniqueConstraint("pid", "tid", name="uq_task_t_pid_tid"),
    )
    op.execute("INSERT INTO task_t (pid, tid) SELECT DISTINCT pid, tid FROM event_t ORDER BY pid, tid")
    op.add_column("trace_t", sa.Column("base_ns", sa.BigInteger(), nullable=True))
    op.execute(f"UPDATE trace_t SET base_ns = {_FIRST_TS}")
    _remake(
        _COMPACT,
        f"INSERT INTO event_new ({_SHARED}, task, ts, line) SELECT {_of('e')}, k.task, e.ts_ns - t.base_ns,"
        " e.source_line - e.seq FROM event_t e JOIN task_t k ON k.pid = e.pid AND k.tid = e.tid"
        " JOIN trace_t t ON t.trace = e.trace ORDER BY e.trace, e.seq",
    )
    _seal_all()


def _seal_all() -> None:
    op.add_column("trace_t", sa.Column("header_hash", sa.LargeBinary(), nullable=True))
    op.add_column("trace_t", sa.Column("files_hash", sa.LargeBinary(), nullable=True))
    op.add_column("call_t", sa.Column("hash", sa.LargeBinary(), nullable=True))
    bind = op.get_bind()
    for trace, *header in bind.execute(sa.text(f"SELECT trace,{_HEADER} FROM trace_t")).fetchall():
        files = bind.execute(sa.text(f"SELECT {_FILE} FROM file_t WHERE trace=:t"), {"t": trace})
        total = sum(int.from_bytes(_seal(row), "big") for row in files) % (1 << 128)
        bind.execute(
            sa.text("UPDATE trace_t SET header_hash=:h, files_hash=:f WHERE trace=:t"),
            {"h": _seal(header), "f": total.to_bytes(16, "big"), "t": trace},
        )
    for call, *row in bind.execute(sa.text("SELECT call,name,version,arg_names FROM call_t")).fetchall():
        bind.execute(sa.text("UPDATE call_t SET hash=:h WHERE call=:c"), {"h": _seal(row), "c": call})


def _seal(row: Iterable[Any]) -> bytes:
    return blake2b(json.dumps(list(row)).encode(), digest_size=16).digest()


def downgrade() -> None:
    op.drop_column("call_t", "hash")
    op.drop_column("trace_t", "files_hash")
    op.drop_column("trace_t", "header_hash")
    _remake(
        _PLAIN,
        f"INSERT INTO event_new ({_SHARED}, pid, tid, ts_ns, source_line) SELECT {_of('e')}, k.pid, k.tid,"
        " e.ts + t.base_ns, e.line + e.seq FROM event_t e JOIN task_t k ON k.task = e.task"
        " JOIN trace_t t ON t.trace = e.trace ORDER BY e.trace, e.seq",
    )
    op.drop_column("trace_t", "base_ns")
    op.drop_table("task_t")


def _of(table: str) -> str:
    return ", ".join(f"{table}.{name}" for name in _SHARED.split(", "))


def _remake(columns: tuple[tuple[str, sa.types.TypeEngine[Any], bool], ...], copy: str) -> None:
    """Make event_t anew with other columns, its rows by `copy`, and make it append-only again."""
    keys = {"call": "call_t.call", "trace": "trace_t.trace", "site": "site_t.site", "task": "task_t.task"}
    names = {name for name, _, _ in columns}
    made = op.create_table(
        "event_new",
        *(sa.Column(name, kind, nullable=null, autoincrement=False) for name, kind, null in columns),
        sa.PrimaryKeyConstraint("trace", "seq", name="pk_event_new"),
        *(sa.ForeignKeyConstraint([n], [to], name=f"fk_event_t_{n}") for n, to in keys.items() if n in names),
        sqlite_with_rowid=False,
    )
    assert made is not None
    op.execute(copy)
    op.drop_table("event_t")  # its triggers go with it
    op.rename_table("event_new", "event_t")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE event_t RENAME CONSTRAINT pk_event_new TO pk_event_t")
        op.execute(
            "CREATE TRIGGER event_t_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON event_t "
            "EXECUTE FUNCTION event_t_append_only()"
        )
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER event_t_no_{verb.lower()} BEFORE {verb} ON event_t "
            "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"
        )
