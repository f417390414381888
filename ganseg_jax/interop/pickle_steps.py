"""Looks through the steps of a pickle before any is taken."""

import io
import pickletools

from ganseg_jax.interop.pickle_parts import Refused

_OPCODES = frozenset(
    """PROTO FRAME STOP MARK GLOBAL STACK_GLOBAL REDUCE BUILD NEWOBJ BINPERSID
    NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT
    BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINSTRING SHORT_BINSTRING
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    EMPTY_DICT SETITEM SETITEMS EMPTY_LIST APPEND APPENDS EMPTY_SET ADDITEMS
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET""".split()
)

_MARK, _DEEPEST = -1, 64


def check(stream: io.BytesIO) -> None:
    """Looks at every step of a pickle before any is taken.

    Python's own reader makes room for any place that an object is to be kept at, and computes the
    hash of tuples inside tuples, however many, on the stack.

    Raises:
      Refused: a step is none of those that weights need.
      Exception: the pickle is damaged.
    """
    kept: dict[int, int] = {}
    stack: list[int] = []  # For each object, how many tuples lie one inside the other.
    for steps, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        name, before = opcode.name, opcode.stack_before
        if name not in _OPCODES:
            raise Refused(f"is no pickle of weights (it uses {name})")
        if "PUT" in name or name == "MEMOIZE":
            place = len(kept) if argument is None else argument
            if place > steps:
                raise Refused("is a damaged pickle")
            kept[place] = stack[-1]
            continue
        depth, single = 0, len(before)
        if pickletools.markobject in before:
            single = before.index(pickletools.markobject)
            while (inner := stack.pop()) != _MARK:
                depth = max(depth, inner)
        for _ in range(single):
            depth = max(depth, stack.pop())
        if "GET" in name:
            depth = kept[int(argument or 0)]
        elif name == "MARK":
            depth = _MARK
        elif "TUPLE" in name:
            depth += 1
        elif name not in ("REDUCE", "NEWOBJ", "BUILD"):
            depth = 0  # What these give may be a tuple that they were given.
        if depth > _DEEPEST:
            raise Refused("is a damaged pickle")
        stack += [depth] * len(opcode.stack_after)
