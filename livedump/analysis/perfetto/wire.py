"""Protocol-buffer messages by the thousand: one field after the other, of all messages at once.

numpy has no strings of bytes that grow, but whole numbers of eight bytes: a :class:`Word` holds up
to eight bytes of each message, the first in the lowest place, and a piece of messages is a list of
words. A message at a time, as the protobuf library makes them, takes some ten times as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

VARINT, BYTES = 0, 2

#: Bytes of a word; bits of a number in them, seven a byte.
_WORD, _BITS = 8, 56


@dataclass(frozen=True)
class Word:
    """Some bytes of each of many messages.

    :ivar data: uint64, one for each message, or one for all; what is behind the bytes is 0
    :ivar size: uint64, the same: how many bytes there are, at most 8
    :ivar most: the largest of the sizes
    """

    data: Any
    size: Any
    most: int


Piece = list[Word]


def tag(number: int, wire_type: int) -> bytes:
    """What stands before a field of this number."""
    left, out = number << 3 | wire_type, bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left])


def constant(data: bytes) -> Piece:
    """The same bytes, at most 8, in each message."""
    import numpy

    value = int.from_bytes(data, "little")
    return [Word(numpy.uint64(value), numpy.uint64(len(data)), len(data))]


def varint(values: Any) -> Piece:
    """Whole numbers, at least 0: seven bits a byte, the lowest first.

    :param values: uint64, one for each message, or one for all
    """
    import numpy

    most = max((int(values.max(initial=0)).bit_length() + 6) // 7, 1)
    if most == 1:
        return [Word(values, numpy.uint64(1), 1)]
    sizes = numpy.ones_like(values)
    for size in range(1, most):
        sizes += (values >= numpy.uint64(1 << 7 * size)).astype("u8")
    if most <= _WORD:
        return [Word(_spread(values, most) | _more()[sizes], sizes, most)]
    low, low_sizes = values & numpy.uint64((1 << _BITS) - 1), numpy.minimum(sizes, _WORD)
    high, high_sizes = values >> numpy.uint64(_BITS), sizes - low_sizes
    return [
        Word(_spread(low, _WORD) | _more()[sizes], low_sizes, _WORD),
        Word(_spread(high, most - _WORD) | _more()[high_sizes], high_sizes, most - _WORD),
    ]


def number(field: int, values: Any) -> Piece:
    """A field that is a whole number."""
    return join(constant(tag(field, VARINT)), varint(values))


def message(field: int, inside: Piece) -> Piece:
    """A field that is a message."""
    sizes = sum(word.size for word in inside)
    return join(constant(tag(field, BYTES)), varint(sizes), inside)


def join(*pieces: Piece) -> Piece:
    """One behind the other, in as few words as they are sure to fit into."""
    import numpy

    first, *rest = [word for piece in pieces for word in piece]
    found = [first]
    for word in rest:
        last = found[-1]
        if last.most + word.most <= _WORD:
            data = last.data | word.data << (last.size * numpy.uint64(8))
            found[-1] = Word(data, last.size + word.size, last.most + word.most)
        else:
            found.append(word)
    return found


def only(which: Any, piece: Piece) -> Piece:
    """*piece* in those messages alone for which *which* (bool, one for each) is true."""
    return [Word(word.data * which, word.size * which, word.most) for word in piece]


def flat(piece: Piece) -> bytes:
    """All messages, one behind the other."""
    import numpy

    shape = (max(word.size.size for word in piece), len(piece))
    data, there = numpy.empty(shape, "<u8"), numpy.empty(shape, "<u8")
    for place, word in enumerate(piece):
        data[:, place] = word.data
        there[:, place] = _there()[word.size]
    whole: bytes = data.view("u1")[there.view(bool)].tobytes()
    return whole


def _spread(values: Any, most: int) -> Any:
    """Numbers of *most* times seven bits, at most 56, seven of them in each byte."""
    import numpy

    for bits, shift in ((28, 4), (14, 2), (7, 1)):
        if 7 * most > bits:
            low = sum(((1 << bits) - 1) << at for at in range(0, 64, 2 * (bits + shift)))
            upper = values & numpy.uint64(low << bits)
            values = values & numpy.uint64(low) | upper << numpy.uint64(shift)
    return values


@cache
def _more() -> Any:
    """Of each size of a number, 0 to 10: the bits in its first eight bytes that say "more"."""
    import numpy

    bits = [sum(0x80 << 8 * place for place in range(min(size - 1, _WORD))) for size in range(11)]
    return numpy.array(bits, "u8")


@cache
def _there() -> Any:
    """Of each size of a word: 1 in every byte that is there."""
    import numpy

    return numpy.array([sum(1 << 8 * at for at in range(size)) for size in range(9)], "u8")
