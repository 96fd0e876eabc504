"""Is the file at a path still the one that was there before?"""

from __future__ import annotations

import os

from stream.errors import LogCorrupt, LogUnavailable


class SameFile:
    """Remembers which file lies at `path` from the first time one does.

    A file that was deleted or replaced takes writes without a word, and nobody ever reads them.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._known: tuple[int, int] | None = None

    def check(self) -> None:
        """See that it is the same one still; nothing where none was seen yet. Costs a microsecond or two.

        Raises:
            LogUnavailable: nothing lies there any more; retriable, it may be put back.
            LogCorrupt: another file does.
        """
        try:
            found = os.stat(self.path)
        except OSError as error:
            if self._known is None:
                return
            raise LogUnavailable(
                f"{self.path}: deleted or moved while in use ({error.strerror}); put it back, or stop this process"
            ) from error
        here = (found.st_dev, found.st_ino)
        if self._known is None:
            self._known = here
        if here != self._known:
            raise LogCorrupt(f"{self.path}: another file was put there while in use; start this process again")
