"""Sums of floating-point numbers that do not depend on the order of what is added.

After Demmel and Nguyen, "Fast Reproducible Floating-Point Summation" (ARITH 2013): every number is cut into pieces
that are whole multiples of quanta chosen from the largest number of its group; sums of pieces are exact. Here the
pieces are integers, so that a group may be summed in parts, in any order and over any split.
"""

from typing import Final

import numpy as np

#: Bits per piece. Two pieces hold 72 bits below the group's largest number: a float64 that is up to 2^19 times
#: smaller is held whole. An int64 can add 2^27 of them.
_BITS: Final = 36


def exponents(largest: np.ndarray) -> np.ndarray:
    """Per group, the exponent e with |every number| <= 2^e, from the largest magnitude in it."""
    return np.frexp(largest)[1]


def pieces(values: np.ndarray, exponent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each value as two integers: value = (high 2^-36 + low 2^-72) 2^exponent, the rest below cut off."""
    scaled = np.ldexp(values, _BITS - exponent)
    high = np.rint(scaled)
    scaled -= high
    scaled *= 2.0**_BITS
    return high.astype("int64"), np.rint(scaled, out=scaled).astype("int64")


def total(high: np.ndarray, low: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """The sum of a group from the sums of its pieces; beyond the range of float64, its last finite number."""
    with np.errstate(over="ignore"):
        result = np.ldexp(high + low * 2.0**-_BITS, exponent - _BITS)
    return np.nan_to_num(result)


def mean(high: np.ndarray, low: np.ndarray, exponent: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The mean of a group from the sums of its pieces. The mean of up to 2^17 equal numbers is that number."""
    # Dividing each piece by itself leaves equal numbers whole; dividing their sum would round twice.
    return np.ldexp(high / count + low / count * 2.0**-_BITS, exponent - _BITS)
