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
from zipfile import ZipFile

from bitproof.core.errors import UnsafeFileError
from bitproof.data.npz import check_zip

MOST_ITEMS = 10_000
"""Items that a tuple may stand for, those of tuples in it included; a tensor has some 20."""
COSTLY = frozenset({"bytearray", "encode"})
"""Functions that make much of little: zeros, and texts of texts of texts."""
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
        >>> check_pickle(io.BytesIO(pickle.dumps({"weight": (1, 2)}, protocol=2)), Path("w.pt"))
    """
    stack: list[int] = []
    memo: dict[int, int] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name in {"GLOBAL", "INST"} and f"{argument}".split()[-1] in COSTLY:
            raise UnsafeFileError(
                f"{path}: calls '{argument}', which weights have no use for; save "
                "model.state_dict() instead"
            )
        if name in {"BINGET", "LONG_BINGET", "GET"}:
            stack.append(memo[int(argument or 0)])
        elif name in {"BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"}:
            memo[len(memo) if argument is None else int(argument)] = stack[-1]
        elif name == "DUP":
            stack.append(stack[-1])
        else:
            taken = _taken(opcode, stack)
            size = 1 + sum(taken) if name.startswith("TUPLE") else 1
            if size > MOST_ITEMS:
                raise UnsafeFileError(f"{path}: holds a tuple of over {MOST_ITEMS:,} items")
            stack += [_MARK if name == "MARK" else size] * len(opcode.stack_after)


def _taken(opcode: pickletools.OpcodeInfo, stack: list[int]) -> list[int]:
    """Take from the stack what an instruction does; return the sizes of that."""
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
