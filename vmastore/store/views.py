"""The public views, documented column by column: users script against these."""

from __future__ import annotations

from errno import errorcode
from typing import NamedTuple


class View(NamedTuple):
    """A view: its comment, its columns (name, SQL, comment), what it selects from."""

    name: str
    comment: str
    columns: tuple[tuple[str, str, str], ...]
    source: str

    @property
    def sql(self) -> str:
        """The SELECT that the view is, for SQLite."""
        columns = ", ".join(f'{expression} AS "{name}"' for name, expression, _ in self.columns)
        return f"SELECT {columns} FROM {self.source}"

    def select(self, dialect: str) -> str:
        """The same for a database by SQLAlchemy's name of it: the JSON functions have no common spelling."""
        sql = self.sql
        for sqlite, postgresql in _JSON.items() if dialect == "postgresql" else ():
            sql = sql.replace(sqlite, postgresql)
        return sql


# json_each gives integers of 2^63 and more as floating point; their digits are got from an array of twice the same
_BIG = "a.type = 'integer' AND typeof(a.value) = 'real'"
_TWICE = "json_extract(e.args, a.fullkey, a.fullkey)"
_DIGITS = f"substr({_TWICE}, 2, (length({_TWICE}) - 3) / 2)"
_ARGS = (
    "(SELECT json_group_object(coalesce(json_extract(c.arg_names, '$[' || a.key || ']'), 'arg' || a.key), "
    f"CASE WHEN a.type IN ('array', 'object') THEN json(a.value) WHEN {_BIG} THEN json({_DIGITS}) ELSE a.value END)"
    " FROM json_each(e.args) a)"
)
# the same as signed 64 bits: the value less 2^64, in two parts, since neither fits whole
_SIGNED = (
    f"(CAST(substr({_DIGITS}, 1, length({_DIGITS}) - 9) AS INTEGER) - 18446744073) * 1000000000"
    f" + CAST(substr({_DIGITS}, -9) AS INTEGER) - 709551616"
)


def _arg(name: str) -> str:
    big = f"CASE WHEN length({_DIGITS}) <= 20 THEN {_SIGNED} END"
    return (
        f"(SELECT CASE WHEN {_BIG} THEN {big} ELSE a.value END FROM json_each(e.args) a "
        f"WHERE json_extract(c.arg_names, '$[' || a.key || ']') = '{name}')"
    )


_ITEMS = "json_array_elements(e.args::json) WITH ORDINALITY a(value, n)"
_NAME = "(c.arg_names::json ->> (a.n - 1)::int)"
_NUMBER = "json_typeof(a.value) = 'number'"
_VALUE = "(a.value #>> '{}')::numeric"


def _pg_arg(name: str) -> str:
    signed = f"CASE WHEN {_VALUE} < 2::numeric ^ 63 THEN {_VALUE} ELSE {_VALUE} - 2::numeric ^ 64 END"
    value = f"CASE WHEN {_NUMBER} THEN CASE WHEN {_VALUE} < 2::numeric ^ 64 THEN ({signed})::bigint END END"
    return f"(SELECT {value} FROM {_ITEMS} WHERE {_NAME} = '{name}')"


_JSON = {
    _ARGS: "(SELECT '{' || coalesce(string_agg("
    f"to_json(coalesce({_NAME}, 'arg' || (a.n - 1)))::text || ':' || a.value::text, ',' ORDER BY a.n), '')"
    f" || '}}' FROM {_ITEMS})",
    **{_arg(name): _pg_arg(name) for name in ("addr", "length")},
}

# plain SQL, so that any program can read the views
_ERRNO = (
    "CASE e.errno WHEN 0 THEN NULL "
    + " ".join(f"WHEN {n} THEN '{name}'" for n, name in sorted(errorcode.items()))
    + " END"
)
_PERMS = " || ".join(
    f"CASE WHEN (k.vm_flags & {bit}) <> 0 THEN '{yes}' ELSE '{no}' END"
    for bit, yes, no in ((1, "r", "-"), (2, "w", "-"), (4, "x", "-"), (0x80, "s", "p"))
)

_START = f"CASE WHEN c.name IN ('mmap', 'shmat') AND e.result IS NOT NULL THEN e.result ELSE {_arg('addr')} END"

_TASK = "(SELECT k.{} FROM task_t k WHERE k.task = e.task)"
_TIME = "e.ts + (SELECT t.base_ns FROM trace_t t WHERE t.trace = e.trace)"


def kinds(table: str, alias: str) -> str:
    """SQL: the join that gives rows of `TABLE_t` what is kept once a kind, as k.

    LEFT, since both databases leave out a LEFT JOIN by a key of which no column is wanted.
    """
    return f"LEFT JOIN {table}_kind_t k ON k.replay = {alias}.replay AND k.kind = {alias}.kind"


def _with_kinds(table: str, alias: str) -> str:
    return f"{table}_t {alias} JOIN replay_t r ON r.replay = {alias}.replay {kinds(table, alias)}"


VIEWS: tuple[View, ...] = (
    View(
        "traces",
        "One row a trace.",
        (
            ("trace", "t.trace", "number of the trace"),
            ("name", "t.name", "its name"),
            ("source", "t.source", "path it was read from, or command that was recorded"),
            ("kernel", "t.release", "uname -r of the traced kernel, NULL unknown"),
            ("events", "t.head_seq", "events in it"),
            (
                "address_spaces",
                "(SELECT count(*) FROM address_space_t s WHERE s.trace = t.trace)",
                "address spaces in it",
            ),
            ("created_at", "t.created_at", "UTC time of the import"),
            (
                "first_ts_ns",
                "(SELECT min(e.ts) FROM event_t e WHERE e.trace = t.trace) + t.base_ns",
                "time of the first event, ns since the epoch",
            ),
            (
                "last_ts_ns",
                "(SELECT max(e.ts) FROM event_t e WHERE e.trace = t.trace) + t.base_ns",
                "time of the last event, ns since the epoch",
            ),
        ),
        "trace_t t",
    ),
    View(
        "address_spaces",
        "One row an address space (mm_struct) of a trace.",
        (
            ("trace", "trace", "its trace"),
            ("mm", "mm", "number of the address space within the trace"),
            ("pid", "pid", "process it began with"),
            ("parent_mm", "parent_mm", "the one it was copied from (fork) or replaced (exec)"),
            ("origin", "origin", "exec, fork or attach"),
            ("born_seq", "born_seq", "event that made it"),
            ("died_seq", "died_seq", "event that ended it, NULL: alive at the end"),
        ),
        "address_space_t",
    ),
    View(
        "events",
        "One row an event: what was asked and what the kernel answered.",
        (
            ("trace", "e.trace", "its trace"),
            ("seq", "e.seq", "gap-free number within the trace, from 1"),
            ("mm", "e.mm", "address space, 0: none known"),
            ("pid", _TASK.format("pid"), "the process"),
            ("tid", _TASK.format("tid"), "the thread: the id that the log prints"),
            ("ts_ns", _TIME, "completion time, ns since the epoch"),
            ("call", "c.name", "the kernel's name of the call"),
            ("start", _START, "the range's first byte: the address asked for, or that mmap and shmat gave"),
            ("length", _arg("length"), "the call's length in bytes, NULL if it has none"),
            ("result", "e.result", "return value as signed 64 bits, NULL when it failed"),
            ("errno", _ERRNO, "'ENOMEM' …, NULL when it succeeded"),
            ("args", _ARGS, "JSON object of the arguments by name"),
            (
                "file",
                "(SELECT coalesce(f.path, '#' || f.file) FROM file_t f WHERE f.trace = e.trace AND f.file = e.file)",
                "path of the open file description, or #number",
            ),
            ("injected", "e.injected", "1: strace made the result up, the kernel did nothing"),
            ("site", "(SELECT s.text FROM site_t s WHERE s.site = e.site)", "call site, innermost frame first"),
            ("source_line", "e.line + e.seq", "line of the source, from 1"),
            ("source_offset", "e.source_offset", "byte offset of that line"),
        ),
        "event_t e JOIN call_t c ON c.call = e.call",
    ),
    View(
        "skipped",
        "Input that became no event, counted by reason.",
        (
            ("trace", "trace", "its trace"),
            ("tid", "tid", "thread, NULL none"),
            ("call", "call", "call, NULL none"),
            ("reason", "reason", "no-result, never-resumed, unparsed, …"),
            ("source_line", "source_line", "first line of the kind"),
            ("count", "count", "lines of the kind"),
        ),
        "skip_t",
    ),
    View(
        "replays",
        "One row a stored replay: what made the rows of decisions, outcomes, vmas and lost_merges.",
        (
            ("trace", "r.trace", "its trace"),
            ("replay", "r.replay", "number of the replay"),
            ("kernel", "r.kernel", "rule set"),
            ("options", "r.options", "JSON: fault policy, map limit"),
            ("engine", "r.engine", "version of vmastore, with a digest of what decides outcomes"),
            ("events", "r.events", "events folded; fewer than the trace has: stale"),
            ("peak_seq", "r.peak_seq", "event after which there were most VMAs in one address space"),
            (
                "snapshots",
                "(SELECT count(*) FROM snapshot_t s WHERE s.replay = r.replay)",
                "states kept, from which any moment is reached",
            ),
        ),
        "replay_t r",
    ),
    View(
        "decisions",
        "One row a decision of the merge/split API, under one replay.",
        (
            ("trace", "r.trace", "its trace"),
            ("replay", "d.replay", "its replay"),
            ("seq", "d.seq", "its event"),
            ("n", "d.n", "order within the event, from 1"),
            ("mm", "d.mm", "address space"),
            ("api", "k.api", "function that decided (vma_modify_flags, …)"),
            ("action", "k.action", "merge, split or none"),
            ("vm_start", "d.vm_start", "start of the range asked about"),
            ("vm_end", "d.vm_end", "its end"),
            ("case", 'k."case"', "merge case 1 to 8; for a split, which part is new"),
            ("reason_prev", "k.reason_prev", "first reason why not with the lower neighbour"),
            ("reason_next", "k.reason_next", "first reason why not with the upper neighbour"),
            ("certainty", "CASE k.certain WHEN 1 THEN 'certain' ELSE 'assumed' END", "certain or assumed"),
        ),
        _with_kinds("decision", "d"),
    ),
    View(
        "outcomes",
        "One row an event, under one replay: what merged and split.",
        (
            ("trace", "r.trace", "its trace"),
            ("replay", "o.replay", "its replay"),
            ("seq", "o.seq", "its event"),
            ("mm", "o.mm", "address space"),
            ("kernel", "r.kernel", "rule set of the replay"),
            ("merges", "k.merges", "merges"),
            ("splits", "k.splits", "splits"),
            ("cases", "k.cases", "merge cases and splits in order: '4', '1', 'split+split'"),
            ("map_count", "o.map_count", "VMAs after the event"),
            ("certainty", "CASE k.certain WHEN 1 THEN 'certain' ELSE 'assumed' END", "certain or assumed"),
            ("divergence", "k.divergence", "how replay and kernel answered differently, NULL: they agree"),
        ),
        _with_kinds("outcome", "o"),
    ),
    View(
        "vmas",
        "One row a lifetime of a VMA's state, under one replay.",
        (
            ("trace", "r.trace", "its trace"),
            ("replay", "v.replay", "its replay"),
            ("mm", "v.mm", "address space"),
            ("vm_start", "v.vm_start", "first byte"),
            ("vm_end", "v.vm_end", "first byte behind it"),
            ("perms", _PERMS, "rwxp"),
            ("vm_flags", "k.vm_flags", "kernel flags; flag_names() spells them"),
            ("pgoff", "v.pgoff", "offset in the file, pages"),
            ("path", "k.path", "mapped file, NULL anonymous"),
            ("name", "k.name", "name column of maps"),
            ("born_seq", "v.born_seq", "event that made this state"),
            ("died_seq", "v.died_seq", "event that ended it, NULL: alive"),
        ),
        _with_kinds("vma", "v"),
    ),
    View(
        "lost_merges",
        "Adjacent VMAs that are not one, at the end of their address space or of the replay, with the first reason.",
        (
            ("trace", "r.trace", "its trace"),
            ("replay", "l.replay", "its replay"),
            ("mm", "l.mm", "address space"),
            ("seq", "l.seq", "event after which they stood so"),
            ("left_start", "l.left_start", "start of the lower VMA"),
            ("boundary", "l.boundary", "where the two meet"),
            ("right_end", "l.right_end", "end of the upper VMA"),
            ("reason", "l.reason", "the first reason why they are not one"),
        ),
        "lost_merge_t l JOIN replay_t r ON r.replay = l.replay",
    ),
)
