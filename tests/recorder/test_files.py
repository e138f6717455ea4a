"""Files of a recording that is stored while it runs."""

from __future__ import annotations

from vmastore.importers.strace import StraceImporter
from vmastore.recorder.files import LiveFiles


def test_a_closed_file_is_given_once_more_and_then_let_go_of() -> None:
    """What is open stays; what is closed comes with the next batch, as it is known by then, and never again."""
    importer = StraceImporter(name="t", source="t", live=True)
    files = LiveFiles(importer)
    importer.feed(b'7 1.0 execve("/bin/x", ["x"], 0x7f) = 0 <0.1>')
    importer.feed(b'7 1.1 openat(AT_FDCWD, "/a", O_RDONLY) = 3</a> <0.1>')
    importer.feed(b'7 1.2 openat(AT_FDCWD, "/b", O_RDONLY) = 4</b> <0.1>')
    files.settle()
    assert [info.path for info in files[0:]] == ["/a", "/b"]
    described = len(files)
    files.forget()
    importer.feed(b"7 1.3 close(3</a>) = 0 <0.1>")
    importer.files[0] = importer.files[0]._replace(inode=5)
    importer.feed(b'7 1.4 openat(AT_FDCWD, "/c", O_RDONLY) = 3</c> <0.1>')
    importer.feed(b"7 1.5 close(3</c>) = 0 <0.1>")
    files.settle()
    assert [(info.path, info.inode) for info in files[described:]] == [("/a", 5), ("/c", None)]
    described = len(files)
    files.forget()
    assert [info.path for info in files] == ["/b"] and len(files) == 3
    importer.feed(b"7 1.6 close(4</b>) = 0 <0.1>")
    importer.feed(b'7 1.7 openat(AT_FDCWD, "/d", O_RDONLY) = 3</d> <0.1>')
    files.settle()
    assert [info.path for info in files[described:]] == ["/b", "/d"] and files[3].path == "/d"


def test_what_a_fork_holds_open_stays() -> None:
    """The parent has closed it, the child has not."""
    importer = StraceImporter(name="t", source="t", live=True)
    files = LiveFiles(importer)
    importer.feed(b'7 1.0 execve("/bin/x", ["x"], 0x7f) = 0 <0.1>')
    importer.feed(b'7 1.1 openat(AT_FDCWD, "/a", O_RDONLY) = 3</a> <0.1>')
    importer.feed(b"7 1.2 fork() = 8 <0.1>")
    importer.feed(b"7 1.3 close(3</a>) = 0 <0.1>")
    files.settle()
    files.forget()
    assert [info.path for info in files] == ["/a"]
    importer.feed(b"8 1.4 +++ exited with 0 +++")
    files.settle()
    files.forget()
    assert list(files) == []
