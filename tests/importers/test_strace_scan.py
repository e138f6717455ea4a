"""Cutting a call's text into arguments and result."""

from __future__ import annotations

import pytest

from vmastore.importers.strace.scan import Unparsed, parse_result, split_call, split_list, string, without_comments

CALLS = [
    (b"NULL, 4096, PROT_READ) = 0", [b"NULL", b"4096", b"PROT_READ"]),
    (b")                      = 0", []),
    (b'"a, b) = 3, \\"c", 0600) = 3', [b'"a, b) = 3, \\"c"', b"0600"]),
    (b"3</opt/we ird (x) = 3, name.bin>, 0) = 0", [b"3</opt/we ird (x) = 3, name.bin>", b"0"]),
    (b"4</memfd:x\\74y\\76z, (1) = 3>(deleted), 0) = 0", [b"4</memfd:x\\74y\\76z, (1) = 3>(deleted)", b"0"]),
    (b"3</dev/zero<char 1:5>>, 1) = 0", [b"3</dev/zero<char 1:5>>", b"1"]),
    (b"3<TCP:[127.0.0.1:5->127.0.0.1:8]>, 1) = 0", [b"3<TCP:[127.0.0.1:5->127.0.0.1:8]>", b"1"]),
    (b'3<UNIX-STREAM:[12->34, "/run/a, b"]>, 1) = 0', [b'3<UNIX-STREAM:[12->34, "/run/a, b"]>', b"1"]),
    (b"7<a->, 1) = 0", [b"7<a->", b"1"]),
    (b"-100 /* AT_FDCWD */</tmp/a, b>, 1) = 0", [b"-100 /* AT_FDCWD */</tmp/a, b>", b"1"]),
    (b"0x28 /* 0x8 /* MAP_??? */|MAP_A, B */, 1) = 0", [b"0x28 /* 0x8 /* MAP_??? */|MAP_A, B */", b"1"]),
    (b"NULL, MAP_HUGETLB|21<<MAP_HUGE_SHIFT, -1) = 0", [b"NULL", b"MAP_HUGETLB|21<<MAP_HUGE_SHIFT", b"-1"]),
    (b"{a=[1, 2], b=f(3, 4)}, 88) = 6", [b"{a=[1, 2], b=f(3, 4)}", b"88"]),
]


@pytest.mark.parametrize(("text", "tokens"), CALLS, ids=[text.decode()[:30] for text, _ in CALLS])
def test_arguments_are_cut_along_strings_brackets_and_decorations(text: bytes, tokens: list[bytes]) -> None:
    """A comma or parenthesis inside of a string, path, comment or struct separates nothing."""
    found, rest = split_call(text)
    assert found == tokens
    assert rest.strip().startswith(b"= ")


@pytest.mark.parametrize("text", [b"1, 2", b'"a) = 0', b"[1) = 0", b"1] = 0", b""])
def test_a_call_without_its_end_is_refused(text: bytes) -> None:
    """A missing parenthesis, an open string or a wrong bracket is Unparsed, not a guess."""
    with pytest.raises(Unparsed):
        split_call(text)


RESULTS = [
    (b"           = 0", (0, 0, False, b"", None)),
    (b" = 0x7f0619cfc000", (0x7F0619CFC000, 0, False, b"", None)),
    (b" = -1 ENOMEM (Cannot allocate memory) <0.000050>", (-1, 12, False, b"", 50_000)),
    (b" = -1 ENOSYS", (-1, 38, False, b"", None)),
    (b" = -1 (errno 524)", (-1, 524, False, b"", None)),
    (b" = ?", (None, 0, False, b"", None)),
    (b" = ? ERESTARTSYS (To be restarted if SA_RESTART is set)", (None, 0, False, b"", None)),
    (b" = ? ERESTART_RESTARTBLOCK (Interrupted by signal)", (None, 0, False, b"", None)),
    (b" = ? <unavailable>", (None, 0, False, b"", None)),
    (b" = -1 ENOMEM (Cannot allocate memory) (INJECTED)", (-1, 12, True, b"", None)),
    (b" = 0 (INJECTED: args, retval) <0.000000500>", (0, 0, True, b"", 500)),
    (b" = 0 (DELAYED)", (0, 0, False, b"", None)),
    (b" = 0x440000 (PER_LINUX|ADDR_NO_RANDOMIZE)", (0x440000, 0, False, b"", None)),
    (b" = 6355<p_fork>", (6355, 0, False, b"p_fork", None)),
    (b' = 4</memfd:mem \\"q\\" fd>(deleted) <0.000009>', (4, 0, False, b'/memfd:mem \\"q\\" fd', 9_000)),
    (b" = 3</a> = 7, (b)>", (3, 0, False, b"/a> = 7, (b)", None)),
    (b" = 7 /* 31764 in strace's PID NS */", (31764, 0, False, b"", None)),
    (b" = 0x1 (flags FD_CLOEXEC) <2>", (1, 0, False, b"", 2 * 10**9)),
]


@pytest.mark.parametrize(("text", "result"), RESULTS, ids=[text.decode().strip() for text, _ in RESULTS])
def test_result(text: bytes, result: tuple[object, ...]) -> None:
    """Every form of a result gives its value, errno, injection, decoration and duration."""
    assert tuple(parse_result(text)) == result


@pytest.mark.parametrize(
    "text", [b"", b" = ", b" = x", b" = 0 0", b" = 99999999999999999999", b" = -1 EWHAT (?)", b"x = 0"]
)
def test_what_is_no_result_is_refused(text: bytes) -> None:
    """Anything behind a call but a result is Unparsed, also a number beyond 64 bits."""
    with pytest.raises(Unparsed):
        parse_result(text)


def test_strings_are_unescaped() -> None:
    r"""Octal, hexadecimal and letter escapes are undone; bytes that are no text stay readable."""
    assert string(rb'"a\tb\x41\101\"\\\n"') == 'a\tbAA"\\\n'
    assert string(b'"cut"...') == "cut"
    assert string(b"NULL") is None
    assert string(rb'"\377"') == "\\xff"


def test_comments_go_with_what_they_nest() -> None:
    """A comment inside of a comment does not end the outer one."""
    assert without_comments(b"0x28 /* 0x8 /* MAP_??? */|MAP_ANONYMOUS */") == b"0x28"
    assert without_comments(b"0xf /* MAP_??? */|MAP_FIXED") == b"0xf|MAP_FIXED"


def test_a_list_that_cannot_be_cut_is_cut_at_its_commas() -> None:
    """The arguments of an entry half come apart even where a bracket is missing."""
    assert split_list(b"a, {b, c}") == [b"a", b"{b, c}"]
    assert split_list(b"a, {b, c") == [b"a", b"{b", b"c"]
    assert split_list(b"") == []
