"""What a pickle of weights would cost, found out without loading it.

Model:  PyTorch loads numbers and containers only, so no code runs. But a pickle of fifty bytes may
        ask for a gigabyte of zeros (`bytearray(10**9)`), or hold tuples of tuples that stand for
        2**60 items, which never end once one is the key of a table. Its instructions are followed
        here with sizes in place of objects.
Source: https://docs.python.org/3/library/pickletools.html.
"""

import io
import pickletools
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from bitproof.core.errors import UnsafeFileError
from bitproof.data.npz import check_zip

MOST_ITEMS = 10_000
"""Items that a tuple may stand for, those of tuples in it included; a tensor has some 20."""
COSTLY = frozenset({"bytearray", "encode"})
"""Functions that make much of little: zeros, and texts of texts of texts."""
ENCODE = "_codecs encode"
"""How pickles write bytes: a call with a text that stands in the pickle, and `latin1`."""
PICKLES = 5
"""Pickles in a file that is no zip: magic, version, machine, weights, names of storages."""
_MARK = -1


def check_pickles(content: bytes, path: Path) -> None:
    """Refuse a file of PyTorch if loading it could take any time or memory.

    Raises:
        UnsafeFileError: it could.
        ValueError, LookupError, BadZipFile: it is damaged.
    """
    file = io.BytesIO(content)
    if not content.startswith(b"PK\x03\x04"):
        for _ in range(PICKLES):
            check_pickle(file, path)
        return
    entries = check_zip(file, path, problem=UnsafeFileError)
    with ZipFile(file) as archive:
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                with archive.open(entry) as member:  # `archive.read` believes no size
                    check_pickle(io.BytesIO(member.read(entry.file_size)), path)


def check_pickle(file: io.BytesIO, path: Path) -> None:
    """Follow one pickle up to its end, and refuse it as above.

    Example:
        >>> import pickle
        >>> check_pickle(io.BytesIO(pickle.dumps({"weight": (1, b"2")}, protocol=2)), Path("w.pt"))
    """
    machine = _Machine(path)
    for opcode, argument, place in pickletools.genops(file):
        machine.follow(opcode, argument, place or 0)


class _Encode:
    """Stands for the function that makes bytes of a text."""


_Item = int | str | tuple[str, str] | _Encode
"""What lies on the stack: a number of items, a text, two texts, or that function."""


class _Machine:
    """What unpickles, with sizes in place of objects."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stack: list[_Item] = []
        self.memo: dict[int, _Item] = {}
        self.encoded = 0
        """Bytes that were made of texts."""

    def follow(self, opcode: pickletools.OpcodeInfo, argument: Any, place: int) -> None:
        """Do what an instruction at a place of the file does."""
        name, stack, memo = opcode.name, self.stack, self.memo
        if name in {"GLOBAL", "INST"} and f"{argument}".split()[-1] in COSTLY:
            if (name, argument) != ("GLOBAL", ENCODE):
                raise self.refused(f"calls '{argument}'")
            stack.append(_Encode())
        elif name in {"BINGET", "LONG_BINGET", "GET"}:
            stack.append(memo[int(argument or 0)])
        elif name in {"BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"}:
            memo[len(memo) if argument is None else int(argument)] = stack[-1]
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "BINUNICODE":
            stack.append(f"{argument}")
        else:
            made = _MARK if name == "MARK" else self.made(name, _taken(opcode, stack), place)
            stack += [made] * len(opcode.stack_after)

    def made(self, name: str, taken: list["_Item"], place: int) -> "_Item":
        """Return what an instruction makes of what it takes."""
        if any(isinstance(item, _Encode) for item in taken):
            self.encode(name, taken, place)
        if not name.startswith("TUPLE"):
            return 1
        if (size := 1 + sum(map(_size, taken))) > MOST_ITEMS:
            raise UnsafeFileError(f"{self.path}: holds a tuple of over {MOST_ITEMS:,} items")
        match taken:
            case [str(first), str(second)] if name == "TUPLE2":
                return first, second
        return size

    def encode(self, name: str, taken: list["_Item"], place: int) -> None:
        """Allow a call that makes bytes of a text, if the text stands there for that."""
        match taken:
            case [_Encode(), (str(text), "latin1")] if name == "REDUCE":
                self.encoded += len(text)
            case _:
                raise self.refused(f"calls '{ENCODE}' on more than a text and 'latin1'")
        if self.encoded > 2 * place:
            raise self.refused(f"calls '{ENCODE}' on one text again and again")

    def refused(self, why: str) -> UnsafeFileError:
        """Return the error that refuses the file."""
        return UnsafeFileError(
            f"{self.path}: {why}, which weights have no use for; save model.state_dict() instead"
        )


def _size(item: _Item) -> int:
    return item if isinstance(item, int) else 3 if isinstance(item, tuple) else 1


def _taken(opcode: pickletools.OpcodeInfo, stack: list[_Item]) -> list[_Item]:
    """Take from the stack what an instruction does; return that."""
    before = opcode.stack_before
    n_items = len(before)
    start = len(stack) - n_items
    if pickletools.markobject in before:
        n_items = before.index(pickletools.markobject)
        mark = len(stack) - 1 - stack[::-1].index(_MARK)
        start = mark - n_items
        del stack[mark]
    if start < 0:
        raise IndexError(f"{opcode.name} finds too little")
    taken = stack[start:]
    del stack[start:]
    return taken
