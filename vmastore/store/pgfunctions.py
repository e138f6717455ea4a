"""The SQL functions of a store in PostgreSQL: made by every migration, so that any client has them.

Scalars (hex_addr, addr, perms, flag_names), names to numbers (trace_of, replay_of, seq_of, peak_of), and the
tables that take arguments (vmas_at, vma_diff, vma_history, vmas_between).
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from vmastore.mm.flags import LETTERS, VM_EXEC, VM_MAYSHARE, VM_READ, VM_WRITE
from vmastore.store.moments import COLUMNS, FUNCTIONS, SCALARS, SHOWN, alive, differing, held, overlapped

REFUSED = "VM001"  # SQLSTATE of what these functions refuse: message and hint are for the user
ENGINE = "vmastore.engine"  # setting of a session: whose derived data is not stale

_TEXTS = {"change", "perms", "path", "name"}


class _Function(NamedTuple):
    """head: name and argument types, which tell it from others; arguments: with defaults; body: up to its end."""

    head: str
    arguments: str
    body: str

    @property
    def name(self) -> str:
        return self.head.partition("(")[0]


def functions() -> list[str]:
    """Statements that make all of them, after `dropping`, behind the tables that they read."""
    made = [f"CREATE FUNCTION {f.name}({f.arguments}) {f.body}" for f in _all()]
    told = {name: f"{function.comment}" for name, function in FUNCTIONS.items()}
    told |= {name: text for names, text in SCALARS.items() for name in _names(names)}
    quoted = {f.head: told[f.name].replace("'", "''") for f in _all() if f.name in told}
    return made + [f"COMMENT ON FUNCTION {head} IS '{text}'" for head, text in quoted.items()]


def dropping() -> list[str]:
    """Statements that drop them where they are: what a function returns cannot be replaced."""
    return [f"DROP FUNCTION IF EXISTS {function.head}" for function in reversed(_all())]


def _names(heads: str) -> list[str]:
    """The names in "hex_addr(n), addr(text)"."""
    return [part.rpartition(" ")[2] for part in heads.split("(")[:-1]]


def _all() -> list[_Function]:
    return [*_scalars(), *_resolving(), *_tables()]


# -- numbers as text ---------------------------------------------------------------------------------


def _scalars() -> list[_Function]:
    letter = "CASE WHEN ($1 & {0}) <> 0 THEN '{1}' ELSE '{2}' END".format
    perms = " || ".join(
        letter(bit, yes, no)
        for bit, yes, no in ((VM_READ, "r", "-"), (VM_WRITE, "w", "-"), (VM_EXEC, "x", "-"), (VM_MAYSHARE, "s", "p"))
    )
    names = ", ".join(f"CASE WHEN ($1 & {bit}) <> 0 THEN '{letters}' END" for bit, letters in LETTERS)
    hexadecimal = "('x' || lpad(substr($1, 3), 16, '0'))::bit(64)::bigint"
    decimal = "(CASE WHEN $1::numeric >= 2::numeric ^ 63 THEN $1::numeric - 2::numeric ^ 64 ELSE $1::numeric END)"
    addr = f"CASE WHEN lower(left($1, 2)) = '0x' THEN {hexadecimal} ELSE {decimal}::bigint END"
    bodies = (
        ("hex_addr", "bigint", "text", "'0x' || to_hex($1)"),
        ("addr", "text", "bigint", addr),
        ("addr", "bigint", "bigint", "$1"),
        ("perms", "bigint", "text", perms),
        ("flag_names", "bigint", "text", f"concat_ws(' ', {names})"),
    )
    return [
        _Function(f"{name}({takes})", takes, f"RETURNS {gives} LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT {body} $$")
        for name, takes, gives, body in bodies
    ]


# -- names to numbers --------------------------------------------------------------------------------

_TRACE = """
DECLARE found bigint;
BEGIN
  SELECT t.trace INTO found FROM trace_t t WHERE t.name = $1;
  IF found IS NULL THEN
    SELECT t.trace INTO found FROM trace_t t WHERE t.trace::text = $1;
  END IF;
  IF found IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = '{refused}', MESSAGE = 'no trace ' || quote_nullable($1),
      HINT = '`vmastore traces` lists them';
  END IF;
  RETURN found;
END"""
_SEQ = """
DECLARE
  last bigint := (SELECT t.head_seq FROM trace_t t WHERE t.trace = trace_of($1));
  found bigint := CASE WHEN $2 < 0 THEN $2 + last + 1 ELSE $2 END;
BEGIN
  IF found IS NULL OR found < 0 OR found > last THEN
    RAISE EXCEPTION USING ERRCODE = '{refused}', MESSAGE =
      format('trace %s has events 1 to %s, no event %s', quote_nullable($1), last, coalesce($2::text, 'NULL'));
  END IF;
  RETURN found;
END"""
# without a session's engine (psql) only what covers too few events is stale
_REPLAY = """
DECLARE
  wanted bigint := trace_of($1);
  ours text := nullif(current_setting('{engine}', true), '');
  called text := quote_nullable($1) || coalesce(' under ' || $2, '');
  best record;
BEGIN
  SELECT r.replay, r.engine, r.events, t.head_seq,
      (ours IS NULL OR r.engine = ours) AND r.events = t.head_seq AS fresh
    INTO best FROM replay_t r JOIN trace_t t ON t.trace = r.trace
    WHERE r.trace = wanted AND ($2 IS NULL OR r.kernel = $2) ORDER BY fresh DESC, r.replay DESC LIMIT 1;
  IF best.fresh THEN
    RETURN best.replay;
  END IF;
  RAISE EXCEPTION USING ERRCODE = '{refused}',
    MESSAGE = CASE
      WHEN best.replay IS NULL THEN format('no replay of %s is stored', called)
      WHEN best.engine <> ours
        THEN format('the replay of %s is stale: vmastore %s made it, this is %s', called, best.engine, ours)
      ELSE format('the replay of %s is stale: it covers %s of %s events', called, best.events, best.head_seq)
    END,
    HINT = format('`vmastore replay %s%s --summary` stores one', $1, coalesce(' --kernel ' || $2, ''));
END"""
_PEAK = """
BEGIN
  RETURN (SELECT coalesce(r.peak_seq, 0) FROM replay_t r WHERE r.replay = replay_of($1));
END"""


def _resolving() -> list[_Function]:
    """Each for a trace by name, and by number. Their cost keeps the planner from asking them once a row."""
    found = []
    for name, rest, body in (
        ("trace_of", "", _TRACE),
        ("seq_of", ", bigint", _SEQ),
        ("replay_of", ", text DEFAULT NULL", _REPLAY),
        ("peak_of", "", _PEAK),
    ):
        text = body.replace("{refused}", REFUSED).replace("{engine}", ENGINE)
        plain = rest.removesuffix(" DEFAULT NULL")
        found.append(
            _Function(
                f"{name}(text{plain})",
                f"text{rest}",
                f"RETURNS bigint LANGUAGE plpgsql STABLE COST 100000 AS $$ #variable_conflict use_column{text} $$",
            )
        )
        passed = "$1::text, $2" if rest else "$1::text"
        found.append(
            _Function(
                f"{name}(bigint{plain})",
                f"bigint{rest}",
                f"RETURNS bigint LANGUAGE sql STABLE COST 100000 AS $$ SELECT {name}({passed}) $$",
            )
        )
    return found


# -- tables that take arguments ----------------------------------------------------------------------


class _Table(NamedTuple):
    """takes: the types of its arguments between trace and kernel, `address` for text or bigint."""

    name: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    declares: str
    select: str


_BY_TRACE = "of_replay bigint := replay_of($1, ${});"


def _table_functions() -> tuple[_Table, ...]:
    one_moment = "at_seq bigint := seq_of($1, $2); " + _BY_TRACE.format(3)
    two_moments = "a_seq bigint := seq_of($1, $2); b_seq bigint := seq_of($1, $3); " + _BY_TRACE.format(4)
    range_of_time = "a_seq bigint := seq_of($1, $4); b_seq bigint := seq_of($1, $5); " + _BY_TRACE.format(6)
    return (
        _Table("vmas_at", ("bigint",), COLUMNS, one_moment, alive("of_replay", "at_seq")),
        _Table(
            "vma_diff",
            ("bigint", "bigint"),
            ("change", *SHOWN),
            two_moments,
            differing("of_replay", "a_seq", "b_seq"),
        ),
        _Table("vma_history", ("address",), COLUMNS, _BY_TRACE.format(3), held("of_replay", "$2")),
        _Table(
            "vmas_between",
            ("address", "address", "bigint", "bigint"),
            COLUMNS,
            range_of_time,
            overlapped("of_replay", "$2", "$3", "a_seq", "b_seq"),
        ),
    )


def _tables() -> list[_Function]:
    """Each under all types that a trace and an address may be given as; one does the work, the rest pass on."""
    found = []
    for table in _table_functions():
        gives = ", ".join(f'"{name}" {"text" if name in _TEXTS else "bigint"}' for name in table.gives)
        kinds = [("text", "bigint"), *(("bigint", "text") if t == "address" else ("bigint",) for t in table.takes)]
        for types in product(*kinds):
            plain = ("text", *("bigint" for _ in table.takes))
            if types == plain:
                language, cost = "plpgsql", "ROWS 1000"
                body = (
                    f"#variable_conflict use_column\nDECLARE {table.declares}\n"
                    f"BEGIN\n  RETURN QUERY {table.select};\nEND"
                )
            else:
                language, cost = "sql", "ROWS 1000"
                body = f"SELECT * FROM {table.name}({_passed(types)})"
            given = ", ".join(types)
            found.append(
                _Function(
                    f"{table.name}({given}, text)",
                    f"{given}, text DEFAULT NULL",
                    f"RETURNS TABLE ({gives}) LANGUAGE {language} STABLE {cost} AS $$ {body} $$",
                )
            )
    return found


def _passed(types: tuple[str, ...]) -> str:
    """The arguments of one variant as the one that does the work takes them."""
    first = "$1" if types[0] == "text" else "$1::text"
    rest = (f"addr(${n})" if kind == "text" else f"${n}" for n, kind in enumerate(types[1:], 2))
    return ", ".join((first, *rest, f"${len(types) + 1}"))
