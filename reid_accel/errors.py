"""The exception for mistakes that a user can fix, and how its message says what the system or a file says."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

LONGEST_MESSAGE = 2000


class InputError(ValueError):
    """A user's input cannot be used; the message names the problem and the remedy.

    The scripts print it as one sentence without a traceback; any other exception is a bug or a machine failure. The
    middle of a message that quotes too much of a file is left out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(shortened(message, LONGEST_MESSAGE))


def shortened(text: object, limit: int = 60) -> str:
    """The text, or its beginning and end if it has more than `limit` characters."""
    text = str(text)
    if len(text) <= limit:
        return text
    end = limit // 3
    return f"{text[: limit - end]} … {text[-end:]}"


def listed(words: Iterable[object], limit: int = 5, longest: int = 60) -> str:
    """The first words, shortened to `longest` characters and printable, and how many more there are."""
    words = list(words)
    shown = [shortened(word if str(word).isprintable() else repr(word), longest) for word in words[:limit]]
    more = f" and {len(words) - limit:,} more" if len(words) > limit else ""
    return ", ".join(shown) + more


_NO_RIGHTS = "change its owner or its permissions, or choose another place"
_FULL = "earlier files are complete: free some space there, or choose another place, and repeat the command"
_GONE = "the device or file server has a problem: check it, and repeat the command"
_REMEDIES = {
    errno.EACCES: _NO_RIGHTS,
    errno.EPERM: _NO_RIGHTS,
    errno.EROFS: "choose a place that can be written to",
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: f"the file system or `ulimit -f` allows no larger files; {_FULL}",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of this path is a file where a folder is expected: rename that file, or choose another path",
    errno.EEXIST: "choose another name, or move what is there away",
    errno.EISDIR: "name a file instead of a folder",
    errno.ENOTEMPTY: "choose another name, or move what is there away",
    errno.ELOOP: "symbolic links lead around in a circle: mend them, or choose another path",
    errno.EMFILE: "raise the limit with `ulimit -n`",
    errno.ENFILE: "end other programs that hold files open",
    errno.ENOMEM: "end other programs, or use a machine with more memory",
    errno.EBUSY: "end the program that uses it, or choose another place",
    errno.EIO: _GONE,
    errno.ESTALE: _GONE,
    errno.ENODEV: _GONE,
    errno.ENXIO: _GONE,
    errno.EINVAL: "choose another file, name or place",
    errno.EXDEV: "choose a place on one file system",
    errno.ENOSYS: "the file system lacks this operation: choose another place",
    errno.ENOTSUP: "the file system lacks this operation: choose another place",
}


def sentence_of(error: OSError | UnicodeEncodeError) -> str:
    """An error of the operating system as one sentence: the path, what is wrong, and the remedy."""
    if isinstance(error, UnicodeEncodeError):
        return (
            f"{error.object!a:.200} cannot be written in the encoding {error.encoding}: rename it, or set the "
            "environment variable PYTHONUTF8=1"
        )
    if error.errno not in _REMEDIES:
        return str(error) or type(error).__name__
    path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
    problem = f"{error.strerror}; {_REMEDIES[error.errno]}"
    return f"{path}: {problem}" if path else problem


@contextmanager
def explaining_os_errors() -> Iterator[None]:
    """Turn the operating system's errors into InputErrors that say what to do; around everything that users start."""
    try:
        yield
    except (OSError, UnicodeEncodeError) as error:
        raise InputError(sentence_of(error)) from error


def first_line(error: BaseException) -> str:
    """What an error says, on one line without the period; its type if it says nothing.

    >>> first_line(ValueError("no.\\nreally")), first_line(AssertionError())
    ('no', 'AssertionError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".")[:300] if lines else type(error).__name__
