"""Learning 16,384 entries of byte-level BPE from 100 MB of text, beside the `tokenizers` library.

Both sides read the same file in the same blocks, cut it by the same pattern, use all cores and learn as many
merges; a digest of the merges shows whether they are the same. Time goes from the first block read to the
last merge, our workers' start included. Memory is the peak of the process; for us that of every worker is
added as if all peaks came at once.

The text is what the machine has: Python's library and packages, and /usr/share/doc; or `--data`.

    python benchmarks/tokenizer_training.py
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import measure
from claims import Claim, result

from ingot.device import cores

VOCABULARY, SIZE = 16_384, 100_000_000  # entries, bytes
QUICK = (1_000, 1_000_000)
BLOCK = 1 << 16  # characters that a side reads at a time
LARGEST = 300_000  # characters taken of one file, so that no single one weighs much
KINDS = (".py", ".md", ".txt", ".rst", ".html")


def gather(places: Sequence[Path], size: int, to: Path) -> int:
    """Writes text of the machine to a file, files in a random but fixed order.

    Returns:
        Bytes written: `size`, or fewer where there is less.
    """
    files = [
        path
        for place in places
        for path in (sorted(place.rglob("*")) if place.is_dir() else [place])
        if path.suffix in KINDS and path.is_file() and not path.is_symlink()
    ]
    random.Random(0).shuffle(files)
    written = 0
    with to.open("w", encoding="utf-8") as out:
        for path in files:
            try:
                text = path.read_text(encoding="utf-8")[:LARGEST] + "\n"
            except (UnicodeDecodeError, OSError):
                continue
            out.write(text)
            written += len(text.encode("utf-8"))
            if written >= size:
                break
    return written


def blocks(path: Path) -> Iterator[str]:
    """Reads a text in blocks of whole lines."""
    with path.open(encoding="utf-8") as file:
        while lines := file.readlines(BLOCK):
            yield "".join(lines)


def ours(path: Path, merges: int) -> list[list[str]]:
    """Our trainer; returns the merges as printable text."""
    from ingot.tokenizer import bpe
    from ingot.tokenizer.bytes import BYTE_ORDER, printable
    from ingot.tokenizer.counting import count

    learned = bpe.train(count(blocks(path), workers=cores()), merges)
    tokens = [printable(bytes([byte])) for byte in BYTE_ORDER]
    pairs = []
    for left, right in learned:
        pairs.append([tokens[left], tokens[right]])
        tokens.append(tokens[left] + tokens[right])
    return pairs


def peer(path: Path, merges: int) -> list[list[str]]:
    """The trainer of `tokenizers`."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    from ingot.tokenizer.split import PATTERN

    tokenizer = tokenizers.Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(tokenizers.Regex(PATTERN), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, to_bytes])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + merges, min_frequency=2, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(blocks(path), trainer)
    found: list[list[str]] = json.loads(tokenizer.to_str())["model"]["merges"]
    return found


def side(name: str, path: Path, merges: int) -> None:
    """Runs one side and prints its figures."""
    start = time.perf_counter()
    pairs = ours(path, merges) if name == "ours" else peer(path, merges)
    seconds = time.perf_counter() - start
    scale = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak += cores() * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # of the largest child
    figures = {
        "seconds": seconds,
        "cpu_seconds": sum(os.times()[:4]),  # of this process and its workers, imports included
        "peak_mb": peak * scale / 1e6,
        "merges": len(pairs),
        "digest": hashlib.sha256(json.dumps(pairs).encode()).hexdigest(),
    }
    print(json.dumps(figures))


def main() -> None:
    """Gathers the text, lets the sides take turns, prints the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run: the figures mean nothing")
    parser.add_argument(
        "--data", type=Path, nargs="+", help="files or folders  [default: the machine's text]"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often the sides take turns")
    parser.add_argument("--save", type=Path, help="also write the JSON object to this file")
    parser.add_argument("--side", nargs=3, metavar=("NAME", "TEXT", "MERGES"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        side(asked.side[0], Path(asked.side[1]), int(asked.side[2]))
        return
    vocabulary, size = QUICK if asked.quick else (VOCABULARY, SIZE)
    paths = sysconfig.get_paths()
    places = asked.data or [Path(paths["stdlib"]), Path(paths["purelib"]), Path("/usr/share/doc")]
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text"
        written = gather(list(dict.fromkeys(places)), size, text)
        if written < size:
            measure.say(
                f"only {written / 1e6:.1f} MB of text were found; the target is for {size / 1e6:.0f} MB"
            )
        command = [sys.executable, __file__, "--side"]
        sides = {name: [*command, name, text, str(vocabulary - 256)] for name in ("ours", "peer")}
        parallel = {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": str(cores())}
        rounds = measure.alternate(sides, 1 if asked.quick else asked.rounds, parallel)
    digests = {name: sorted({one["digest"] for one in found}) for name, found in rounds.items()}
    if digests["ours"] != digests["peer"]:
        sys.exit(f"the sides do not learn the same merges: {digests}")
    made = judged(rounds, written, vocabulary, asked.quick)
    measure.report(made, asked.save)


def judged(
    rounds: Mapping[str, Sequence[Mapping[str, Any]]], written: int, vocabulary: int, quick: bool
) -> dict[str, Any]:
    """Makes the benchmark's result of the rounds of both sides."""
    speeds = {name: [written / 1e6 / one["seconds"] for one in found] for name, found in rounds.items()}
    speed = {name: statistics.median(found) for name, found in speeds.items()}
    peaks = {name: measure.median(found, "peak_mb") for name, found in rounds.items()}
    claims = [
        Claim("training", speed["ours"], speed["peer"], "MB/s", "higher", times=1.0),
        Claim("peak memory", peaks["ours"], peaks["peer"], "MB", "lower", times=1.0),
    ]
    details = {
        "bytes": written,
        "vocabulary": vocabulary,
        "merges": rounds["ours"][0]["merges"],
        **{
            key: {name: measure.median(found, key) for name, found in rounds.items()}
            for key in ("seconds", "cpu_seconds", "peak_mb")
        },
        "load_at_the_end": os.getloadavg(),
    }
    spread = {name: [min(found), max(found)] for name, found in speeds.items()}
    packages = ("tokenizers", "regex", "numpy")
    return result("tokenizer_training", claims, spread, details, quick=quick, packages=packages)


if __name__ == "__main__":
    main()
