"""Text files that users and other programs wrote: read with a limit, in the encodings that they have."""

from contextlib import suppress
from pathlib import Path

from reid_accel.errors import InputError
from reid_accel.files import open_regular

CHINESE = "gb18030"  # includes GB 2312 and GBK


def read_user_text(path: Path, largest_bytes: int, encodings: tuple[str, ...] = ("utf-8-sig",)) -> str:
    """The text of a file in the first of the encodings that fits; a byte order mark is left out.

    Raises InputError if it is unreadable, larger, or in none of the encodings.
    """
    try:
        with open_regular(path) as file:
            content = file.read(largest_bytes + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > largest_bytes:
        raise InputError(f"{path} has more than {largest_bytes >> 20} MB: is it the right file?")
    for encoding in encodings:
        with suppress(UnicodeDecodeError):
            return content.decode(encoding)
    raise InputError(f"{path} is not UTF-8 text: save it as UTF-8")
