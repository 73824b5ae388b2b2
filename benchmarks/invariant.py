"""What batch invariance costs: tokens per second with and without, and how many answers company changes.

```
compiled    the compiled step, which is batch-invariant by itself    against PyTorch's own kernels
tiled       PyTorch in tiles of fixed rows, for all other models     against PyTorch's own kernels
answers     made alone and in company: how many differ in a bit, for each
```

In fp32, greedy, on the model of `decode.py`; 16 requests at once, one alone, and a prompt of 512 tokens.

    python benchmarks/invariant.py
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import decoder_sides as sides
import measure
from claims import Claim, result

from ingot import device
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.computing.invariant import Invariance
from ingot.inference.computing.native import runner as native_runner
from ingot.inference.computing.paged_attention import TorchRunner
from ingot.inference.engine import Engine
from ingot.tokenizer import Tokenizer

WORK = {"16 at once": (16, 32), "one alone": (1, 32), "prompt": (1, 512)}


def rates(engine: Engine, tokens: int, seed: int) -> dict[str, float]:
    """Tokens per second of each kind of work."""
    found = {}
    for what, (rows, prompt) in WORK.items():
        if what == "prompt":
            prompt, made = min(prompt, engine.context // 2), 1
        else:
            made = tokens
        sampling = Sampling(temperature=0, max_new_tokens=made)
        requests = [
            engine.submit(sides.prompt_tokens(prompt, seed=seed + row), sampling) for row in range(rows)
        ]
        start = time.perf_counter()
        if what != "prompt":
            while not all(request.tokens for request in requests):
                engine.step()
            start = time.perf_counter()
        while any(request.finish_reason is None for request in requests):
            engine.step()
        counted = prompt if what == "prompt" else rows * (made - 1)
        found[what] = counted / (time.perf_counter() - start)
    return found


def changed_by_company(build: Callable[[], Engine], tokens: int, answers: int) -> int:
    """Returns how many answers differ in a bit of a logprob when they are made alone and together."""
    prompts = [sides.prompt_tokens(5 + 7 * row, seed=row) for row in range(answers)]
    sampling = Sampling(temperature=0, max_new_tokens=tokens)
    together = build().generate(prompts, sampling)
    alone = [build().generate([prompt], sampling)[0] for prompt in prompts]
    return sum((a.tokens, a.logprobs) != (b.tokens, b.logprobs) for a, b in zip(together, alone, strict=True))


def main() -> None:
    """Takes all figures."""
    parser = measure.arguments(__doc__)
    given = measure.given(parser, peer=False)
    device.prepare_threads()
    rounds, tokens, answers = (1, 3, 4) if given.quick else (given.rounds, 24, 16)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sides.write_folder(folder, given.quick)
        model, tokenizer = sides.our_model(folder, "fp32"), Tokenizer.load(folder)
        kinds: dict[str, Callable[[], Engine]] = {
            "plain": lambda: Engine(model, tokenizer, runner=TorchRunner(model)),
            "tiled": lambda: Engine(model, tokenizer, invariant=Invariance(compiled=False)),
        }
        if native_runner(model) is not None:
            kinds["compiled"] = lambda: Engine(model, tokenizer, invariant=Invariance())
        engines = {kind: build() for kind, build in kinds.items()}
        taken: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
        for number in range(rounds + 1):  # one to warm up
            for kind, engine in engines.items():
                taken[kind].append(rates(engine, tokens, seed=1000 * number))
        changed = {kind: changed_by_company(build, tokens, answers) for kind, build in kinds.items()}
    median = {
        kind: {what: statistics.median(one[what] for one in some[1:]) for what in WORK}
        for kind, some in taken.items()
    }
    nobody: dict[str, float] = {}
    claims = [
        Claim(
            f"{kind} against PyTorch's own kernels, {what}",
            median.get(kind, nobody).get(what),
            median["plain"][what],
            "tokens/s",
            "higher",
            times=1.0 if kind == "compiled" else None,
        )
        for kind in ("compiled", "tiled")
        for what in WORK
    ]
    claims += [
        Claim(f"answers that company changes, {kind}", changed.get(kind), None, "answers", "lower", limit=0)
        for kind in ("compiled", "tiled")
    ]
    claims.append(
        Claim("answers that company changes, plain", changed["plain"], None, "answers", "lower", limit=None)
    )
    first = "16 at once"
    spread = {
        side: measure.spread(taken[kind][1:], first) if kind in taken else None
        for side, kind in (("ours", "compiled"), ("peer", "plain"))
    }
    details = {"answers": answers, "rows": Invariance().rows, "rates": median}
    measure.report(result("invariant", claims, spread, details, quick=given.quick), given.save)


if __name__ == "__main__":
    main()
