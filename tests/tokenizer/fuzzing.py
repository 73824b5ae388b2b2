"""Texts for tokenizer tests: a corpus that is always there, and strings of everything."""

from __future__ import annotations

import functools
import inspect
import json
import random

HARD = "".join(chr(i) for i in (*range(0x20), 0x7F, 0x85, 0xA0, 0xAD, 0x200B, 0x200D, 0x2028, 0x3000, 0xFEFF))
HARD += "e\u0301\u0300\u20e3👩\u200d👩\u200d👧🏽🇩🇪\U0001f1e9 "
HARD += "ſß'S'ſ'll'LL ﷽ 한글 ไทย हिन्दी \U000e0041 \U0010ffff\ufffe"

WORDS = [
    "def ",
    "return",
    "    ",
    "\r\n",
    "self.",
    "word ",
    "Привет ",
    "日本",
    "café ",
    "'re",
    "2025",
    "\t\t",
]
WORDS += ["مرحبا", "▁", "שלום "]

RUNS = [
    "a" * 50_000,
    " " * 50_000,
    " " * 50_000 + "x",
    "\n" * 50_000,
    " \n" * 20_000,
    "_" * 50_000,
    "中" * 20_000,
]


@functools.cache
def corpus() -> list[str]:
    """Code, and a little of many scripts."""
    mixed = "Ünïcode ist schön, naïve café. Привет мир как дела? 日本語のテキスト 中文字符。 مرحبا بالعالم "
    mixed += "हिन्दी में पाठ ไทย 한국어 텍스트 שלום tab\there 12345 don't I'LL we're\n"
    return [inspect.getsource(module) for module in (random, json, inspect)] + [mixed * 30, HARD * 3]


@functools.cache
def strings(count: int, seed: int = 0, names: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Valid Unicode strings of up to 30 parts: all planes, hard characters, words, blanks.

    Args:
        count: how many.
        seed: the same gives the same.
        names: strings that shall turn up too, such as control tokens.
    """
    source = random.Random(seed)
    low = [chr(source.randrange(0xD800)) for _ in range(3000)]
    high = [chr(source.randrange(0xE000, 0x110000)) for _ in range(2000)]
    pools = [low, high, list(HARD), list(" \t\n\r'_.,:;(){}[]0123456789"), list("abcdefgnorstuvwxyzABCXYZ")]
    pools += [WORDS, list(names)] if names else [WORDS]
    made = []
    for _ in range(count):
        chosen = source.choices(pools, k=source.randint(0, 30))
        made.append("".join(source.choice(pool) for pool in chosen))
    return tuple(made)
