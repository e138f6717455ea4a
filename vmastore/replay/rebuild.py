"""Making all derived data again."""

from __future__ import annotations

import json

from vmastore.mm.rules import RuleSet, resolve
from vmastore.replay.derive import derive
from vmastore.replay.trace import StoredTrace
from vmastore.store import Store
from vmastore.store.chunks import drop_all
from vmastore.store.derived import remake_spaces, replays


def rules_named(name: str) -> RuleSet:
    """The rule set that a stored replay's name says: `6.18 anon-merge-source-chain=off`."""
    kernel, *flips = name.split(" ")
    rules = resolve(kernel)
    for flip in flips:
        switch, _, state = flip.partition("=")
        rules = rules.with_rule(switch, state == "on")
    return rules


def rebuild(store: Store) -> int:
    """Make every replay again with the same rules and options, the address spaces and the packed chunks of events.

    Returns how many replays.
    Each is replaced when its turn comes: one that is interrupted leaves the others, and what is half made is
    known to be stale.
    """
    drop_all(store)
    remake_spaces(store)
    known = replays(store)
    for trace, kernel, options in known:
        stored = StoredTrace(store, store.trace(trace))
        derive(stored, rules_named(kernel), **json.loads(options))
    return len(known)
