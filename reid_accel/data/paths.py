"""The paths of a million files in little memory.

Legend: N files.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt


class Paths(Sequence[Path]):
    """Paths that are made when they are asked for, from the names of their folders and files.

    >>> [path.as_posix() for path in Paths.of([Path("a/1.jpg"), Path("b/2.jpg")]).select(np.array([1]))]
    ['b/2.jpg']
    """

    def __init__(self, folders: Sequence[str], folder_N: npt.NDArray[np.int32], name_N: tuple[str, ...]) -> None:
        self._folders, self._folder_N, self._name_N = folders, folder_N, name_N

    @classmethod
    def of(cls, paths: Iterable[Path], known_names: Sequence[str] = ()) -> "Paths":
        """These paths. known_names: strings in memory, which are used where a file's name is the same."""
        number_of: dict[str, int] = {}
        folders: list[int] = []
        names: list[str] = []
        for row, path in enumerate(paths):
            folder, name = os.path.split(path)
            folders.append(number_of.setdefault(folder, len(number_of)))
            names.append(known_names[row] if row < len(known_names) and known_names[row] == name else name)
        return cls(tuple(number_of), np.array(folders, np.int32), tuple(names))

    def select(self, indices: npt.NDArray[np.int64]) -> "Paths":
        """The paths at the given positions, in that order."""
        return Paths(self._folders, self._folder_N[indices], tuple(self._name_N[index] for index in indices))

    def __len__(self) -> int:
        return len(self._name_N)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> "Paths": ...
    def __getitem__(self, index: int | slice) -> "Path | Paths":
        if isinstance(index, slice):
            return Paths(self._folders, self._folder_N[index], self._name_N[index])
        return Path(self._folders[self._folder_N[index]], self._name_N[index])

    def __iter__(self) -> Iterator[Path]:
        return (self[index] for index in range(len(self)))
