"""The order of a data set's records, held on disk while they are written."""

import contextlib
import tempfile
from collections.abc import Iterator
from unittest import mock

from tensorflow_datasets.core import hashing, shuffle


class DiskShuffler:
    """Sorts records by the hash of their key, as TFDS does, with the records in a file.

    TFDS keeps up to 1 GiB of them in memory, and needs TensorFlow for more.  Its arguments and
    methods are those of `shuffle.Shuffler`.
    """

    def __init__(
        self,
        dirpath,
        hash_salt: str | bytes,
        disable_shuffling: bool = False,
        ignore_duplicates: bool = False,
    ):
        if disable_shuffling or ignore_duplicates:
            raise ValueError("records are always shuffled, and keys are used once")
        self._hasher = hashing.Hasher(hash_salt)
        self._file = tempfile.TemporaryFile(dir=dirpath)  # It has no name, so nothing can be left.
        self._places: list[tuple[int, int, int]] = []
        self.size = 0

    @property
    def num_examples(self) -> int:
        """Returns how many records there are."""
        return len(self._places)

    @property
    def bucket_lengths(self) -> list[int]:
        """Returns the same, as the length of the only bucket."""
        return [len(self._places)]

    def add(self, key: int | bytes | str, data: bytes) -> None:
        """Adds a record."""
        self._places.append((self._hasher.hash_key(key), self.size, len(data)))
        self._file.write(data)
        self.size += len(data)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        before = None
        with self._file:
            for hashed, start, length in sorted(self._places):
                self._file.seek(start)
                data = self._file.read(length)
                if hashed == before:
                    raise shuffle.DuplicatedKeysError(data, data)
                before = hashed
                yield hashed, data


@contextlib.contextmanager
def on_disk() -> Iterator[None]:
    """Has TFDS shuffle on disk within the block."""
    with mock.patch.object(shuffle, "Shuffler", DiskShuffler):
        yield
