"""Tables that say which entry of a PyTorch state_dict is which variable, and their use both ways.

A table is a list of `Entry`.  `to_variables` and `to_state_dict` read the same table, so that
loading and exporting are exact inverses.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax
import flax.linen as nn
import jax
import numpy as np

from ganseg_jax.errors import UserError

Variables = dict[str, Any]
StateDict = dict[str, np.ndarray]


class Layout(NamedTuple):
    """Says how an array is turned from PyTorch's arrangement into ours and back."""

    load: Callable[[np.ndarray], np.ndarray]
    store: Callable[[np.ndarray], np.ndarray]


PLAIN = Layout(lambda x: x, lambda x: x)
CONV = Layout(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
LINEAR = Layout(lambda x: x.T, lambda x: x.T)
# A 1x1 convolution there, a linear layer here.
POINTWISE = Layout(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])


def then(layout: Layout, load: Callable, store: Callable) -> Layout:
    """Returns `layout` followed by a further change of our array, and its inverse."""
    return Layout(lambda x: load(layout.load(x)), lambda x: layout.store(store(x)))


@dataclass(frozen=True)
class Entry:
    """Describes one entry of a state_dict.

    Attributes:
      key: its name there.
      path: of the variable here, collection first, "/" between names.
      layout: change of arrangement.
      part: (i, n) if the entry is the i-th of n equal parts of the variable's last axis.
    """

    key: str
    path: str
    layout: Layout = PLAIN
    part: tuple[int, int] = (0, 1)

    def cut(self, value: np.ndarray) -> np.ndarray:
        """Returns this entry's share of the variable."""
        index, count = self.part
        size = value.shape[-1] // count
        return value[..., index * size : (index + 1) * size]


def layer(key: str, path: str, layout: Layout, bias: bool = True, part=(0, 1)) -> list[Entry]:
    """Returns the entries of a layer: weight, and bias if there is one."""
    entries = [Entry(f"{key}.weight", f"params/{path}/kernel", layout, part)]
    if bias:
        entries.append(Entry(f"{key}.bias", f"params/{path}/bias", PLAIN, part))
    return entries


def batch_norm(key: str, path: str, affine: bool = True) -> list[Entry]:
    """Returns batch normalisation's entries: statistics, and scale and bias if there are any."""
    entries = [
        Entry(f"{key}.running_mean", f"batch_stats/{path}/mean"),
        Entry(f"{key}.running_var", f"batch_stats/{path}/var"),
    ]
    if affine:
        entries.append(Entry(f"{key}.weight", f"params/{path}/scale"))
        entries.append(Entry(f"{key}.bias", f"params/{path}/bias"))
    return entries


def variable_shapes(module: nn.Module, *example: Any, **arguments: Any) -> Variables:
    """Returns shapes of a module's variables for example inputs, without computing anything."""
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *example, **arguments))


def strip_prefix(state_dict: Mapping[str, Any], *prefixes: str) -> dict[str, Any]:
    """Returns the state_dict with each prefix taken off that every name has."""
    result = dict(state_dict)
    for prefix in prefixes:
        if result and all(key.startswith(prefix) for key in result):
            result = {key.removeprefix(prefix): value for key, value in result.items()}
    return result


def unwrapped(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a state_dict without what wrappers of modules add to its names.

    "module." is of data-parallel training, and taken off where every name has it; "_orig_mod." is
    of compiled modules, anywhere in a name.
    """
    names = {key: key.replace("_orig_mod.", "") for key in state_dict}
    return strip_prefix({names[key]: value for key, value in state_dict.items()}, "module.")


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Turns nested dicts into one dict with "/" between names."""
    return flax.traverse_util.flatten_dict(flax.core.unfreeze(dict(tree)), sep="/")


def required_shape(state_dict: Mapping[str, Any], key: str, what: str) -> tuple[int, ...]:
    """Returns the shape of an entry that settings are read off; UserError if it is missing."""
    if key not in state_dict:
        raise UserError(f"{what}: the checkpoint lacks entry {key!r}")
    shape = np.shape(state_dict[key])
    if not shape:
        raise UserError(f"{what}: entry {key!r} is a single number")
    return tuple(int(n) for n in shape)


def to_variables(
    state_dict: Mapping[str, Any],
    entries: Sequence[Entry],
    shapes: Variables,
    what: str,
    constants: Mapping[str, tuple[int, ...]] | None = None,
    ignored: Callable[[str], bool] = lambda key: False,
) -> Variables:
    """Returns variables filled from a state_dict.

    Args:
      state_dict: names to arrays.
      entries: the table; together they fill every variable exactly.
      shapes: tree of objects with `.shape`, as `variable_shapes` gives.
      what: the network's name, for messages.
      constants: names of entries that carry nothing (grids), with their shapes; they may be absent.
      ignored: whether a further name may be passed over.  `num_batches_tracked` always is.

    Returns:
      Tree of float32 numpy arrays.

    Raises:
      UserError: an entry is missing, unknown, or of another shape; the first is named, with both
        shapes.
    """
    expected = flatten(shapes)
    _check_complete(entries, expected)
    constants = dict(constants or {})
    missing = [entry.key for entry in entries if entry.key not in state_dict]
    if missing:
        raise UserError(f"{what}: the checkpoint lacks {_first(missing)}")
    known = {entry.key for entry in entries} | set(constants)
    extra = [
        key
        for key in state_dict
        if key not in known and not key.endswith("num_batches_tracked") and not ignored(key)
    ]
    if extra:
        raise UserError(f"{what}: the network has no place for {_first(extra)}")
    for key, shape in constants.items():
        if key in state_dict and np.shape(state_dict[key]) != tuple(shape):
            raise _wrong_shape(what, key, np.shape(state_dict[key]), tuple(shape))
    parts: dict[str, list[tuple[int, np.ndarray]]] = {}
    for entry in entries:
        # A view without memory of its own, to learn the shape on PyTorch's side.
        whole = np.broadcast_to(np.float32(0), expected[entry.path].shape)
        wanted = entry.layout.store(entry.cut(whole)).shape
        if np.shape(state_dict[entry.key]) != wanted:
            raise _wrong_shape(what, entry.key, np.shape(state_dict[entry.key]), wanted)
        value = _numbers_of(state_dict[entry.key], entry.key, what)
        parts.setdefault(entry.path, []).append((entry.part[0], entry.layout.load(value)))
    flat = {}
    for path, pieces in parts.items():
        pieces.sort(key=lambda piece: piece[0])
        flat[path] = np.ascontiguousarray(np.concatenate([value for _, value in pieces], axis=-1))
    return flax.traverse_util.unflatten_dict(flat, sep="/")


def to_state_dict(variables: Mapping[str, Any], entries: Sequence[Entry]) -> StateDict:
    """Returns the state_dict that `to_variables` would read these variables from.

    Batch normalisations also get the counter that PyTorch keeps, as zero.
    """
    flat = flatten(variables)
    state_dict = {}
    for entry in entries:
        value = np.asarray(flat[entry.path], np.float32)
        state_dict[entry.key] = np.ascontiguousarray(entry.layout.store(entry.cut(value)))
        if entry.key.endswith(".running_var"):
            counter = entry.key.removesuffix("running_var") + "num_batches_tracked"
            state_dict[counter] = np.zeros((), np.int64)
    return state_dict


def _numbers_of(value: Any, key: str, what: str) -> np.ndarray:
    try:
        return np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise UserError(f"{what}: entry {key!r} holds no numbers") from None


def _check_complete(entries: Iterable[Entry], expected: Mapping[str, Any]) -> None:
    parts: dict[str, list[tuple[int, int]]] = {}
    for entry in entries:
        parts.setdefault(entry.path, []).append(entry.part)
    whole = {
        path
        for path, pieces in parts.items()
        if sorted(pieces) == [(i, len(pieces)) for i in range(len(pieces))]
    }
    wrong = (whole ^ set(expected)) | (set(parts) - whole)
    if wrong:
        raise AssertionError(f"the conversion table does not fit the module at {sorted(wrong)}")


def _first(keys: Sequence[str]) -> str:
    return f"entry {keys[0]!r}" + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")


def _wrong_shape(what: str, key: str, got: tuple[int, ...], wanted: tuple[int, ...]) -> UserError:
    return UserError(f"{what}: entry {key!r} has shape {got}, but the network needs {wanted}")
