"""A trace as a pytest file: replays its operations and compares the VMAs after each with what is expected."""

from __future__ import annotations

import json
import re

from vmastore.events import Event
from vmastore.events.jsoncodec import event_json, file_json, header_json
from vmastore.replay.maps_text import maps_line
from vmastore.reports.program import Program
from vmastore.version import VERSION

_TEXT = '''"""{title}

Written by vmastore {version}. Needs vmastore; run it with pytest.
"""

import json

import pytest

from vmastore.events import Event
from vmastore.events.jsoncodec import event_from_json, file_from_json, header_from_json
from vmastore.mm.rules import resolve
from vmastore.replay.maps import observed
from vmastore.replay.maps_text import maps_line
from vmastore.replay.world import World

KERNEL = {kernel}
RULES = {rules}  # switches that differ from KERNEL's
HEADER = json.loads({header})
FILES = [json.loads(line) for line in {files}]

# (operation, its answer and errno, the lines of maps after it)
STEPS = [
{steps}]


def rules():
    found = resolve(KERNEL)
    for name, on in RULES.items():
        found = found.with_rule(name, on)
    return found


@pytest.mark.parametrize("count", range(1, len(STEPS) + 1))
def test_{name}(count):
    files = {{info.file: info for info in map(file_from_json, FILES)}}
    world = World(header_from_json(HEADER), files, rules())
    for text, answer, lines in STEPS[:count]:
        event = event_from_json(json.loads(text))
        outcome = world.apply(event)
    assert [outcome.result, outcome.errno] == answer
    number = event.args[1] if event.call == "fork" else event.mm
    assert [maps_line(line).rstrip() for line in observed(world.mms[number])] == lines
'''


def _asked(event: Event) -> Event:
    """A fault is asked for its refused pages, which only one with an answer tells."""
    return event._replace(result=0) if event.call == "fault" else event


def export_pytest(program: Program) -> str:
    """The file's text."""
    steps = []
    for step in program.steps:
        lines = "".join(f"            {maps_line(line).rstrip()!r},\n" for line in step.lines)
        body = f"[\n{lines}        ]" if lines else "[]"
        text, answer = json.dumps(event_json(_asked(step.event))), [step.outcome.result, step.outcome.errno]
        steps.append(f"    (\n        {text!r},\n        {answer},\n        {body},\n    ),\n")
    kernel, *flips = program.rules.name.split(" ")
    return _TEXT.format(
        title=f"{len(program.steps)} operations on VMAs, and what Linux {program.rules.name} makes of them.",
        version=VERSION,
        kernel=repr(kernel),
        rules=repr({flip.split("=")[0]: flip.endswith("=on") for flip in flips}),
        header=repr(json.dumps(header_json(program.header))),
        files=repr([json.dumps(file_json(info)) for _, info in sorted(program.files.items())]),
        steps="".join(steps),
        name=re.sub(r"\W+", "_", program.name).strip("_").lower() or "trace",
    )
