"""Decoding on CPUs: tokens per second of one conversation and of sixteen, beside llama.cpp and transformers.

```
batch 1     ours bf16      transformers bf16      llama.cpp BF16
            ours int8                             llama.cpp Q8_0
batch 16    ours bf16      transformers bf16
```

The model is of Qwen3's shape, 27 M parameters, random weights. A token reads all weights once, so figures of
batch 1 are given as a share of the memory's bandwidth too, measured on a buffer the size of the weights.

    python benchmarks/decode.py --llama-bin llama.cpp/build/bin
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

import decoder_sides as sides
import measure
from claims import Claim, result

from ingot import device


def main() -> None:
    """Takes all figures."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--llama-bin", type=Path, help="folder of llama-bench; without it that side is null")
    parser.add_argument("--tokens", type=int, default=128, help="of an answer")
    parser.add_argument("--repeats", type=int, default=5, help="answers in each round; the median counts")
    given = measure.given(parser, peer=False)
    device.prepare_threads()
    tokens, repeats, rounds = (8, 1, 1) if given.quick else (given.tokens, given.repeats, given.rounds)
    peers = importlib.util.find_spec("transformers") is not None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parameters = sides.write_folder(folder, given.quick)
        apart = sides.apart(folder) if peers else None
        measure.say(f"logits from those of fp32: {json.dumps(apart)}")
        commands: dict[str, Any] = {}
        for rows in (1, 16):
            shape = {"rows": rows, "prompt": 4, "tokens": tokens, "repeats": repeats}
            for kind in ("bf16", "int8"):
                commands[f"ours {kind} x{rows}"] = sides.command(folder, "ours", kind, **shape)
            if peers:
                commands[f"transformers bf16 x{rows}"] = sides.command(
                    folder, "transformers", "bf16", **shape
                )
        if given.llama_bin:
            from ingot.export.gguf import export_gguf

            for kind in ("bf16", "q8_0"):
                file = folder / f"{kind}.gguf"
                export_gguf(folder, file, kind)
                commands[f"llama.cpp {kind} x1"] = sides.llama(
                    given.llama_bin, file, 0, tokens, repeats, device.threads()
                )
        figures = measure.alternate(commands, rounds)
    found = {side: sides.figure(one, "decode") for side, one in figures.items()}
    rate = {side: one[0] for side, one in found.items()}
    read = {"bf16": 2 * parameters, "int8": parameters}
    bandwidths = {kind: sides.bandwidth(size) for kind, size in read.items()}
    shares = {kind: rate[f"ours {kind} x1"] * size / bandwidths[kind] for kind, size in read.items()}

    def claim(what: str, ours: str, peer: str, times: float) -> Claim:
        return Claim(what, rate[ours], rate.get(peer), "tokens/s", "higher", times=times)

    claims = [
        claim("bf16 against llama.cpp BF16", "ours bf16 x1", "llama.cpp bf16 x1", 1.2),
        claim("int8 against llama.cpp Q8_0", "ours int8 x1", "llama.cpp q8_0 x1", 1.0),
        claim("int8 against our bf16", "ours int8 x1", "ours bf16 x1", 1.5),
        claim("bf16 against transformers", "ours bf16 x1", "transformers bf16 x1", 1.0),
        claim("16 at once against transformers", "ours bf16 x16", "transformers bf16 x16", 1.0),
    ]
    details = {
        "rates": {side: {"median": one[0], "spread": one[1]} for side, one in found.items()},
        "bandwidth": bandwidths,
        "share_of_bandwidth": shares,
        "parameters": parameters,
        "check": {"relative_distance_of_logits": apart},
    }
    spread = {"ours": found["ours bf16 x1"][1], "peer": found.get("llama.cpp bf16 x1", (None, None))[1]}
    measure.report(
        result("decode", claims, spread, details, quick=given.quick, packages=("transformers",)), given.save
    )


if __name__ == "__main__":
    main()
