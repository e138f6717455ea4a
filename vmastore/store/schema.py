"""The tables, as SQLAlchemy sees them. Only migrations make them; the comments are the reference.

Tables are private (`*_t`); what users query are the views of `vmastore.store.views`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy import Integer as _Integer

# SQLite's INTEGER has 64 bits, PostgreSQL's 32; a BIGINT would not do in SQLite: it numbers no rows
Integer = _Integer().with_variant(BigInteger(), "postgresql")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


trace_t = Table(
    "trace_t",
    metadata,
    Column("trace", Integer, primary_key=True, comment="number of the trace"),
    Column("name", Text, nullable=False, unique=True, comment="name of the trace"),
    Column("source", Text, nullable=False, comment="path it was read from, or command that was recorded"),
    Column("format", Text, nullable=False, comment="strace, record, jsonl, vmafuzz, maprec, vectors"),
    Column("release", Text, comment="uname -r of the traced kernel, NULL unknown"),
    Column("version", Text, comment="uname -v of the traced kernel"),
    Column("config", Text, nullable=False, comment="JSON: sysctls and kernel configuration"),
    Column("faults", Text, nullable=False, comment="recorded, partial or none: what it shows of page faults"),
    Column("note", Text, comment="what the importer had to assume"),
    Column("source_key", Text, unique=True, comment="digest of the source: the same source is imported once"),
    Column("created_at", Text, nullable=False, comment="UTC time of the import"),
    Column("complete", Integer, nullable=False, comment="0 while an import has not come to its end"),
    Column("head_seq", Integer, nullable=False, comment="number of its last event, 0 none"),
    Column("head_hash", LargeBinary, comment="hash of its last event: a cut tail is found"),
    Column("base_ns", BigInteger, comment="time of its first event that has one, ns since the epoch"),
    Column("header_hash", LargeBinary, comment="blake2b-128 of its header: a changed one is found"),
    Column("files_hash", LargeBinary, comment="sum of the blake2b-128 of its rows in file_t"),
)

about_t = Table(
    "about_t",
    metadata,
    Column("key", Text, primary_key=True, comment="needs: the oldest vmastore that can open the store"),
    Column("value", Text, nullable=False, comment="its value"),
)

call_t = Table(
    "call_t",
    metadata,
    Column("call", Integer, primary_key=True, comment="number of the call"),
    Column("name", Text, nullable=False, comment="the kernel's name of the call"),
    Column("arg_names", Text, nullable=False, comment="JSON array: names of its arguments, in order"),
    Column("version", Integer, nullable=False, server_default="1", comment="version of its arguments"),
    Column("hash", LargeBinary, comment="blake2b-128 of its name, version and arg_names"),
    UniqueConstraint("name", "version"),
)

site_t = Table(
    "site_t",
    metadata,
    Column("site", Integer, primary_key=True, comment="number of the call site"),
    Column("text", Text, nullable=False, unique=True, comment="stack frames, innermost first"),
)

task_t = Table(
    "task_t",
    metadata,
    Column("task", Integer, primary_key=True, comment="number of the thread"),
    Column("pid", Integer, nullable=False, comment="its process"),
    Column("tid", Integer, nullable=False, comment="the id that the log prints"),
    UniqueConstraint("pid", "tid"),
)

event_t = Table(
    "event_t",
    metadata,
    Column("trace", Integer, ForeignKey("trace_t.trace"), primary_key=True, comment="its trace"),
    Column("seq", Integer, primary_key=True, autoincrement=False, comment="gap-free number in the trace, from 1"),
    Column("mm", Integer, nullable=False, comment="address space"),
    Column("task", Integer, ForeignKey("task_t.task"), nullable=False, comment="process and thread"),
    Column("ts", BigInteger, comment="completion time, ns since its trace's base_ns"),
    Column("call", Integer, ForeignKey("call_t.call"), nullable=False, comment="the call"),
    Column("args", Text, nullable=False, comment="JSON array of the arguments; maps: see observed_t"),
    Column("result", BigInteger, comment="return value, as signed 64 bits; NULL when it failed"),
    Column("errno", Integer, nullable=False, comment="0 or the positive errno"),
    Column("file", Integer, comment="open file description"),
    Column("injected", Integer, nullable=False, comment="1: strace made the result up"),
    Column("site", Integer, ForeignKey("site_t.site"), comment="call site"),
    Column("line", Integer, comment="line of the source, from 1, less seq"),
    Column("source_offset", BigInteger, comment="byte offset of that line"),
    Column("hash", LargeBinary, nullable=False, comment="blake2b-128 of the event and of the hash before it"),
    sqlite_with_rowid=False,
)

chunk_t = Table(
    "chunk_t",
    metadata,
    Column("trace", Integer, ForeignKey("trace_t.trace"), primary_key=True, comment="its trace"),
    Column("first_seq", Integer, primary_key=True, autoincrement=False, comment="first event that it packs"),
    Column("last_seq", Integer, nullable=False, comment="last event that it packs, with all between"),
    Column("form", Text, nullable=False, comment="how it is packed; another one than today's: stale"),
    Column("hash", LargeBinary, nullable=False, comment="hash of the last event, as its row has it"),
    Column("digest", LargeBinary, nullable=False, comment="hash of the packed events and of their place"),
    Column("payload", LargeBinary, nullable=False, comment="zlib of the events by columns"),
)

append_t = Table(
    "append_t",
    metadata,
    Column("trace", Integer, ForeignKey("trace_t.trace"), primary_key=True, comment="its trace"),
    Column("key", Text, primary_key=True, comment="the writer's key of the batch: the same one is stored once"),
    Column("first_seq", Integer, nullable=False, comment="first event of the batch"),
    Column("last_seq", Integer, nullable=False, comment="last event of the batch"),
)

observed_t = Table(
    "observed_t",
    metadata,
    Column("trace", Integer, ForeignKey("trace_t.trace"), primary_key=True, comment="its trace"),
    Column("seq", Integer, primary_key=True, autoincrement=False, comment="its maps event"),
    Column("payload", LargeBinary, nullable=False, comment="zlib of the JSON of the observed lines"),
)

file_t = Table(
    "file_t",
    metadata,
    Column("trace", Integer, ForeignKey("trace_t.trace"), primary_key=True, comment="its trace"),
    Column("file", Integer, primary_key=True, autoincrement=False, comment="number of the open file description"),
    Column("path", Text, comment="its path, NULL unknown"),
    Column("kind", Text, nullable=False, comment="regular, memfd, shm, zero, hugetlb, uffd, device, …"),
    Column("readable", Integer, comment="opened for reading; NULL unknown"),
    Column("writable", Integer, comment="opened for writing; NULL unknown"),
    Column("dev", Text, comment="device, as maps prints it"),
    Column("inode", BigInteger, comment="inode number"),
    Column("size", BigInteger, comment="bytes"),
    Column("origin", Text, nullable=False, comment="open, inherited, unknown, …"),
    Column("flags", Integer, comment="open(2) flags"),
)

address_space_t = Table(
    "address_space_t",
    metadata,
    Column("trace", Integer, ForeignKey("trace_t.trace"), primary_key=True, comment="its trace"),
    Column("mm", Integer, primary_key=True, autoincrement=False, comment="number of the address space"),
    Column("pid", Integer, nullable=False, comment="process it began with"),
    Column("parent_mm", Integer, comment="the one it was copied from or replaced"),
    Column("origin", Text, nullable=False, comment="exec, fork or attach"),
    Column("born_seq", Integer, nullable=False, comment="event that made it"),
    Column("died_seq", Integer, comment="event that ended it, NULL alive at the end"),
    Column("events", Integer, nullable=False, server_default="0", comment="events in it"),
)

skip_t = Table(
    "skip_t",
    metadata,
    Column("trace", Integer, ForeignKey("trace_t.trace"), primary_key=True, comment="its trace"),
    Column("n", Integer, primary_key=True, autoincrement=False, comment="order in the account"),
    Column("tid", Integer, comment="thread, NULL none"),
    Column("call", Text, comment="call, NULL none"),
    Column("reason", Text, nullable=False, comment="no-result, never-resumed, unparsed, …"),
    Column("source_line", Integer, comment="first line of the kind"),
    Column("count", Integer, nullable=False, comment="lines of the kind"),
)

replay_t = Table(
    "replay_t",
    metadata,
    Column("replay", Integer, primary_key=True, comment="number of the replay"),
    Column("trace", Integer, ForeignKey("trace_t.trace"), nullable=False, comment="its trace"),
    Column("kernel", Text, nullable=False, comment="rule set"),
    Column("options", Text, nullable=False, comment="JSON: fault policy, map limit, rule switches"),
    Column("engine", Text, nullable=False, comment="version of vmastore that made it"),
    Column("events", Integer, nullable=False, comment="events folded; less than the trace has: stale"),
    Column("basis", Text, comment="digest of the header and files it was made from; NULL: of an older vmastore"),
    Column("peak_seq", Integer, comment="event after which there were most VMAs in one address space"),
    UniqueConstraint("trace", "kernel", "options"),
)

snapshot_t = Table(
    "snapshot_t",
    metadata,
    Column("replay", Integer, ForeignKey("replay_t.replay"), primary_key=True, comment="its replay"),
    Column("seq", Integer, primary_key=True, autoincrement=False, comment="event after which the state stood so"),
    Column("digest", LargeBinary, nullable=False, comment="hash of the state and of what led to it"),
    Column("payload", LargeBinary, nullable=False, comment="zlib of the state of all address spaces"),
)

rolling_t = Table(
    "rolling_t",
    metadata,
    Column("replay", Integer, ForeignKey("replay_t.replay"), primary_key=True, comment="its replay"),
    Column("first_seq", Integer, primary_key=True, autoincrement=False, comment="first event of the run"),
    Column("payload", LargeBinary, nullable=False, comment="hash of all outcomes up to its end; 4 bytes an event"),
)

outcome_t = Table(
    "outcome_t",
    metadata,
    Column("replay", Integer, ForeignKey("replay_t.replay"), primary_key=True, comment="its replay"),
    Column("seq", Integer, primary_key=True, autoincrement=False, comment="its event"),
    Column("mm", Integer, nullable=False, comment="address space"),
    Column("map_count", Integer, nullable=False, comment="VMAs after the event"),
    Column("kind", Integer, nullable=False, comment="what it was: outcome_kind_t"),
    sqlite_with_rowid=False,
)

outcome_kind_t = Table(
    "outcome_kind_t",
    metadata,
    Column("replay", Integer, ForeignKey("replay_t.replay"), primary_key=True, comment="its replay"),
    Column("kind", Integer, primary_key=True, autoincrement=False, comment="number of the kind in the replay"),
    Column("merges", Integer, nullable=False, comment="merges"),
    Column("splits", Integer, nullable=False, comment="splits"),
    Column("cases", Text, nullable=False, comment="merge cases and splits, in order"),
    Column("certain", Integer, nullable=False, comment="0: hangs on something the trace does not show"),
    Column("divergence", Text, comment="how replay and kernel answered differently"),
    sqlite_with_rowid=False,
)

decision_t = Table(
    "decision_t",
    metadata,
    Column("replay", Integer, ForeignKey("replay_t.replay"), primary_key=True, comment="its replay"),
    Column("seq", Integer, primary_key=True, autoincrement=False, comment="its event"),
    Column("n", Integer, primary_key=True, autoincrement=False, comment="order within the event, from 1"),
    Column("mm", Integer, nullable=False, comment="address space"),
    Column("vm_start", BigInteger, nullable=False, comment="start of the range"),
    Column("vm_end", BigInteger, nullable=False, comment="end of the range"),
    Column("kind", Integer, nullable=False, comment="what was decided and why: decision_kind_t"),
    sqlite_with_rowid=False,
)

decision_kind_t = Table(
    "decision_kind_t",
    metadata,
    Column("replay", Integer, ForeignKey("replay_t.replay"), primary_key=True, comment="its replay"),
    Column("kind", Integer, primary_key=True, autoincrement=False, comment="number of the kind in the replay"),
    Column("api", Text, nullable=False, comment="API function that decided"),
    Column("action", Text, nullable=False, comment="merge, split or none"),
    Column("case", Text, nullable=False, comment="merge case 1 to 8, or which part is new"),
    Column("reason_prev", Text, comment="why not with the lower neighbour"),
    Column("reason_next", Text, comment="why not with the upper neighbour"),
    Column("certain", Integer, nullable=False, comment="0: hangs on something the trace does not show"),
    sqlite_with_rowid=False,
)

vma_t = Table(
    "vma_t",
    metadata,
    Column("replay", Integer, ForeignKey("replay_t.replay"), primary_key=True, comment="its replay"),
    Column("seq_node", BigInteger, primary_key=True, autoincrement=False, comment="node of the time it lived"),
    Column("n", Integer, primary_key=True, autoincrement=False, comment="number of the lifetime in the replay"),
    Column("mm", Integer, nullable=False, comment="address space"),
    Column("vm_start", BigInteger, nullable=False, comment="first byte"),
    Column("vm_end", BigInteger, nullable=False, comment="first byte behind it"),
    Column("pgoff", BigInteger, nullable=False, comment="offset in the file, pages"),
    Column("kind", Integer, nullable=False, comment="what else it was: vma_kind_t"),
    Column("born_seq", Integer, nullable=False, comment="event that made it"),
    Column("died_seq", Integer, comment="event that ended it, NULL alive"),
    sqlite_with_rowid=False,
)

vma_kind_t = Table(
    "vma_kind_t",
    metadata,
    Column("replay", Integer, ForeignKey("replay_t.replay"), primary_key=True, comment="its replay"),
    Column("kind", Integer, primary_key=True, autoincrement=False, comment="number of the kind in the replay"),
    Column("vm_flags", BigInteger, nullable=False, comment="kernel flags"),
    Column("path", Text, comment="mapped file"),
    Column("name", Text, comment="name column of maps"),
    sqlite_with_rowid=False,
)

vma_page_t = Table(
    "vma_page_t",
    metadata,
    Column("replay", Integer, ForeignKey("replay_t.replay"), primary_key=True, comment="its replay"),
    Column("page_node", BigInteger, primary_key=True, autoincrement=False, comment="node of the pages it covers"),
    Column("seq_node", BigInteger, primary_key=True, autoincrement=False, comment="where the lifetime is in vma_t"),
    Column("n", Integer, primary_key=True, autoincrement=False, comment="its number"),
    sqlite_with_rowid=False,
)

lost_merge_t = Table(
    "lost_merge_t",
    metadata,
    Column("replay", Integer, ForeignKey("replay_t.replay"), primary_key=True, comment="its replay"),
    Column("mm", Integer, primary_key=True, autoincrement=False, comment="address space"),
    Column("boundary", BigInteger, primary_key=True, autoincrement=False, comment="where the two VMAs meet"),
    Column("seq", Integer, nullable=False, comment="event after which they stood so"),
    Column("left_start", BigInteger, nullable=False, comment="start of the lower VMA"),
    Column("right_end", BigInteger, nullable=False, comment="end of the upper VMA"),
    Column("reason", Text, nullable=False, comment="the first reason why they are not one"),
)

bisect_t = Table(
    "bisect_t",
    metadata,
    Column("bisect", Integer, primary_key=True, comment="number of the bisection; there is one at a time"),
    Column("trace", Integer, ForeignKey("trace_t.trace"), nullable=False, comment="its trace"),
    Column("kernel", Text, nullable=False, comment="rule set"),
    Column("options", Text, nullable=False, comment="JSON: fault policy, map limit"),
    Column("mm", Integer, nullable=False, comment="address space that is looked at"),
    Column("last", Integer, nullable=False, comment="last event after which that has a state"),
    Column("term_old", Text, nullable=False, comment="term for the state before the change: good, old, …"),
    Column("term_new", Text, nullable=False, comment="term for the state after it: bad, new, …"),
    Column("started_at", Text, nullable=False, comment="UTC time"),
)

bisect_mark_t = Table(
    "bisect_mark_t",
    metadata,
    Column("bisect", Integer, ForeignKey("bisect_t.bisect"), primary_key=True, comment="its bisection"),
    Column("n", Integer, primary_key=True, autoincrement=False, comment="order, from 1"),
    Column("verdict", Text, nullable=False, comment="old, new or skip"),
    Column("low", Integer, nullable=False, comment="first event that is marked"),
    Column("high", Integer, nullable=False, comment="last event that is marked: the same one but for skip"),
    Column("source", Text, nullable=False, comment="user, or run: a command said so"),
    sqlite_with_rowid=False,
)

query_t = Table(
    "query_t",
    metadata,
    Column("name", Text, primary_key=True, comment="name of the saved query"),
    Column("sql", Text, nullable=False, comment="its SELECT"),
    Column("created_at", Text, nullable=False, comment="UTC time when it was saved"),
)
