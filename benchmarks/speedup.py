"""From the plain way to answer to ours, step by step: what each step of the way gives.

```
naive        float32, the whole text anew for every token      (transformers, generate without its cache)
cache        float32, keys and values are kept                 (transformers, generate)
engine       float32, our engine, PyTorch computing its passes
compiled     float32, the compiled step
bf16         the same in bf16
int8         int8 weights
together     int8, eight requests at once: tokens of all of them
```

256 tokens behind a prompt of 32, greedy, no token ends them. In float32 all say the same tokens. What bf16
and int8 cost is measured in bits per byte, where a trained model and a text are given.

    python benchmarks/speedup.py                        27 M random parameters
    python benchmarks/speedup.py --model DIR --text FILE
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measure
from claims import Claim, result

WAYS = ("naive", "cache", "engine", "compiled", "bf16", "int8", "together")
TARGET, TOGETHER_TARGET = 5.0, 3.0
PROMPT, ANSWER, QUICK_ANSWER, REQUESTS = 32, 256, 8, 8


def side(way: str, folder: Path, answer: int, repeats: int) -> dict[str, Any]:
    """Answers in one way; returns tokens and seconds."""
    import torch

    count = REQUESTS if way == "together" else 1
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(3, vocabulary - 8, (count, PROMPT), generator=generator)
    if way in ("naive", "cache"):
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        ends = model.generation_config
        ends.eos_token_id = None

        def run() -> list[list[int]]:
            made = model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                do_sample=False,
                max_new_tokens=answer,
                use_cache=way == "cache",
                pad_token_id=0,
            )
            return [row[PROMPT:].tolist() for row in made]
    else:
        from ingot.compress import quantize
        from ingot.inference.choosing.sampling import Sampling
        from ingot.inference.computing.paged_attention import TorchRunner
        from ingot.inference.engine import Engine
        from ingot.models import huggingface

        dtype = torch.bfloat16 if way in ("bf16", "int8", "together") else torch.float32
        ours = huggingface.load(folder, dtype)
        if way in ("int8", "together"):
            ours = quantize(ours)
        runner = TorchRunner(ours) if way == "engine" else None
        engine = Engine(ours, _Silent(), slots=count, runner=runner)
        greedy = Sampling(temperature=0, max_new_tokens=answer)

        def run() -> list[list[int]]:
            return [one.tokens for one in engine.generate(prompts.tolist(), greedy)]

    said = run()  # the first one warms up
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        again = run()
        taken.append(time.perf_counter() - start)
        assert again == said
    return {"seconds": min(taken), "tokens_per_second": count * answer / min(taken), "said": said}


class _Silent:
    """Stands for a tokenizer where nobody reads the text."""

    def token_bytes(self, token: int) -> bytes:
        return b""


def quality(folder: Path, text: str) -> dict[str, float]:
    """Returns bits per byte of a text in float32, bf16 and int8."""
    import torch

    from ingot.compress import quantize
    from ingot.evaluate.bits_per_byte import measure_bits
    from ingot.models import huggingface
    from ingot.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    pieces = [text[start : start + 4000] for start in range(0, len(text), 4000)]
    whole, short = huggingface.load(folder), huggingface.load(folder, torch.bfloat16)
    models = {"float32": whole, "bf16": short, "int8": quantize(short)}
    return {name: measure_bits(model, tokenizer, pieces).bits_per_byte for name, model in models.items()}


def random_model(folder: Path, quick: bool) -> None:
    """Writes a model of 27 M random parameters (Qwen3's shape) into a folder."""
    import torch

    from ingot.models import huggingface
    from ingot.models.decoder import DecoderConfig

    sizes = {"width": 64, "layers": 2, "heads": 2, "kv_heads": 1, "head_width": 32, "feed_forward": 128}
    if not quick:
        sizes = {"width": 512, "layers": 8, "heads": 8, "kv_heads": 4, "head_width": 64, "feed_forward": 1536}
    model = DecoderConfig(vocabulary=4096, context=1024, **sizes).build(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # a head that begins at zero would always say the same
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.05, generator=generator)
    folder.mkdir()
    huggingface.save(folder, model)


def main() -> None:
    """Runs all ways in turn and prints one JSON object."""
    parser = measure.arguments(__doc__ or "")
    parser.add_argument("--model", type=Path, help="a folder  [default: 27 M random parameters]")
    parser.add_argument("--text", type=Path, help="a text to measure bits per byte on, with --model")
    parser.add_argument("--side", nargs=3, help="(one way, the folder, tokens: used by this program)")
    given = measure.given(parser, peer=False)
    if given.side:
        way, folder, answer = given.side
        print(json.dumps(side(way, Path(folder), int(answer), 1 if given.quick else 3)))
        return
    answer = QUICK_ANSWER if given.quick else ANSWER
    with tempfile.TemporaryDirectory() as work:
        folder = given.model
        if folder is None:
            folder = Path(work) / "model"
            random_model(folder, given.quick)
        command = [sys.executable, __file__, *(["--quick"] if given.quick else []), "--side"]
        sides = {way: [*command, way, folder, str(answer)] for way in WAYS}
        threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1))
        found = measure.alternate(sides, 1 if given.quick else given.rounds, {"OMP_NUM_THREADS": threads})
        cost = None
        if given.model is not None and given.text is not None:
            cost = quality(folder, given.text.read_text(encoding="utf-8", errors="replace"))
    said = {way: found[way][0].pop("said") for way in WAYS}
    for rounds in found.values():
        for one in rounds[1:]:
            one.pop("said")
    alike = {way: said[way] == said["naive"] for way in ("cache", "engine", "compiled")}
    rate = {way: measure.median(found[way], "tokens_per_second") for way in WAYS}
    claims = [
        Claim("the plain way, and int8", rate["int8"], rate["naive"], "tokens/s", "higher", times=TARGET),
        Claim("the plain way, and float32", rate["compiled"], rate["naive"], "tokens/s", "higher"),
        Claim(
            *("int8 alone, and eight at once", rate["together"], rate["int8"], "tokens/s", "higher"),
            times=TOGETHER_TARGET,
        ),
    ]
    factors = {way: rate[way] / rate[before] for before, way in itertools.pairwise(WAYS)}
    for way in WAYS:
        measure.say(f"{way:9s} {rate[way]:8.1f} tokens/s  x{factors.get(way, 1):.2f}")
    spread = {way: measure.spread(found[way], "tokens_per_second") for way in WAYS}
    details = {"factors": factors, "same_tokens_in_float32": alike, "bits_per_byte": cost, "tokens": answer}
    packages = ("transformers",)
    measure.report(
        result("speedup", claims, spread, details, quick=given.quick, packages=packages), given.save
    )


if __name__ == "__main__":
    main()
