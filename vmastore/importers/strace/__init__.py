"""strace logs of any shape and version.

`Lexer`, `lex`, `Line` and `Kind` are a lexer of strace output on its own; `StraceImporter` makes
events of lines as they come; `StraceReader` reads files.
"""

from vmastore.importers.strace.importer import StraceImporter
from vmastore.importers.strace.lexer import Clock, Kind, Lexer, Line, lex
from vmastore.importers.strace.reader import StraceReader

__all__ = ["Clock", "Kind", "Lexer", "Line", "StraceImporter", "StraceReader", "lex"]
