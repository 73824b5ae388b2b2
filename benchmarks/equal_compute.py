"""Bits per byte between tokenizers when the same small model gets the same compute with each.

```
text -> tokenizer (kind, size) -> the same decoder, as many steps as the compute allows -> bits per byte
```

Loss per token says nothing between tokenizers. Here the layers of the model and the tokens of a step stay the
same, and so does the compute of a run, counted in products and sums of its forward and backward pass: a
larger vocabulary pays for its head with fewer tokens, a smaller one for its short tokens with less text. The
rate is chosen for each tokenizer under a seed of its own. Only tokenizers that give every byte back take
part. The intervals are those of the seeds; the held-out documents are the same for all.

    python benchmarks/equal_compute.py --data FILE FILE
    python benchmarks/equal_compute.py --sizes 1024 4096 --kinds bpe unigram --compute 2e12 --seeds 5
"""

from __future__ import annotations

import argparse
import math
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import measure
import numpy as np
from claims import Claim, result
from tokenizer_training import gather

from ingot.bench.contenders import CONTENDERS
from ingot.data.stream import WindowStream
from ingot.evaluate.bits_per_byte import measure_bits
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.optim.schedules import ScheduleConfig
from ingot.tokenizer import Tokenizer
from ingot.tokenizer.compare import compare
from ingot.tokenizer.training import TokenizerConfig

WIDTH, LAYERS, CONTEXT, ROWS = 128, 2, 256, 2
COMPUTE, SIZES, SEEDS = 4e11, (512, 2048, 8192), 3  # products and sums of a run, entries, runs
QUICK = (2e9, (512,), 3)
KINDS: dict[str, dict[str, str]] = {
    "bpe": {"kind": "bpe"},
    "bpe-gpt2": {"kind": "bpe", "split": "gpt2"},
    "characters": {"kind": "characters"},
    "unigram": {"kind": "unigram"},
}
SWEEP_SEED, FACTORS = 10_000, (1 / 3, 1.0, 3.0)
DOCUMENT, HELD_OUT, SCORED, SWEPT = 4_000, 10, 24, 8  # characters, one of so many, of these, for the sweep
SCHEDULE = ScheduleConfig(warmup=0.05, decay=0.7)


class Text(NamedTuple):
    """Documents to learn from, and others to be measured on."""

    train: list[str]
    heldout: list[str]


def read(places: Sequence[Path], size: int) -> Text:
    """Cuts the text of files or folders into documents; every tenth is held out."""
    with tempfile.TemporaryDirectory() as folder:
        gather(places, size, Path(folder, "text"))
        text = Path(folder, "text").read_text(encoding="utf-8")
    documents = [text[start : start + DOCUMENT] for start in range(0, len(text), DOCUMENT)]
    train = [one for number, one in enumerate(documents) if number % HELD_OUT]
    heldout = documents[::HELD_OUT]
    return Text(train, heldout[:: max(1, len(heldout) // SCORED)][:SCORED])


def decoder(vocabulary: int) -> DecoderConfig:
    """The model: the same but for its embedding and head."""
    return DecoderConfig(
        vocabulary=vocabulary,
        width=WIDTH,
        layers=LAYERS,
        heads=2,
        kv_heads=2,
        head_width=WIDTH // 2,
        feed_forward=3 * WIDTH,
        context=CONTEXT,
    )


def compute_per_token(model: Decoder, vocabulary: int) -> float:
    """Operations that training takes for a token (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).

    Six for every weight that is multiplied with (the embedding is looked up), and as many for every earlier
    place and channel in attention, of which half the places are seen.
    """
    weights = sum(weight.numel() for weight in model.parameters()) - vocabulary * WIDTH
    return 6.0 * weights + 6.0 * LAYERS * CONTEXT * WIDTH


def train(tokens: np.ndarray[Any, Any], vocabulary: int, compute: float, factor: float, seed: int) -> Decoder:
    """Trains one model for so much compute."""
    model = decoder(vocabulary).build(seed)
    program = CONTENDERS["muon"].program(model, "cpu")
    stream = WindowStream(tokens, CONTEXT, ROWS, seed)
    steps = steps_of(model, vocabulary, compute)
    for step in range(steps):
        program.update(stream.batch(step), factor * SCHEDULE.multiplier(step, steps))
    return model.eval()


def steps_of(model: Decoder, vocabulary: int, compute: float) -> int:
    """Updates that so much compute allows."""
    return max(2, round(compute / compute_per_token(model, vocabulary) / ROWS / CONTEXT))


def measured(tokenizer: Tokenizer, text: Text, compute: float, seeds: int) -> dict[str, Any]:
    """Trains with one tokenizer: a sweep of rates, then the seeds."""
    vocabulary = tokenizer.vocab_size
    ids = [np.array([tokenizer.bos_id, *tokenizer.encode(one)], np.uint16) for one in text.train]
    tokens = np.concatenate(ids)
    start = time.perf_counter()

    def bits(factor: float, seed: int, texts: list[str]) -> float:
        model = train(tokens, vocabulary, compute, factor, seed)
        found = measure_bits(model, tokenizer, texts).bits_per_byte
        return found if math.isfinite(found) else math.inf

    sweep = {factor: bits(factor, SWEEP_SEED, text.heldout[:SWEPT]) for factor in FACTORS}
    best = min(sweep, key=lambda factor: sweep[factor])
    if best in (FACTORS[0], FACTORS[-1]):  # one further, beyond the end that is best
        further = best * (FACTORS[0] if best == FACTORS[0] else FACTORS[-1])
        sweep[further] = bits(further, SWEEP_SEED, text.heldout[:SWEPT])
        best = min(sweep, key=lambda factor: sweep[factor])
    scores = [bits(best, seed, text.heldout) for seed in range(seeds)]
    steps = steps_of(decoder(vocabulary).build(), vocabulary, compute)
    seen = steps * ROWS * CONTEXT
    row = compare({"it": tokenizer}, text.heldout, width=WIDTH, layers=LAYERS)[0]
    if not row.lossless:
        raise SystemExit(f"{row.kind} of {vocabulary} entries does not give every text back")
    return {
        "vocabulary": vocabulary,
        "bits_per_byte": statistics.fmean(scores),
        "half_interval": half_interval(scores),
        "scores": scores,
        "factor": best,
        "sweep": sweep,
        "at_edge_of_sweep": best in (min(sweep), max(sweep)),
        "steps": steps,
        "bytes_seen": seen * row.fit.bytes_per_token,
        "epochs": seen / len(tokens),
        "bytes_per_token": row.fit.bytes_per_token,
        "fertility": row.fit.fertility,
        "embedding_share": row.embedding_share,
        "seconds": time.perf_counter() - start,
    }


def half_interval(scores: Sequence[float]) -> float:
    """Half the width of the mean's 95 % interval, by Student's distribution."""
    from scipy.stats import t

    spread = statistics.stdev(scores) / math.sqrt(len(scores))
    return float(t.ppf(0.975, len(scores) - 1)) * spread


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows as Markdown, the fewest bits first."""
    lines = [
        "| tokenizer | entries | bytes per token | fertility | embedding share | MB seen | bits per byte |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in sorted(rows.items(), key=lambda item: item[1]["bits_per_byte"]):
        lines.append(
            f"| {name} | {one['vocabulary']:,} | {one['bytes_per_token']:.2f} | {one['fertility']:.2f} | "
            f"{one['embedding_share']:.0%} | {one['bytes_seen'] / 1e6:.2f} | "
            f"{one['bits_per_byte']:.3f} ± {one['half_interval']:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Learns the tokenizers, trains with each, prints the table and the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run: the figures mean nothing")
    parser.add_argument("--data", type=Path, nargs="+", help="files or folders  [default: Python's library]")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of tokenizers")
    parser.add_argument("--sizes", type=int, nargs="+", help=f"entries  [default: {SIZES}]")
    parser.add_argument("--compute", type=float, help=f"of a run  [default: {COMPUTE:g}]")
    parser.add_argument("--seeds", type=int, help=f"runs of each, 3 or more  [default: {SEEDS}]")
    parser.add_argument("--megabytes", type=float, default=8.0, help="of text, at most")
    parser.add_argument("--save", type=Path, help="also write the JSON object to this file")
    given = parser.parse_args()
    compute, sizes, seeds = QUICK if given.quick else (COMPUTE, SIZES, SEEDS)
    compute, sizes, seeds = given.compute or compute, given.sizes or sizes, max(3, given.seeds or seeds)
    text = read(
        given.data or [Path(sysconfig.get_paths()["stdlib"])],
        300_000 if given.quick else int(given.megabytes * 1e6),
    )
    rows = {"bytes": measured(Tokenizer([]), text, compute, seeds)}
    for kind in ["bpe"] if given.quick else given.kinds:
        for size in sizes:
            tokenizer = Tokenizer.train(text.train, size, config=TokenizerConfig.parse(KINDS[kind]))
            name = f"{kind} {size}"
            rows[name] = measured(tokenizer, text, compute, seeds)
            one = rows[name]
            measure.say(
                f"{name}: {one['bits_per_byte']:.3f} ± {one['half_interval']:.3f}, {one['seconds']:.0f} s"
            )
    measure.say(table(rows))
    best = min(rows, key=lambda name: rows[name]["bits_per_byte"])
    claims = [
        Claim(f"bits per byte, {name}", one["bits_per_byte"], None, "bits", "lower")
        for name, one in sorted(rows.items(), key=lambda item: item[1]["bits_per_byte"])
    ]
    details = {"compute": compute, "seeds": seeds, "train_documents": len(text.train), "tokenizers": rows}
    spread = {"ours": [min(rows[best]["scores"]), max(rows[best]["scores"])], "peer": None}
    found = result("equal_compute", claims, spread, details, quick=given.quick, packages=("numpy",))
    measure.report(found, given.save)


if __name__ == "__main__":
    main()
