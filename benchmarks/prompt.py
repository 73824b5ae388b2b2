"""Reading prompts on CPUs: tokens per second up to the first token, beside llama.cpp and transformers.

The model is that of `decode.py`; prompts of 128, 512 and 1,024 tokens, bf16 and int8. What a processor with
tiles for matrices (AMX) makes of bf16 products is another matter than what one without them does: the target
of four times llama.cpp holds for the former.

    python benchmarks/prompt.py --llama-bin llama.cpp/build/bin
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import decoder_sides as sides
import measure
from claims import Claim, result

from ingot import device

LENGTHS = (128, 512, 1024)
TARGET = 4.0  # set on a processor with AMX tiles, which our step does not use yet


def main() -> None:
    """Takes all figures."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--llama-bin", type=Path, help="folder of llama-bench; without it that side is null")
    parser.add_argument("--repeats", type=int, default=5, help="prompts in each round; the median counts")
    given = measure.given(parser, peer=False)
    device.prepare_threads()
    repeats, rounds = (1, 1) if given.quick else (given.repeats, given.rounds)
    lengths = LENGTHS[:1] if given.quick else LENGTHS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sides.write_folder(folder, given.quick)
        commands: dict[str, Any] = {}
        for length in lengths:
            shape = {"rows": 1, "prompt": length, "tokens": 1, "repeats": repeats}
            for kind in ("bf16", "int8"):
                commands[f"ours {kind} {length}"] = sides.command(folder, "ours", kind, **shape)
            if importlib.util.find_spec("transformers") is not None:
                commands[f"transformers bf16 {length}"] = sides.command(
                    folder, "transformers", "bf16", **shape
                )
        if given.llama_bin:
            from ingot.export.gguf import export_gguf

            for kind in ("bf16", "q8_0"):
                file = folder / f"{kind}.gguf"
                export_gguf(folder, file, kind)
                for length in lengths:
                    commands[f"llama.cpp {kind} {length}"] = sides.llama(
                        given.llama_bin, file, length, 0, repeats, device.threads()
                    )
        figures = measure.alternate(commands, rounds)
    found = {side: sides.figure(one, "prompt") for side, one in figures.items()}
    rate = {side: one[0] for side, one in found.items()}
    claims = [
        Claim(
            f"{ours} against {peer}, {length} tokens",
            rate[f"ours {ours} {length}"],
            rate.get(f"{peer} {length}"),
            "tokens/s",
            "higher",
            times=least,
        )
        for length in sorted(lengths, key=lambda length: length != 512)
        for ours, peer, least in (
            ("bf16", "llama.cpp bf16", TARGET),
            ("int8", "llama.cpp q8_0", 1.0),
            ("bf16", "transformers bf16", 1.0),
        )
    ]
    main_ = 512 if 512 in lengths else lengths[0]
    details = {"rates": {side: {"median": one[0], "spread": one[1]} for side, one in found.items()}}
    spread = {
        "ours": found[f"ours bf16 {main_}"][1],
        "peer": found.get(f"llama.cpp bf16 {main_}", (None, None))[1],
    }
    measure.report(
        result("prompt", claims, spread, details, quick=given.quick, packages=("transformers",)), given.save
    )


if __name__ == "__main__":
    main()
