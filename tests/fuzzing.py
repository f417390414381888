"""Mutations of valid files, for tests that readers answer any file with success or one line."""

import numpy as np

_EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**40, 2**63 - 1, 2**64 - 1]


def mutations(data, count, seed):
    """Yields `count` damaged copies of a file's bytes: bits, bytes, sizes, parts moved or lost."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        result = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            result = _mutated(result, rng)
        yield bytes(result)


def _mutated(data, rng):
    if not data:
        return data
    at = int(rng.integers(len(data)))
    end = at + int(rng.integers(1, 64))
    kind = rng.integers(7)
    if kind == 0:
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        data[at] = int(rng.integers(256))
    elif kind == 2:
        size = int(rng.choice([1, 2, 4, 8]))
        value = int(rng.choice(len(_EXTREMES)))
        data[at : at + size] = (_EXTREMES[value] % 2 ** (8 * size)).to_bytes(size, "little")
    elif kind == 3:
        del data[at:end]
    elif kind == 4:
        data[at:at] = data[at:end]
    elif kind == 5:
        data[at:at] = rng.bytes(int(rng.integers(1, 16)))
    else:
        del data[at:]
    return data
