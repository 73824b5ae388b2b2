"""Encoding text by byte-level BPE, on one core and on two, beside tiktoken.

Both sides have the same vocabulary, learned by ours from a part of the text, and encode the same documents;
the ids must be equal. One thread is compared with `tiktoken.Encoding.encode_ordinary` on the same split
pattern, by CPU time; two threads (`Tokenizer.encode_batch`) with one of ours, by the clock in the best round
of each, since others on the machine only ever slow them down (the medians stand beside it). All take turns in
one process, so that a busy minute of the machine hurts them alike.

The text is what the machine has: Python's library and packages, and /usr/share/doc; or `--data`.

    python benchmarks/tokenizer_speed.py
"""

from __future__ import annotations

import argparse
import os
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import measure
from claims import Claim, result
from tokenizer_training import blocks, gather

VOCABULARY, SIZE = 16_384, 20_000_000  # entries, bytes
QUICK = (512, 300_000)
LEARNED_FROM = 4_000_000  # characters
CORES = 2

Ids = list[list[int]]


def encoders(documents: list[str], vocabulary: int) -> dict[str, Callable[[], Ids]]:
    """The sides by name: each encodes all documents."""
    import tiktoken

    from ingot.tokenizer import Tokenizer
    from ingot.tokenizer.split import PATTERN

    share = LEARNED_FROM // max(1, len(documents[0]))
    tokenizer = Tokenizer.train(documents[: max(1, share)], vocabulary)
    ranks = {tokenizer.token_bytes(token): token for token in range(256 + len(tokenizer.merges))}
    peer = tiktoken.Encoding("peer", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    return {
        "ours": lambda: [tokenizer.encode(document) for document in documents],
        "tiktoken": lambda: [peer.encode_ordinary(document) for document in documents],
        "ours on two cores": lambda: tokenizer.encode_batch(documents, workers=CORES),
        "tiktoken on two cores": lambda: peer.encode_ordinary_batch(documents, num_threads=CORES),
    }


def main() -> None:
    """Gathers the text, lets the sides take turns, prints the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run: the figures mean nothing")
    parser.add_argument(
        "--data", type=Path, nargs="+", help="files or folders  [default: the machine's text]"
    )
    parser.add_argument("--rounds", type=int, default=9, help="how often the sides take turns")
    parser.add_argument("--save", type=Path, help="also write the JSON object to this file")
    asked = parser.parse_args()
    vocabulary, size = QUICK if asked.quick else (VOCABULARY, SIZE)
    paths = sysconfig.get_paths()
    places = asked.data or [Path(paths["stdlib"]), Path(paths["purelib"]), Path("/usr/share/doc")]
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text"
        written = gather(list(dict.fromkeys(places)), size, text)
        documents = list(blocks(text))
    sides = encoders(documents, vocabulary)
    expected = sides["tiktoken"]()
    if any(encode() != expected for encode in sides.values()):
        sys.exit("the sides do not give the same ids")
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(1 if asked.quick else asked.rounds):
        for name, encode in list(sides.items())[:: -1 if number % 2 else 1]:  # nobody always comes first
            start, cpu = time.perf_counter(), time.process_time()
            encode()
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            rounds[name].append({"speed": written / 1e6 / seconds, "per_cpu_second": written / 1e6 / cpu})
        measure.say(
            f"round {number + 1}: " + ", ".join(f"{n} {r[-1]['speed']:.1f}" for n, r in rounds.items())
        )
    speed = {name: measure.median(found, "speed") for name, found in rounds.items()}
    one = {name: measure.median(rounds[name], "per_cpu_second") for name in ("ours", "tiktoken")}
    best = {name: max(found["speed"] for found in rounds[name]) for name in rounds}
    claims = [
        Claim("one core beside tiktoken", one["ours"], one["tiktoken"], "MB/s", "higher", times=0.97),
        Claim("two cores beside one", best["ours on two cores"], best["ours"], "MB/s", "higher", times=1.9),
        Claim("the same, median rounds", speed["ours on two cores"], speed["ours"], "MB/s", "higher"),
        Claim("two cores of tiktoken", best["tiktoken on two cores"], best["tiktoken"], "MB/s", "higher"),
    ]
    spread = {name: measure.spread(found, "speed") for name, found in rounds.items()}
    details = {
        "bytes": written,
        "documents": len(documents),
        "tokens": sum(map(len, expected)),
        "vocabulary": vocabulary,
        "speed": speed,
        "load_at_the_end": os.getloadavg(),
    }
    found = result(
        "tokenizer_speed", claims, spread, details, quick=asked.quick, packages=("tiktoken", "regex")
    )
    measure.report(found, asked.save)


if __name__ == "__main__":
    main()
