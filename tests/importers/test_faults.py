"""Page fault records of perf and ftrace, and the clocks they come in."""

from __future__ import annotations

import pytest

from vmastore.importers.faults import ClockMap, Fault, FaultReader, Locked, Lost, parse_line

KERNEL_WRITE = (
    b"23799/23799  5380.656612597: exceptions:page_fault_kernel: address=0x5567df1fc424 ip=elf_load error_code=0x2"
)
USER_FETCH = (
    b"python3 my thread 24987 [001]  5593.432683:   exceptions:page_fault_user: "
    b"address=0x7f10b0b69b70 ip=0x7f10b0b69b70 error_code=0x14"
)
FTRACE = (
    b"            bash-24980   [001] d....  5622.035427: page_fault_user: "
    b"address=0x5558b17f4ae0 ip=0x55587daab3d2 error_code=0x7"
)
SOFTWARE = b"24987/24990 1795514326.644943410: page-faults:u:     7f9960bc8b70"
SOFTWARE_WITH_IP = (
    b" true 24987 1795514326.644943:   1 page-faults:u:   7f9960be1e06   7f9960bc97ad _dl_start+0x3d (/ld.so)"
)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (KERNEL_WRITE, Fault(5_380_656_612_597, 23799, 23799, 0x5567DF1FC424, "w", "kernel")),
        (USER_FETCH, Fault(5_593_432_683_000, None, 24987, 0x7F10B0B69B70, "r", "user")),
        (FTRACE, Fault(5_622_035_427_000, None, 24980, 0x5558B17F4AE0, "w", "user")),
        (SOFTWARE, Fault(1_795_514_326_644_943_410, 24987, 24990, 0x7F9960BC8B70, None, "user")),
        (SOFTWARE_WITH_IP, Fault(1_795_514_326_644_943_000, None, 24987, 0x7F9960BE1E06, None, "user")),
    ],
    ids=["perf", "perf-comm", "ftrace", "software", "software-ip"],
)
def test_each_form_of_fault_is_read(line: bytes, fault: Fault) -> None:
    """perf script's and ftrace's lines give time in ns, thread, address and, where it is told, the access."""
    assert parse_line(line) == fault


@pytest.mark.parametrize(
    "line",
    [
        b"# tracer: nop",
        b"",
        b"\xff\x00 not text",
        b"true 24987 17955.644947:          1 page-faults:u:      7f9960bc97ad _dl_start+0x3d (/ld.so)",
        b"1/1 5.5: exceptions:page_fault_kernel: address=0xffffffff81000000 ip=x error_code=0x0",
    ],
    ids=["comment", "empty", "binary", "ip-only", "kernel-address"],
)
def test_what_is_no_fault_is_none(line: bytes) -> None:
    """Comments, foreign text, an instruction's address and kernel addresses are no faults."""
    assert parse_line(line) is None


def test_a_lock_for_writing_is_read_and_one_for_reading_is_not() -> None:
    """mmap_lock_acquire_returned counts when the lock was taken, and taken for writing."""
    taken = b"7/9  5380.5: mmap_lock:mmap_lock_acquire_returned: mm=0xffff memcg_id=1 write=true success=true"
    assert parse_line(taken) == Locked(5_380_500_000_000, 7, 9)
    assert parse_line(taken.replace(b"write=true", b"write=false")) is None
    assert parse_line(taken.replace(b"success=true", b"success=false")) is None


def test_losses_are_counted() -> None:
    """Lost records of perf and of ftrace are summed, and blind events noticed."""
    assert parse_line(b" python3 7 [001]  5380.66: PERF_RECORD_LOST lost 2333") == Lost(2333)
    reader = FaultReader([KERNEL_WRITE, b"x 1 5.5: PERF_RECORD_LOST lost 3", b"CPU:1 [LOST 4 EVENTS]", b"# end"])
    assert [fault.addr for fault in reader if isinstance(fault, Fault)] == [0x5567DF1FC424]
    assert (reader.lost, reader.other, reader.blind) == (7, 1, False)
    blind = FaultReader([SOFTWARE])
    assert len(list(blind)) == 1 and blind.blind


def test_a_clock_is_interpolated_between_its_readings() -> None:
    """Offsets move linearly between two readings and stay outside of them."""
    clock = ClockMap([(1000, 5000), (2000, 6100)])
    assert [clock(time) for time in (0, 1000, 1500, 2000, 3000)] == [4000, 5000, 5550, 6100, 7100]
    assert clock.drift_ns == 100
    assert ClockMap()(123) == 123
