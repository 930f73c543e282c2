"""Scales by brute force, from section 3 of docs/format.md.

The search of the C code leaves most scales out for reasons that are proved
beside it. Here every bfloat16 number within two octaves of amax / 448 is
tried: in binary64 first, and exactly, in integers of any size, where that
leaves a choice. Needs numpy.
"""

import numpy as np

OCTAVES = 2
MANTISSAS = 128  # bfloat16 numbers in an octave
LEAST_NORMAL = 0x0080
LARGEST = 0x7F7F


def bf16_value(bits):
    return (np.asarray(bits, np.uint32) << np.uint32(16)).view(np.float32)


def nearest_e4m3(quotients):
    """Value of the nearest e4m3fn number to non-negative quotients, ties to
    even: multiples of 2^(exponent - 3), and of 2^-9 below 2^-6."""
    quotients = np.minimum(quotients, np.float32(448)).astype(np.float64)
    exponents = np.frexp(quotients)[1]  # one more than usual
    steps = np.ldexp(1.0, np.maximum(exponents - 1, -6) - 3)
    return np.rint(quotients / steps) * steps


def differences(magnitudes, scales):
    """w - s q(w / s) of each magnitude for each scale, exact in binary64."""
    w, s = magnitudes[:, None], scales[None, :]
    return w.astype(np.float64) - s.astype(np.float64) * nearest_e4m3(w / s)


def finite(amax, scales):
    """Whether a code times its scale, in binary32, is finite for all of a
    block's weights: larger weights have larger codes."""
    codes = nearest_e4m3(amax / scales).astype(np.float32)
    with np.errstate(over="ignore"):
        return np.isfinite(codes * scales)


def squared_errors(magnitudes, counts, scales):
    """sum of counts * (w - s q(w / s))^2 for each of the scales."""
    errors = np.zeros(len(scales))
    for i in range(0, len(magnitudes), 64):  # so that it stays in the caches
        off = differences(magnitudes[i:i + 64], scales)
        errors += counts[i:i + 64] @ (off * off)
    return errors


def exact_sum(off, counts):
    """sum of counts * off^2 as a fraction's numerator over 2^700: every
    difference of a weight and a code times a scale is a multiple of 2^-350
    that binary64 holds."""
    total = 0
    for value, count in zip(off.tolist(), counts.tolist()):
        over, under = value.as_integer_ratio()
        total += count * (over * ((1 << 350) // under)) ** 2
    return total


def candidates(amax):
    """Bits of all normal bfloat16 numbers within two octaves of amax / 448
    under which no weight becomes infinite."""
    middle = int(np.float32(amax / 448).view(np.uint32)) >> 16
    first = max(middle - OCTAVES * MANTISSAS, LEAST_NORMAL)
    last = min(middle + 1 + OCTAVES * MANTISSAS, LARGEST)
    bits = np.arange(first, max(last, LEAST_NORMAL + MANTISSAS) + 1)
    return bits[finite(np.float32(amax), bf16_value(bits))]


def best_scale(block):
    """Bits of the bfloat16 scale of least squared error for a block of
    float32 weights that are not all zero; the smallest where several are."""
    magnitudes, counts = np.unique(np.abs(block), return_counts=True)
    bits = candidates(float(magnitudes[-1]))
    scales = bf16_value(bits)
    errors = squared_errors(magnitudes, counts, scales)
    near = np.flatnonzero(errors <= errors.min() * (1 + 1e-9))
    if len(near) > 1:
        off = differences(magnitudes, scales[near])
        exact = [exact_sum(column, counts) for column in off.T]
        near = near[[i for i, e in enumerate(exact) if e == min(exact)]]
    return int(bits[near[0]])


def power_of_two(amax):
    """Least normal power of two that is at least amax / 448, or the one below
    it where that makes an infinity of amax."""
    fraction, exponent = np.frexp(np.float64(np.float32(amax)
                                             / np.float32(448)))
    exponent -= fraction == 0.5
    scale = np.float32(np.ldexp(1.0, max(int(exponent), -126)))
    return scale if finite(np.float32(amax), scale) else scale / np.float32(2)
