"""Mutations: of bytes, and of what bytes mean, so that a reader's later stages see them, too."""

import io
import json
import random
import re
import zipfile
import zlib
from typing import Any

WILD_TEXTS = (
    "", " ", "\0", "../../../outside", "/tmp/outside", "..\\outside", "file:///etc/passwd", "http://127.0.0.1:9/x",
    "%s%n{0}${HOME}", "=1+1", "-->", "]]>", "<!ENTITY x SYSTEM 'file:///etc/passwd'>", "\ud800", "\u202e", "ü" * 300,
    "x" * 20_000, "nan", "inf", "-inf", "1e999", "-0", "1_0", "0x10", "9" * 5000, "true", "null", "2026-01-01",
)  # fmt: skip
WILD_NUMBERS = (
    0,
    -1,
    1,
    2**31 - 1,
    2**31,
    2**32,
    2**53 + 1,
    2**63,
    10**18,
    10**40,
    -(10**18),
    0.5,
    1e-300,
    1e300,
    -1e300,
)
WILD_VALUES = (None, True, False, [], {}, "", [[]], [None], {"": None}, float("nan"), float("inf"), [1] * 2000)
_INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 2**64 - 1)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def of_bytes(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """One to four changes anywhere, more of them near the beginning, where headers are."""
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = int(len(data) * chance.random() ** chance.choice((1, 4)))
        size = chance.choice((1, 2, 4, 8, 30, 500))
        match chance.randrange(9):
            case 0 if data:
                data[at : at + 1] = bytes([data[min(at, len(data) - 1)] ^ 1 << chance.randrange(8)])
            case 1:
                data[at : at + size] = chance.randbytes(size)
            case 2:
                del data[at : at + size * chance.choice((1, 50))]
            case 3:
                data[at:at] = data[at : at + size] * chance.choice((1, 2, 100))
            case 4:
                data[at:at] = chance.randbytes(size)
            case 5:
                del data[at:]
            case 6:
                width = chance.choice((1, 2, 4, 8))
                value = chance.choice(_INTEGERS) % 256**width
                data[at : at + width] = value.to_bytes(width, chance.choice(("little", "big")))
            case 7:
                other = chance.choice(others)
                start = chance.randrange(len(other) + 1)
                data[at : at + size] = other[start : start + size]
            case _:
                data[at : at + size] = bytes([chance.choice((0, 255))]) * size
    return bytes(data)


def of_text(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """Lines and words changed for wild ones."""
    text = data.decode("utf-8", "replace")
    lines = text.split("\n")
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(lines))
        match chance.randrange(7):
            case 0:
                del lines[at : at + chance.randint(1, 3)]
            case 1:
                lines[at:at] = lines[at : at + chance.randint(1, 5)] * chance.choice((1, 3, 200))
            case 2:
                other = chance.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                lines[at] = _NUMBER.sub(
                    lambda _: str(chance.choice(WILD_NUMBERS)), lines[at], count=chance.randint(1, 3)
                )
            case 4:
                words = re.split(r"(\W+)", lines[at])
                words[chance.randrange(len(words))] = chance.choice(WILD_TEXTS)
                lines[at] = "".join(words)
            case 5:
                lines[at] = chance.choice(("[", "{", "(", "- ", "<a>", '"', ",", "&a *a ")) * chance.choice(
                    (1, 50, 5000)
                )
            case _:
                lines[at] = chance.choice(WILD_TEXTS)
        lines = lines or [""]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def of_value(value: Any, chance: random.Random) -> Any:
    """Parsed JSON with one to three places changed."""
    root = [json.loads(json.dumps(value))]
    for _ in range(chance.randint(1, 3)):
        place, key = root, 0
        while isinstance(place[key], (dict, list)) and place[key] and chance.random() < 0.8:
            place = place[key]
            key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
        match chance.randrange(6):
            case 0:
                place[key] = chance.choice(WILD_VALUES)
            case 1:
                place[key] = chance.choice(WILD_NUMBERS)
            case 2:
                place[key] = chance.choice(WILD_TEXTS)
            case 3 if place is not root:
                del place[key]
            case 4 if isinstance(place, dict):
                place[chance.choice(("x", *WILD_TEXTS))] = place[key]
            case 5 if isinstance(place[key], list):
                place[key] = place[key] * chance.choice((0, 2, 100))
            case _:
                place[key] = [place[key]]
                for _ in range(chance.choice((0, 5, 900))):
                    place[key] = [place[key]]
    return root[0]


def of_json(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """A JSON file, or one with an object in each line, by its values."""
    try:
        return json.dumps(of_value(json.loads(data), chance)).encode()
    except (ValueError, RecursionError):
        lines = data.splitlines()
    if not lines:
        return of_bytes(data, chance, others)
    at = chance.randrange(len(lines))
    try:
        lines[at] = json.dumps(of_value(json.loads(lines[at]), chance)).encode()
    except (ValueError, RecursionError):
        return of_text(data, chance, others)
    return b"\n".join(lines)


def of_zip(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """A zip file (XLSX, NPZ) with one of its parts changed, made huge, or said to be so."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        parts = [[part.filename, file.read(part)] for part in file.infolist()]
    at = chance.randrange(len(parts))
    match chance.randrange(5):
        case 0:
            parts[at][1] = of_bytes(parts[at][1], chance, others)
        case 1 | 2:
            parts[at][1] = of_text(parts[at][1], chance, others) if b"<" in parts[at][1][:99] else chance.randbytes(99)
        case 3:
            parts[at][0] = chance.choice(("../outside", "/tmp/outside", parts[at][0].upper(), ""))
        case _:
            middle = len(parts[at][1]) // 2
            parts[at][1] = (
                parts[at][1][:middle]
                + bytes(chance.choice((10**5, 10**6, 3 * 10**8 if chance.random() < 0.01 else 1)))
                + parts[at][1][middle:]
            )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts:
            file.writestr(name or "x", content)
    return packed.getvalue()


def of_safetensors(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """Header and values apart: other shapes, types, places and lengths."""
    size = int.from_bytes(data[:8], "little")
    header, values = data[8 : 8 + size], data[8 + size :]
    match chance.randrange(4):
        case 0 | 1:
            header = of_json(header, chance, others)
        case 2:
            values = of_bytes(values, chance, [values])
        case _:
            inner = json.loads(header)
            told = inner.get("__metadata__", {})
            for name, text in told.items():
                told[name] = of_json(text.encode(), chance, others).decode("utf-8", "replace")
            header = json.dumps(inner).encode()
    size = chance.choice(_INTEGERS) if chance.random() < 0.1 else len(header)
    return (size % 2**64).to_bytes(8, "little") + header + values


def of_png(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """Another size in the header of a PNG, with the checksum that belongs to it; other pictures as bytes."""
    if data[12:16] != b"IHDR" or chance.random() < 0.5:
        return of_bytes(data, chance, others)
    sides = [chance.choice((0, 1, 65_535, 10**5, 2**31 - 1, chance.randrange(9999))).to_bytes(4, "big") for _ in "ab"]
    header = b"IHDR" + sides[0] + sides[1] + data[24:29]
    return data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]
