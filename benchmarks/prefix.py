"""The prefix cache: time to the first token behind a system prompt that another request has brought already.

Every round makes up a new system prompt of 1,000 tokens. The first request that begins with it reads all of
it, the second finds its pages; both then read 20 tokens of their own. The peer is the first request.

    python benchmarks/prefix.py
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import decoder_sides as sides
import measure
from claims import Claim, result

from ingot import device
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.engine import Engine
from ingot.tokenizer import Tokenizer

SYSTEM, OWN = 1000, 20


def first_token_ms(engine: Engine, prompt: list[int]) -> float:
    """Returns the milliseconds from a request to its first token."""
    start = time.perf_counter()
    request = engine.submit(prompt, Sampling(temperature=0, max_new_tokens=1))
    while request.finish_reason is None:
        engine.step()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    """Takes all figures."""
    parser = measure.arguments(__doc__)
    given = measure.given(parser, peer=False)
    device.prepare_threads()
    rounds = 2 if given.quick else 4 * given.rounds
    times: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sides.write_folder(folder, given.quick)
        engine = Engine(sides.our_model(folder, "bf16"), Tokenizer.load(folder))
        for number in range(rounds + 1):  # one to warm up
            system = sides.prompt_tokens(SYSTEM, seed=3 * number)
            own = [sides.prompt_tokens(OWN, seed=3 * number + i) for i in (1, 2)]
            times.append(
                {
                    "unknown": first_token_ms(engine, system + own[0]),
                    "known": first_token_ms(engine, system + own[1]),
                }
            )
        usage = engine.usage()
    found = {side: measure.median(times[1:], side) for side in ("unknown", "known")}
    claim = Claim(
        "time to the first token, 1,000 tokens known",
        found["known"],
        found["unknown"],
        "ms",
        "lower",
        times=5.0,
    )
    spread = {"ours": measure.spread(times[1:], "known"), "peer": measure.spread(times[1:], "unknown")}
    details = {"prefix_hits": usage.prefix_hits, "prefix_queries": usage.prefix_queries}
    measure.report(result("prefix", [claim], spread, details, quick=given.quick), given.save)


if __name__ == "__main__":
    main()
