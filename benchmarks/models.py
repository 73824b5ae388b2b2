"""Each family beside `transformers`: forwards, forwards and backwards, and answering, on the same weights.

```
            forward      8 x 256 tokens, no gradient
            training     8 x 256 tokens, loss and gradients
            generation   96 tokens behind prompts of 32, one by one with the cache, batch 1
```

Each side is a fresh process with the same number of threads and the same folder of weights (float32); sides
take turns. Memory is how far the process grew beyond what it held before its first pass. Families are those
of `ingot bench parity`, larger: width 256, four layers, 4,096 entries.

    python benchmarks/models.py
    python benchmarks/models.py --families llama3 mixtral --rounds 5
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
from claims import Claim, result

TARGET = 1.3
SIZES = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model"), 256),
    **dict.fromkeys(("intermediate_size", "n_inner", "d_ff"), 768),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 512),
    **dict.fromkeys(("head_dim", "d_kv"), 64),
    "vocab_size": 4096,
    "moe_intermediate_size": 384,
    "sliding_window": 128,
    "local_attention": 128,
    "query_pre_attn_scalar": 64,
    "kv_lora_rank": 64,
    "q_lora_rank": 96,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
}
SHAPE, PROMPT, ANSWER = (8, 256), 32, 96
QUICK_SHAPE, QUICK_ANSWER = (2, 32), 8
SECONDS = 1.5  # that a figure is taken over, at least two calls
PARTS = ("forward", "training", "generation")


def side(name: str, family: str, folder: Path, quick: bool) -> dict[str, Any]:
    """Measures one side in this process."""
    import torch

    from ingot.bench.doors import DOORS
    from ingot.bench.published import chosen, reference

    one = chosen([family])[0]
    door = DOORS[one.kind]
    shape, answer = (QUICK_SHAPE, QUICK_ANSWER) if quick else (SHAPE, ANSWER)
    ours = name == "ours"
    if ours:
        model = door.load(folder, torch.float32)
        logits, greedy = door.logits, door.greedy
    else:
        model = getattr(reference(), one.model).from_pretrained(folder, dtype=torch.float32).eval()
        logits, greedy = door.their_logits, door.their_greedy
    tokens = torch.randint(3, SIZES["vocab_size"], shape, generator=torch.Generator().manual_seed(0))
    targets = tokens.roll(-1, 1).flatten()

    def forward() -> None:
        with torch.inference_mode():
            logits(model, tokens)

    def training() -> None:
        said = logits(model, tokens).flatten(0, 1)
        torch.nn.functional.cross_entropy(said, targets).backward()
        model.zero_grad(set_to_none=True)

    def generation() -> None:
        assert greedy is not None
        greedy(model, tokens[0, : min(PROMPT, shape[1])], answer)

    calls: dict[str, Callable[[], None]] = {"forward": forward, "training": training}
    if greedy is not None:
        calls["generation"] = generation
    found: dict[str, Any] = {}
    for part, call in calls.items():
        found[f"{part} memory"] = memory(call)
        found[part] = seconds(call, 0.0 if quick else SECONDS)
    return found


def seconds(call: Callable[[], None], least: float) -> float:
    """Returns the median seconds of a call."""
    taken: list[float] = []
    while sum(taken) < least or len(taken) < 2:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def memory(call: Callable[[], None]) -> float | None:
    """Returns how many bytes this process grows by in a call, at most; None where the system does not say."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None

    def held(what: str) -> float:
        line = next(line for line in status.read_text().splitlines() if line.startswith(what))
        return 1024.0 * float(line.split()[1])

    before = held("VmRSS")
    reset.write_text("5")  # the peak counts from here on
    call()
    return held("VmHWM") - before


def main() -> None:
    """Runs all families and prints one JSON object."""
    parser = measure.arguments(__doc__ or "")
    parser.add_argument("--families", nargs="*", default=[], help="which of them  [default: all]")
    parser.add_argument("--side", nargs=3, help="(one side, one family, its folder: used by this program)")
    given = measure.given(parser, peer=False)
    if given.side:
        which, family, folder = given.side
        print(json.dumps(side(which, family, Path(folder), given.quick)))
        return
    from ingot.bench.published import chosen, write

    rows: dict[str, dict[str, Any]] = {}
    claims: list[Claim] = []
    for one in chosen(given.families):
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work) / "model"
            write(one, folder, changes=SIZES)
            command = [sys.executable, __file__, *(["--quick"] if given.quick else []), "--side"]
            sides = {name: [*command, name, one.name, folder] for name in ("ours", "transformers")}
            threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1))
            found = measure.alternate(sides, 1 if given.quick else given.rounds, {"OMP_NUM_THREADS": threads})
        rows[one.name] = {}
        for part in PARTS:
            if part not in found["ours"][0]:
                continue
            ours, peer = (measure.median(found[name], part) for name in ("ours", "transformers"))
            claims.append(Claim(f"{one.name}: {part}", ours, peer, "s", "lower", times=TARGET))
            held = {name: [row[f"{part} memory"] for row in found[name]] for name in found}
            rows[one.name][part] = {
                "ours": ours,
                "transformers": peer,
                "ratio": peer / ours,
                "spread": {name: measure.spread(found[name], part) for name in found},
                "memory": held,
            }
    ratios = [claim.ratio for claim in claims if claim.ratio is not None]
    measure.say(f"slowest {min(ratios):.2f}, median {statistics.median(ratios):.2f} times transformers")
    spread = {name: {part: row["spread"] for part, row in parts.items()} for name, parts in rows.items()}
    details = {"families": rows, "slowest": min(ratios), "median": statistics.median(ratios)}
    report = result("models", claims, spread, details, quick=given.quick, packages=("transformers",))
    measure.report(report, given.save)


if __name__ == "__main__":
    main()
