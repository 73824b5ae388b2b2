"""Sides of the benchmarks of decoding and of reading prompts: one measurement in a process of its own.

Every side runs the same weights on the same number of threads, and makes the same number of tokens, whatever
they are. Ours is the whole engine, scheduling and sampling counted; `transformers` is `generate`; llama.cpp
is `llama-bench`, which counts neither tokenizer nor sampling.

    python benchmarks/decoder_sides.py --folder F --side ours --kind bf16 --rows 1 --prompt 8 --tokens 128
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import torch

from ingot import device
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.models.huggingface import load, save
from ingot.tokenizer import Tokenizer

SIZES: dict[str, Any] = {
    "vocabulary": 4096, "width": 512, "layers": 8, "heads": 8, "kv_heads": 4, "head_width": 64,
    "feed_forward": 1536, "context": 2048, "tied": True, "rope_theta": 1e6,
}  # fmt: skip
SMALL = SIZES | {"vocabulary": 512, "width": 64, "layers": 2, "heads": 2, "kv_heads": 1, "feed_forward": 128}


def write_folder(folder: Path, quick: bool) -> int:
    """Writes a model of Qwen3's shape with random weights that bf16 holds; returns its parameters."""
    model = DecoderConfig(**(SMALL if quick else SIZES)).build()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator).mul(0.02).bfloat16())
    texts = [path.read_text("utf-8") for path in sorted((measure.HERE.parent / "src").rglob("*.py"))]
    tokenizer = Tokenizer.train(texts[:100] if quick else texts, vocabulary=model.config.vocabulary)
    tokenizer.save(folder)
    save(folder, model, special={"bos_token_id": tokenizer.bos_id})
    return model.parameter_count()


def prompt_tokens(count: int, seed: int = 0) -> list[int]:
    """Returns so many tokens of a prompt."""
    drawn: list[int] = torch.randint(300, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    return drawn


def our_model(folder: Path, kind: str) -> Decoder:
    """Returns the folder's model in bf16 or fp32, or with int8 weights."""
    from ingot.compress.quantize import quantize

    model = load(folder, torch.float32 if kind == "fp32" else torch.bfloat16).eval()
    return quantize(model) if kind == "int8" else model


def ours(folder: Path, kind: str, rows: int, prompt: int, tokens: int) -> Callable[[], tuple[float, float]]:
    """Returns what measures the engine once: seconds to the first token, and of all further steps."""
    from ingot.inference.choosing.sampling import Sampling
    from ingot.inference.engine import Engine

    engine = Engine(our_model(folder, kind), Tokenizer.load(folder), slots=rows)
    greedy = Sampling(max_new_tokens=tokens, temperature=0)
    seeds = iter(range(10**9))

    def once() -> tuple[float, float]:
        requests = [engine.submit(prompt_tokens(prompt, next(seeds)), greedy) for _ in range(rows)]
        start = time.perf_counter()
        while not all(request.tokens for request in requests):
            engine.step()
        first = time.perf_counter()
        while any(request.finish_reason is None for request in requests):
            engine.step()
        return first - start, time.perf_counter() - first

    return once


def transformers(
    folder: Path, kind: str, rows: int, prompt: int, tokens: int
) -> Callable[[], tuple[float, float]]:
    """Returns what measures `generate` once: seconds to the first token, and of all further ones."""
    from transformers import AutoModelForCausalLM
    from transformers.generation.streamers import BaseStreamer

    dtype = torch.float32 if kind == "fp32" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    class Clock(BaseStreamer):
        """Notes when the first token comes; the first call is about the prompt."""

        def __init__(self) -> None:
            self.times: list[float] = []

        def put(self, value: Any) -> None:
            self.times.append(time.perf_counter())

        def end(self) -> None:
            pass

    def once() -> tuple[float, float]:
        inputs = torch.tensor([prompt_tokens(prompt, row) for row in range(rows)])
        clock = Clock() if rows == 1 else None  # it takes one row only
        start = time.perf_counter()
        model.generate(
            inputs, attention_mask=torch.ones_like(inputs), do_sample=False, min_new_tokens=tokens,
            max_new_tokens=tokens, pad_token_id=0, eos_token_id=None, streamer=clock,
        )  # fmt: skip
        end = time.perf_counter()
        first = clock.times[1] if clock else start
        return first - start, end - first

    return once


def llama(binaries: Path, file: Path, prompt: int, tokens: int, repeats: int, threads: int) -> list[str]:
    """Returns the command that measures llama.cpp: of a prompt, or of tokens behind an empty one."""
    test = ["-p", str(prompt), "-n", "0"] if prompt else ["-p", "0", "-n", str(tokens)]
    options = ["-t", str(threads), "-r", str(repeats), "-o", "jsonl"]
    return [str(binaries / "llama-bench"), "-m", str(file), *test, *options]


def bandwidth(size: int) -> float:
    """Measures bytes per second that all threads read from a buffer of so many bytes, time and again."""
    buffer = torch.ones(size // 4)
    seconds = []
    for _ in range(30):
        start = time.perf_counter()
        buffer.sum()
        seconds.append(time.perf_counter() - start)
    return buffer.nbytes / statistics.median(seconds)


def apart(folder: Path) -> dict[str, float]:
    """Checks that both sides compute the same: how far bf16 logits of each are from the fp32 ones."""
    from array import array

    from transformers import AutoModelForCausalLM

    from ingot.inference.computing.native import runner
    from ingot.inference.computing.paged_attention import TorchRunner
    from ingot.inference.computing.pages import Pages, pages_for
    from ingot.inference.computing.passes import Runner, Segment, assemble

    tokens = prompt_tokens(100)
    with torch.inference_mode():
        truth = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(
            torch.tensor([tokens])
        ).logits[0]
        peer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)(
            torch.tensor([tokens])
        ).logits[0]
        far = {"transformers bf16": float((peer.float() - truth).norm() / truth.norm())}
        for kind in ("fp32", "bf16", "int8"):
            model, pages = our_model(folder, kind), Pages(10)
            run: Runner = runner(model) or TorchRunner(model)
            table = array("i", [pages.take() for _ in range(pages_for(len(tokens)))])
            logits = run(assemble([Segment(tokens, 0, table, len(tokens))]), pages)
            far[f"ours {kind}"] = float((logits - truth).norm() / truth.norm())
    return far


def main() -> None:
    """Measures one side and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--side", choices=("ours", "transformers"), required=True)
    parser.add_argument("--kind", choices=("fp32", "bf16", "int8"), required=True)
    for name in ("rows", "prompt", "tokens", "repeats", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    device.prepare_threads(given.threads)
    make = ours if given.side == "ours" else transformers
    once = make(given.folder, given.kind, given.rows, given.prompt, given.tokens)
    once()
    first, rest = zip(*(once() for _ in range(given.repeats)), strict=True)
    # Where the first token was not seen by itself, the whole answer counts: the prompt is short there.
    made = given.tokens - (1 if statistics.median(first) else 0)
    figures = {"decode": given.rows * made / statistics.median(rest) if made else None}
    if statistics.median(first):
        figures["prompt"] = given.rows * given.prompt / statistics.median(first)
    print(json.dumps(figures))


def command(
    folder: Path, side: str, kind: str, *, rows: int, prompt: int, tokens: int, repeats: int
) -> list[str]:
    """Returns the command that measures one side."""
    numbers = {
        "rows": rows,
        "prompt": prompt,
        "tokens": tokens,
        "repeats": repeats,
        "threads": device.threads(),
    }
    options = [word for name, number in numbers.items() for word in (f"--{name}", str(number))]
    here = str(Path(__file__).resolve())
    return [sys.executable, here, "--folder", str(folder), "--side", side, "--kind", kind, *options]


def figure(rounds: list[dict[str, Any]], key: str) -> tuple[float, list[float]]:
    """Returns the median over rounds, and its spread; llama.cpp's figure has a name of its own."""
    key = "avg_ts" if "avg_ts" in rounds[0] else key
    return measure.median(rounds, key), measure.spread(rounds, key)


if __name__ == "__main__":
    main()
