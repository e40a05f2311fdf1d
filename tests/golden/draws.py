"""The numbers that the golden vectors begin with, and how they are written down.

Every one is a pure function of a stream and an index, so that a reader in another language can rebuild it bit for bit.
"""

import json
import pathlib

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent

U64 = np.uint64
GOLDEN = U64(0x9E3779B97F4A7C15)


def mix(z):
    """The finalizer of SplitMix64 on an array of u64 (wrapping arithmetic)."""
    z = (z ^ (z >> U64(30))) * U64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> U64(27))) * U64(0x94D049BB133111EB)
    return z ^ (z >> U64(31))


def draw(stream, index):
    """64 random bits for each element of `index`, a pure function of both arguments."""
    with np.errstate(over="ignore"):
        key = mix(np.array([stream + 1], dtype=U64) * GOLDEN)
        return mix(key + (np.asarray(index, dtype=U64) + U64(1)) * GOLDEN)


def unit(stream, count):
    """float32 in [0, 1): 24 bits, exact."""
    bits = draw(stream, np.arange(count)) >> U64(40)
    return bits.astype(np.float32) * np.float32(2.0**-24)


def symmetric(stream, count):
    """float32 in [-1, 1): 24 bits, exact."""
    bits = (draw(stream, np.arange(count)) >> U64(40)).astype(np.int64) - 2**23
    return bits.astype(np.float32) * np.float32(2.0**-23)


def fingerprint(array):
    """Sum of bits[i] * (2i + 1) modulo 2^64 over the float32 bit patterns, in hexadecimal."""
    bits = np.ascontiguousarray(array, dtype=np.float32).ravel().view(np.uint32).astype(U64)
    with np.errstate(over="ignore"):
        total = (bits * (np.arange(bits.size, dtype=U64) * U64(2) + U64(1))).sum(dtype=U64)
    return f"{int(total):016x}"


def write_json(name, value):
    """One entry of the outermost list per line: small, and a readable diff."""
    if isinstance(value, list):
        text = "[\n" + ",\n".join(json.dumps(entry) for entry in value) + "\n]\n"
    else:
        text = json.dumps(value, indent=1) + "\n"
    (HERE / name).write_text(text)
