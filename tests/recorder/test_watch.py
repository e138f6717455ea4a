"""The live watch over strace's log."""

from __future__ import annotations

from vmastore.recorder.watch import Point, Watch

EXEC = b'7 1795513954.1 execve("/bin/ls", ["ls"], 0x7ff /* 9 vars */) = 0 (DELAYED) <0.0004>\n'


def test_the_launcher_is_left_out_however_the_log_is_cut() -> None:
    """The log proper begins at the second execve, wherever the pieces of the stream end."""
    text = b'7 1.1 execve("/usr/bin/nice", ["nice"], 0x7f) = 0 <0.1>\n7 1.2 brk(NULL) = 0x5000 <0.1>\n' + EXEC
    for cut in range(1, len(text)):
        watch = Watch(launched=False)
        first, _ = watch.feed(text[:cut])
        second, _ = watch.feed(text[cut:])
        assert first + second == EXEC and watch.launched and watch.first_tid == 7


def test_a_successful_exec_is_a_point_and_a_failed_one_is_not() -> None:
    """Only an execve that returned 0, whole or resumed, is one at which a new image can be observed."""
    watch = Watch(launched=True)
    begin, failed = 1_795_513_954_100_000_000, EXEC.replace(b"= 0", b"= -1 ENOENT (No such file or directory)")
    assert watch.feed(EXEC)[1] == [Point("exec", 7, len(EXEC), begin, begin + 400_000)]
    assert watch.feed(failed)[1] == []
    resumed = b"8 1.2 <... execve resumed>) = 0 (DELAYED) <0.1>\n"
    assert watch.feed(resumed[:20])[1] == []
    place = len(EXEC) + len(failed) + len(resumed)
    assert watch.feed(resumed[20:] + b"8 1.3 brk")[1] == [Point("exec", 8, place, 1_100_000_000, 1_200_000_000)]


def test_exit_group_is_a_point_as_soon_as_its_first_half_is_written() -> None:
    """The half line counts, once, and so does an unfinished or a finished one that came as a whole."""
    watch = Watch(launched=True)
    assert watch.feed(b"7 1.1 exit_group(0")[1] == [Point("exit", 7)]
    assert watch.feed(b") = ?\n7 1.2 +++ exited with 0 +++\n")[1] == []
    assert watch.feed(b"8 1.1 exit_group(0 <unfinished ...>\n")[1] == [Point("exit", 8)]
    assert watch.feed(b"9 1.1 exit_group(0) = ?\n")[1] == [Point("exit", 9)]
    assert watch.feed(b"7 1.3 exit_group(1")[1] == [Point("exit", 7)], "the tid belongs to another process now"


def test_calls_in_flight_are_those_begun_and_not_returned() -> None:
    """Unfinished calls are in flight until resumed or until their thread is gone; a half line is the last entry."""
    watch = Watch(launched=True)
    watch.feed(b"7 1.1 mmap(NULL, 4096 <unfinished ...>\n8 1.2 munmap(0x1000, 4096 <unfinished ...>\n9 1.3 mprot")
    assert watch.in_flight == {7: b"mmap", 8: b"munmap"} and watch.last_entry is None
    watch.feed(b"ect(0x1000, 1")
    assert watch.last_entry == (9, b"mprotect")
    watch.feed(b" <unfinished ...>\n7 1.4 <... mmap resumed>) = 0x7f0000\n8 1.5 +++ killed by SIGKILL +++\n")
    assert watch.in_flight == {9: b"mprotect"} and watch.lines == 5


def test_signals_are_counted() -> None:
    """Each thread's receipt of a signal counts; text that looks like it does not."""
    watch = Watch(launched=True)
    watch.feed(b"7 1.1 --- SIGINT {si_signo=SIGINT, si_code=SI_KERNEL} ---\n8 1.2 --- SIGINT {si_signo=SIGINT} ---\n")
    watch.feed(b'7 1.3 openat(AT_FDCWD, "9 1.1 --- SIGINT {", O_RDONLY) = 3 <0.1>\n')
    assert (watch.signals(2), watch.signals(15)) == (2, 0)
