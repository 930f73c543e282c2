#!/usr/bin/env python3
"""Makes tests/golden/arith: expected codes and scales, computed by PyTorch.

    make_golden.py DIR

Every cast in these files is PyTorch's own (CPU), so neither our C code nor
reference.py has a part in them. Only the rounding up to a power of two is
done here, with math.frexp. The layout is described in DIR/README.md. Run it
again only to add cases: the output is committed, and random numbers come from
torch's generator, which may change with its version.
"""

import math
import os
import struct
import sys

import torch

E4M3 = torch.float8_e4m3fn

# 1, a common size, ties and odd mantissas, tiny and large powers of two,
# the least normal number, its neighbour, and the largest scale there can be.
BF16_SCALES = [0x3F80, 0x3951, 0x3AAB, 0x397F, 0x3F8B, 0x0A80, 0x0080, 0x0081,
               0x6000, 0x7B12]

F16_SCALES = [1.0, 2.0 ** -14, 0.00237, 146.2]


def u8(tensor):
    return tensor.contiguous().view(torch.uint8).flatten().numpy().tobytes()


def f32_bits(bits):
    """A float32 tensor of the given bit patterns."""
    signed = [b - (1 << 32) if b >= 1 << 31 else b for b in bits]
    return torch.tensor(signed, dtype=torch.int32).view(torch.float32)


def all_patterns(dtype):
    patterns = torch.arange(65536, dtype=torch.int32)
    return (patterns - 65536 * (patterns > 32767)).to(torch.int16).view(dtype)


def encode(quotient):
    """A NaN stays one through clamp, and gets whatever NaN code torch makes."""
    return quotient.clamp(-448, 448).to(E4M3)


def bf16_codes():
    weights = all_patterns(torch.bfloat16).to(torch.float32)
    out = struct.pack("<I", len(BF16_SCALES))
    for bits in BF16_SCALES:
        out += struct.pack("<HH", bits, 0)
        out += u8(encode(weights / f32_bits([bits << 16])))
    return out


def f16_codes():
    weights = all_patterns(torch.float16).to(torch.float32)
    out = struct.pack("<I", len(F16_SCALES))
    for value in F16_SCALES:
        scale = torch.tensor([value], dtype=torch.float32)
        out += u8(scale) + u8(encode(weights / scale))
    return out


def f32_codes():
    table = torch.arange(127, dtype=torch.uint8).view(E4M3)
    values = table.to(torch.float32)
    middle = (values[1:].double() + values[:-1].double()).div(2).float()
    points = torch.cat([values, middle, torch.tensor([464.0, 480.0])])
    infinity = torch.tensor(math.inf)
    points = torch.cat([points, torch.nextafter(points, infinity),
                        torch.nextafter(points, -infinity)])
    special = f32_bits([0, 1, 2, 0x7FFFFF, 0x800000, 0x7F7FFFFF, 0x00400000,
                        0x3A800000, 0x3A800001, 0x3A7FFFFF, 0x43E80000])
    random = torch.Generator().manual_seed(1)
    exponent = torch.rand(9000, generator=random) * 24 - 14
    spread = torch.exp2(exponent)
    any_bits = torch.randint(0, 0x7F800000, (500,), generator=random)
    inputs = torch.cat([points, special, spread, f32_bits(any_bits.tolist())])
    inputs = torch.cat([inputs, -inputs])
    return (struct.pack("<I", len(inputs)) + u8(inputs) + u8(encode(inputs)))


def decoded():
    return u8(torch.arange(256, dtype=torch.uint8).view(E4M3)
              .to(torch.float32))


def store(amax, dtype):
    """Block maxima to (stored scales, the same as float32); contract 3.2."""
    zero = amax == 0
    one = torch.tensor(1.0)
    scale = amax / 448
    if dtype == "ue8m0":
        exponents = []
        for value in scale.flatten().tolist():
            fraction, exponent = math.frexp(value)
            if value == 0:
                exponent = -127
            elif fraction == 0.5:
                exponent -= 1
            exponents.append(max(exponent, -127))
        exponent = torch.tensor(exponents, dtype=torch.int32)
        exponent = exponent.reshape(scale.shape).masked_fill(zero, 0)
        # Where an engine would compute an infinity it is the one below.
        power = torch.ldexp(torch.ones(scale.shape), exponent)
        most = encode(amax / power).to(torch.float32) * power
        exponent = exponent - most.isinf().to(torch.int32)
        stored = (exponent + 127).to(torch.uint8)
        # torch's own reading of the byte, as an engine would have it.
        return stored, stored.view(torch.float8_e8m0fnu).to(torch.float32)
    if dtype == "bf16":
        scale = scale.to(torch.bfloat16).to(torch.float32)
    scale = torch.where(zero, one, scale.clamp(min=2.0 ** -126))
    return (scale.to(torch.bfloat16) if dtype == "bf16" else scale), scale


def scales():
    random = torch.Generator().manual_seed(2)
    any_bits = torch.randint(0, 0x7F800000, (1500,), generator=random)
    # As weights have it: bfloat16 maxima of a usual size.
    usual = torch.exp2(torch.rand(800, generator=random) * 16 - 14)
    usual = usual.to(torch.bfloat16).to(torch.float32)
    # amax / 448 at and beside powers of two, where ue8m0 decides.
    powers = torch.tensor([math.ldexp(448.0, e) for e in range(-136, 119)],
                          dtype=torch.float32)
    # Scales exactly between two bfloat16 numbers, odd and even, and beside.
    halves = f32_bits([0x3A808000 + (i << 16) for i in range(128)]) * 448
    # Scales about the floors 2^-126 and 2^-127.
    floors = f32_bits([0x00800000 + i for i in range(-20, 20)]
                      + [0x00400000 + i for i in range(-20, 20)]) * 448
    edges = torch.cat([powers, halves, floors])
    infinity = torch.tensor(math.inf)
    edges = torch.cat([edges, torch.nextafter(edges, infinity),
                       torch.nextafter(edges, torch.tensor(0.0))])
    special = f32_bits([0, 1, 2, 223, 224, 225, 448, 0x007FFFFF, 0x00800000,
                        0x7F7FFFFF, 0x7F7F0000])
    amax = torch.cat([special, edges, usual, f32_bits(any_bits.tolist())])
    amax = amax[torch.isfinite(amax)]
    out = struct.pack("<I", len(amax)) + u8(amax)
    for dtype in ("bf16", "f32", "ue8m0"):
        out += u8(store(amax, dtype)[0])
    return out


def matrix(weights):
    """One matrix file: weights, then codes and scales for each scale dtype."""
    rows, cols = weights.shape
    tag = {torch.bfloat16: 0, torch.float16: 1, torch.float32: 2}
    out = struct.pack("<III", rows, cols, tag[weights.dtype]) + u8(weights)
    wide = weights.to(torch.float32)
    row_blocks, col_blocks = -(-rows // 128), -(-cols // 128)
    amax = torch.zeros(row_blocks, col_blocks)
    for i in range(row_blocks):
        for j in range(col_blocks):
            amax[i, j] = wide[i * 128:(i + 1) * 128,
                              j * 128:(j + 1) * 128].abs().max()
    for dtype in ("bf16", "f32", "ue8m0"):
        stored, scale = store(amax, dtype)
        each = scale.repeat_interleave(128, 0)[:rows]
        each = each.repeat_interleave(128, 1)[:, :cols]
        out += u8(encode(wide / each)) + u8(stored)
    return out


def matrices():
    random = torch.Generator().manual_seed(3)

    def gaussian(rows, cols):
        return torch.randn(rows, cols, generator=random) * 0.02

    def outliers(rows, cols):
        values = gaussian(rows, cols)
        values[0, 0], values[rows - 1, cols - 1] = -40, 25
        return values

    def minus_zeros(rows, cols):
        # A block of -0 alone, and one of weights that round to +0 and -0.
        values = torch.full((rows, cols), -0.0)
        values[128:, 0], values[128:, 1] = 60, -0.00001
        values[128:, 2], values[128:, 3] = 0.00001, 0
        return values

    all_dtypes = (torch.bfloat16, torch.float16, torch.float32)
    wanted = [
        ("1x1", gaussian(1, 1), all_dtypes),
        ("127x129", gaussian(127, 129), all_dtypes),
        ("128x128", outliers(128, 128), (torch.bfloat16,)),
        ("200x300", gaussian(200, 300), (torch.bfloat16, torch.float32)),
        ("zero_10x200", torch.zeros(10, 200), all_dtypes),
        ("minus_zero_130x5", minus_zeros(130, 5), all_dtypes),
    ]
    names = {torch.bfloat16: "bf16", torch.float16: "f16",
             torch.float32: "f32"}
    return {f"matrix_{name}_{names[dtype]}.bin": matrix(values.to(dtype))
            for name, values, dtypes in wanted for dtype in dtypes}


def main():
    if len(sys.argv) != 2:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    files = {"bf16_e4m3.bin": bf16_codes(), "f16_e4m3.bin": f16_codes(),
             "f32_e4m3.bin": f32_codes(), "e4m3_f32.bin": decoded(),
             "scales.bin": scales(), **matrices()}
    os.makedirs(sys.argv[1], exist_ok=True)
    for name, content in files.items():
        with open(os.path.join(sys.argv[1], name), "wb") as file:
            file.write(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
