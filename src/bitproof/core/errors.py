"""Every error that bitproof raises on purpose.

Each says what was wanted, what came and, for names, what is near. The command line prints a
`BitproofError` in one line and exits with code 2; anything else is a bug and keeps its traceback.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

LONGEST = 100
"""Characters of a value in a message."""
MOST_NAMES = 50
"""Names in a message."""


class BitproofError(Exception):
    """Root of all deliberate errors."""


class SpecError(BitproofError, ValueError):
    """A parameter of a spec has the wrong name, type or range."""


class UnknownKindError(BitproofError, ValueError):
    """A registry holds no component of that kind."""


class RecipeError(BitproofError):
    """A recipe cannot be read, or asks for something impossible."""


class BitWidthError(BitproofError, ValueError):
    """A word width does not fit the stored dtype."""


class InputRangeError(BitproofError, ValueError):
    """Inputs lie outside [0, 1], the range that every model and attack here expects."""


class InputShapeError(BitproofError, ValueError):
    """Inputs have another shape than labels, a network or an attack need."""


class DataError(BitproofError):
    """A data set is missing, truncated or malformed."""


class ChecksumError(DataError):
    """A file is not the one that was published."""


class UnsafeFileError(DataError):
    """A file asks for code to be run; nothing of a user's file is ever executed."""


class WeightsError(BitproofError):
    """Stored weights do not fit the model."""


class ModelError(BitproofError):
    """A model cannot be found or built."""


class TraceError(ModelError):
    """A model cannot be traced into a graph, or holds an operation that cannot be quantized."""


class QuantizationError(BitproofError):
    """A network cannot be quantized."""


class ExchangeError(BitproofError):
    """A file of another format cannot be read, or holds what has no form here."""


class FaultListError(BitproofError):
    """A list of faults is malformed, or names bits that the network does not have."""


class CircuitError(BitproofError):
    """A circuit cannot be read, synthesized or simulated."""


class DivergenceError(BitproofError):
    """Training produced a loss that is not a finite number."""


class StorageError(BitproofError):
    """A file could not be written (full disk, no permission)."""


class ResumeError(BitproofError):
    """A run directory belongs to another recipe, holds none, or is in use."""


class InUseError(ResumeError):
    """Another process works in a run directory."""


class StoppedError(BitproofError):
    """Work was asked to stop before it was done; it can go on where it stopped."""


class WorkerError(BitproofError):
    """Worker processes die again and again."""


class AdapterError(BitproofError):
    """An optional package is not installed."""


class BitproofWarning(UserWarning):
    """Work goes on, with what looks wrong; the command line prints it in one line."""


def near(name: str, known: Iterable[str]) -> str:
    """Return a sentence that helps to correct `name`, given the names that exist.

    Example:
        >>> near("random_flip", ["random_flips", "stuck_at"])
        "Did you mean 'random_flips'?"
        >>> near("zzz", ["b", "a"])
        'Known: a, b.'
    """
    names = sorted(known)
    close = get_close_matches(name[:LONGEST], names, n=1)
    return f"Did you mean {shorten(close[0])}?" if close else f"Known: {first_of(names)}."


def first_of(names: Sequence[str]) -> str:
    """Return names with commas between them; of very many, the first."""
    shown = [one_line(name) for name in names[:MOST_NAMES]]
    more = len(names) - len(shown)
    return ", ".join([*shown, f"and {more} more"] if more else shown)


def shorten(value: object) -> str:
    r"""Return a value as Python writes it, in one line of at most 100 characters, for a message.

    Example:
        >>> shorten("a\n"), shorten(10**5000)
        ("'a\\n'", 'an int that is too large to be shown')
        >>> len(shorten([0.5] * 10**5))
        100
    """
    try:
        return one_line(repr(value))
    except (ValueError, RecursionError):  # thousands of digits, or of lists in each other
        article = "an" if type(value).__name__[0] in "aeiou" else "a"
        return f"{article} {type(value).__name__} that is too large to be shown"


def one_line(text: str, longest: int = LONGEST) -> str:
    r"""Return text with the middle left out where it is long, and what does not print escaped.

    Example:
        >>> one_line("a\tb"), one_line("abcdefghijklmnop", longest=9)
        ('a\\tb', 'abcd...op')
    """
    if len(text) <= longest and text.isprintable():
        return text
    text = text if len(text) <= 2 * longest else text[:longest] + text[-longest:]
    text = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    tail = longest // 4
    return text if len(text) <= longest else f"{text[: longest - 3 - tail]}...{text[-tail:]}"
