"""Reading the text of a predicate, with the column for every error."""

from __future__ import annotations

import re

from vmastore.errors import InputError

HINT = "for example: map_count > 1000, split_at 0x7f0000001000, not errno ENOMEM, bytes writable >= 2G"
WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_SPACE = re.compile(r"\s*")


class Reader:
    """A place in a text, and what can be read there."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        self.skip()
        return self.at >= len(self.text)

    def skip(self) -> None:
        """Pass over white space."""
        found = _SPACE.match(self.text, self.at)
        assert found is not None  # it matches nothing at all, too
        self.at = found.end()

    def take(self, pattern: re.Pattern[str]) -> str | None:
        """What matches here, read."""
        self.skip()
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def sign(self, text: str) -> bool:
        """Whether `text` stands here; read if it does."""
        self.skip()
        if not self.text.startswith(text, self.at):
            return False
        self.at += len(text)
        return True

    def keyword(self, word: str) -> bool:
        """Whether this word stands here, whole; read if it does."""
        start = self.at
        if self.take(WORD) == word:
            return True
        self.at = start
        return False

    def here(self) -> str:
        """What stands here, for an error."""
        self.skip()
        return self.text[self.at :].split()[0][:40] if not self.ended else "the end"

    def error(self, what: str, at: int | None = None, hint: str = HINT) -> InputError:
        """An error at a column (from 1): here, or where `at` says."""
        if at is None:
            self.skip()
            at = self.at
            if self.ended:
                what = f"it ends too early: {what.partition(': ')[2] or what}"
        return InputError(f"predicate {self.text!r}, column {at + 1}: {what}", hint=hint)
