"""The shipped queries: one for each question that users ask and SQL answers. `vmastore sql NAME` runs one."""

from __future__ import annotations

from typing import NamedTuple


class Query(NamedTuple):
    """A saved query: the question that it answers, its SELECT, its parameters with what they mean.

    defaults: parameters that need not be given; `trace` may be left out where the store has one trace.
    postgresql: the SELECT there, where SQLite's is not understood or slow.
    """

    question: str
    sql: str
    parameters: dict[str, str] = {}
    defaults: dict[str, object] = {}
    postgresql: str | None = None


_TRACE = {"trace": "name or number of the trace"}
_LIMIT: dict[str, object] = {"limit": 20}
_MOMENT = {**_TRACE, "seq": "the event; else the one after which there were most VMAs"}
_PEAK: dict[str, object] = {"seq": None}
_ALIVE = "vmas_at(:trace, coalesce(:seq, peak_of(:trace)))"

LIBRARY: dict[str, Query] = {
    "causes": Query(
        "What used up my mappings: which calls made the VMAs (at the peak, or after an event)?",
        f"""SELECT e.call, count(*) AS vmas, sum(v.vm_end - v.vm_start) AS bytes, min(v.born_seq) AS first_seq
FROM {_ALIVE} v CROSS JOIN events e WHERE e.trace = v.trace AND e.seq = v.born_seq
GROUP BY e.call ORDER BY vmas DESC""",
        _MOMENT,
        _PEAK,
    ),
    "sites": Query(
        "Which call sites own the VMAs (at the peak, or after an event)?",
        f"""SELECT e.site, e.call, count(*) AS vmas, sum(v.vm_end - v.vm_start) AS bytes
FROM {_ALIVE} v CROSS JOIN events e WHERE e.trace = v.trace AND e.seq = v.born_seq
GROUP BY e.site, e.call ORDER BY vmas DESC LIMIT :limit""",
        _MOMENT,
        {**_PEAK, **_LIMIT},
    ),
    "density": Query(
        "How many bytes does a VMA hold, by file and permissions?",
        f"""SELECT coalesce(nullif(name, ''), '(anonymous)') AS name, perms, count(*) AS vmas,
  sum(vm_end - vm_start) AS bytes, CAST(sum(vm_end - vm_start) AS BIGINT) / count(*) AS bytes_a_vma
FROM {_ALIVE} v GROUP BY 1, 2 ORDER BY vmas DESC LIMIT :limit""",
        _MOMENT,
        {**_PEAK, **_LIMIT},
    ),
    "first-failure": Query(
        "Which call failed first with an errno (ENOMEM), and how many VMAs were there then?",
        """SELECT e.seq, e.call, hex_addr(e.start) AS start, e.length, e.errno,
  (SELECT o.map_count FROM outcomes o WHERE o.replay = replay_of(:trace) AND o.seq = e.seq) AS map_count,
  e.site, e.source_line
FROM events e WHERE e.trace = trace_of(:trace) AND e.errno = :errno ORDER BY e.seq LIMIT :limit""",
        {**_TRACE, "errno": "its name"},
        {"errno": "ENOMEM", "limit": 1},
    ),
    "failures": Query(
        "Which calls fail, and how?",
        """SELECT call, errno, count(*) AS events, min(seq) AS first_seq FROM events
WHERE trace = trace_of(:trace) AND errno IS NOT NULL GROUP BY call, errno ORDER BY events DESC""",
        _TRACE,
    ),
    "calls": Query(
        "Which calls are there, how many of each, and how many fail?",
        """SELECT call, count(*) AS events, count(errno) AS failed FROM events
WHERE trace = trace_of(:trace) GROUP BY call ORDER BY events DESC""",
        _TRACE,
    ),
    "peak": Query(
        "When were there most VMAs, in each address space?",
        """SELECT mm, max(map_count) AS map_count, seq FROM outcomes
WHERE replay = replay_of(:trace) GROUP BY mm ORDER BY map_count DESC LIMIT :limit""",
        _TRACE,
        _LIMIT,
        """SELECT mm, most[1] AS map_count, -most[2] AS seq
FROM (SELECT mm, max(ARRAY[map_count, -seq]) AS most FROM outcomes WHERE replay = replay_of(:trace) GROUP BY mm) m
ORDER BY map_count DESC LIMIT :limit""",
    ),
    "growth": Query(
        "How does the number of VMAs go up and down over the trace?",
        """SELECT mm, min(seq) AS from_seq, max(seq) AS to_seq, min(map_count) AS least, max(map_count) AS most
FROM outcomes WHERE replay = replay_of(:trace) GROUP BY mm, seq / :every ORDER BY from_seq""",
        {**_TRACE, "every": "events a line"},
        {"every": 1000},
    ),
    "near-limit": Query(
        "When did the VMAs first reach a share of vm.max_map_count?",
        """SELECT mm, min(seq) AS seq, map_count FROM outcomes
WHERE replay = replay_of(:trace) AND map_count * 100 >= :limit * :percent GROUP BY mm""",
        {**_TRACE, "limit": "vm.max_map_count", "percent": "the share"},
        {"limit": 65530, "percent": 90},
        """SELECT mm, least[1] AS seq, least[2] AS map_count
FROM (SELECT mm, min(ARRAY[seq, map_count]) AS least FROM outcomes
  WHERE replay = replay_of(:trace) AND map_count * 100 >= :limit * :percent GROUP BY mm) m""",
    ),
    "splits": Query(
        "Which kinds of call split VMAs, and which merge them again?",
        """SELECT e.call, sum(o.splits) AS splits, sum(o.merges) AS merges, sum(o.splits - o.merges) AS net
FROM outcomes o JOIN events e ON e.trace = o.trace AND e.seq = o.seq
WHERE o.replay = replay_of(:trace) AND (o.splits > 0 OR o.merges > 0) GROUP BY e.call ORDER BY splits DESC""",
        _TRACE,
    ),
    "cases": Query(
        "Which merge cases occur, how often, and where first?",
        """SELECT cases, count(*) AS events, min(seq) AS first_seq FROM outcomes
WHERE replay = replay_of(:trace) AND cases <> '' GROUP BY cases ORDER BY events DESC""",
        _TRACE,
    ),
    "lost": Query(
        "Why are adjacent VMAs not one: how many VMAs does each reason cost?",
        """SELECT reason, count(*) AS vmas, min(hex_addr(boundary)) AS at FROM lost_merges
WHERE replay = replay_of(:trace) GROUP BY reason ORDER BY vmas DESC""",
        _TRACE,
    ),
    "lost-pairs": Query(
        "Which adjacent VMAs are not one for a reason (names, pgoff, flags, anon_vma …)?",
        """SELECT mm, hex_addr(left_start) AS left_start, hex_addr(boundary) AS boundary,
  hex_addr(right_end) AS right_end, reason FROM lost_merges
WHERE replay = replay_of(:trace) AND reason LIKE '%' || :reason || '%' ORDER BY mm, boundary LIMIT :limit""",
        {**_TRACE, "reason": "a word of it"},
        {"reason": "", "limit": 100},
    ),
    "refused": Query(
        "Why was nothing merged: how often was each reason the first, below and above?",
        """SELECT coalesce(reason_prev, '(merged)') AS below, coalesce(reason_next, '(merged)') AS above,
  count(*) AS decisions FROM decisions WHERE replay = replay_of(:trace) AND action <> 'split'
GROUP BY reason_prev, reason_next ORDER BY decisions DESC LIMIT :limit""",
        _TRACE,
        _LIMIT,
    ),
    "who": Query(
        "Who made, changed, split or removed the mapping at an address?",
        """SELECT h.mm, hex_addr(h.vm_start) AS vm_start, hex_addr(h.vm_end) AS vm_end, h.perms, h.name,
  h.born_seq, b.call AS made_by, h.died_seq,
  (SELECT d.call FROM events d WHERE d.trace = h.trace AND d.seq = h.died_seq) AS ended_by,
  (SELECT d.site FROM events d WHERE d.trace = h.trace AND d.seq = h.died_seq) AS ended_at
FROM vma_history(:trace, :addr) h CROSS JOIN events b
WHERE b.trace = h.trace AND b.seq = h.born_seq
ORDER BY h.born_seq LIMIT :limit""",
        {**_TRACE, "addr": "the address"},
        {"limit": 1000},
    ),
    "layout": Query(
        "What did the address space look like at its peak, or after an event?",
        f"""SELECT mm, hex_addr(vm_start) AS vm_start, hex_addr(vm_end) AS vm_end, perms, pgoff, name, born_seq
FROM {_ALIVE} v ORDER BY +v.mm, v.vm_start < 0, v.vm_start""",  # + keeps SQLite from the index of all lifetimes
        _MOMENT,
        _PEAK,
    ),
    "changes": Query(
        "What is not the same after two events?",
        """SELECT change, mm, hex_addr(vm_start) AS vm_start, hex_addr(vm_end) AS vm_end, perms, name
FROM vma_diff(:trace, :a, :b) d ORDER BY mm, d.vm_start < 0, d.vm_start, change DESC""",
        {**_TRACE, "a": "an event", "b": "another, -1: the last"},
        {"a": 0, "b": -1},
    ),
    "between": Query(
        "Which VMAs overlapped a range of addresses during a range of events?",
        """SELECT mm, hex_addr(vm_start) AS vm_start, hex_addr(vm_end) AS vm_end, perms, name, born_seq, died_seq
FROM vmas_between(:trace, :low, :high, :first, :last) ORDER BY born_seq LIMIT :limit""",
        {**_TRACE, "low": "first byte", "high": "first byte behind", "first": "an event", "last": "another"},
        {"first": 0, "last": -1, "limit": 1000},
    ),
    "flagged": Query(
        "Which VMAs have a flag of smaps (nh, hg, mg, wf …), and which calls made them so?",
        f"""SELECT e.call, count(*) AS vmas, min(v.born_seq) AS first_seq
FROM {_ALIVE} v CROSS JOIN events e
WHERE e.trace = v.trace AND e.seq = v.born_seq
  AND ' ' || flag_names(v.vm_flags) || ' ' LIKE '% ' || :flag || ' %' GROUP BY e.call ORDER BY vmas DESC""",
        {**_MOMENT, "flag": "two letters, as in smaps"},
        _PEAK,
    ),
    "short-lived": Query(
        "Which calls make VMAs that do not last?",
        """SELECT e.call, count(*) AS vmas, avg(v.died_seq - v.born_seq) AS events_alive
FROM vmas v JOIN events e ON e.trace = v.trace AND e.seq = v.born_seq
WHERE v.replay = replay_of(:trace) AND v.died_seq - v.born_seq <= :events GROUP BY e.call
ORDER BY vmas DESC""",
        {**_TRACE, "events": "most events that it lasts"},
        {"events": 10},
    ),
    "kernels-differ": Query(
        "Which events do two stored replays, of two kernels, decide differently?",
        """SELECT a.seq, a.cases, b.cases AS cases_against, a.map_count, b.map_count AS map_count_against
FROM outcomes a JOIN outcomes b ON b.seq = a.seq
WHERE a.replay = replay_of(:trace, :kernel) AND b.replay = replay_of(:trace, :against)
  AND (a.cases <> b.cases OR a.map_count <> b.map_count) ORDER BY a.seq LIMIT :limit""",
        {**_TRACE, "kernel": "name of a rule set whose replay is stored", "against": "another"},
        _LIMIT,
    ),
    "doubts": Query(
        "Which outcomes hang on what the trace does not show, or are not what the kernel answered?",
        """SELECT seq, mm, cases, map_count, certainty, divergence FROM outcomes
WHERE replay = replay_of(:trace) AND (certainty = 'assumed' OR divergence IS NOT NULL) ORDER BY seq LIMIT :limit""",
        _TRACE,
        {"limit": 100},
    ),
    "left-out": Query(
        "What of the input became no event?",
        """SELECT reason, call, sum(count) AS lines, min(source_line) AS first_line FROM skipped
WHERE trace = trace_of(:trace) GROUP BY reason, call ORDER BY lines DESC""",
        _TRACE,
    ),
}
