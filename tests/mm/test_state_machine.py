"""Random calls on the engine and on a naive page-array model agree after every step."""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from machine import BASE, PAGES, PRESETS, FaultingMachine, LimitedMachine, Machine
from planted import never_reuses, unwritten, wrong_flags, wrong_half, wrong_pgoff
from random_walk import Walk

from vmastore.mm import mm

CI = settings(max_examples=40, stateful_step_count=30, deadline=None, derandomize=True)


def run(machine: type[Machine], kernel: str, config: settings = CI) -> None:
    run_state_machine_as_test(type(machine.__name__, (machine,), {"kernel": kernel}), settings=config)


@pytest.mark.parametrize("kernel", PRESETS)
def test_unwritten_memory_is_exactly_the_runs_of_equal_pages(kernel: str) -> None:
    """Over all calls and presets, as long as nothing is written, the VMA list is the runs of equal pages."""
    run(Machine, kernel)


@pytest.mark.parametrize("kernel", PRESETS)
def test_written_memory_merges_as_the_kernel_says(kernel: str) -> None:
    """With write faults and forks, every VMA, every answer and every shared anon_vma is the model's."""
    run(FaultingMachine, kernel)


@pytest.mark.parametrize("kernel", PRESETS)
def test_calls_that_run_into_the_map_limit_are_half_done_as_the_kernel_says(kernel: str) -> None:
    """With room for nine VMAs, what is refused, with which errno, and what has happened by then, are the model's."""
    run(LimitedMachine, kernel)


WALKS = 60


def walk(machine: type[Machine], kernel: str, flipped: str = "") -> None:
    bound = type(machine.__name__, (machine,), {"kernel": kernel, "flipped": flipped})
    for seed in range(WALKS):
        Walk(seed, BASE, PAGES).run(bound(), 100)


@pytest.mark.parametrize("machine", [Machine, FaultingMachine, LimitedMachine])
@pytest.mark.parametrize("kernel", PRESETS)
def test_long_walks_agree(kernel: str, machine: type[Machine]) -> None:
    """The same holds over thousands of calls that keep coming back to the same places."""
    walk(machine, kernel)


PLANTED = {
    "flags": (Machine, wrong_half(wrong_flags)),
    "pgoff": (Machine, wrong_half(wrong_pgoff)),
    "anon_vma": (FaultingMachine, wrong_half(unwritten)),
    "reuse": (FaultingMachine, never_reuses),
}


@pytest.mark.parametrize("bug", PLANTED)
@pytest.mark.skipif(not mm.__file__.endswith(".py"), reason="nothing can be planted in what is compiled")
def test_the_machine_can_fail(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted bug is found: in the flags, the offset or the writing of a split half, in sharing an anon_vma."""
    machine, plant = PLANTED[bug]
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        run(machine, "6.18", settings(CI, phases=[Phase.generate]))
        walk(machine, "6.18")


# switches that 60 walks notice, each way round on 6.12
NOTICED = [
    "anon-merge-source-chain",
    "mmap-merge-new-range",
    "close-only-removed",
    "uffd-merge-needs-event-remap",
    "map-stack-nohugepage",
    "map-droppable",
    "ksm-new-maps-merge",
    "mprotect-drops-account",
    "guard-install",
    "mremap-checks-first",
    "dontunmap-no-self-merge",
    "dontunmap-resets-pgoff",
    "dontunmap-clears-account",
    "mremap-map-count-early",
]


@pytest.mark.parametrize("switch", NOTICED)
def test_a_switch_the_wrong_way_round_is_noticed(switch: str) -> None:
    """An engine whose rules differ from 6.12 in one switch does not agree with the model of 6.12."""
    with pytest.raises(AssertionError):
        walk(FaultingMachine, "6.12", switch)
        walk(LimitedMachine, "6.12", switch)
