"""Surgery: what a changed model answers, and what it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ingot.errors import ConfigError
from ingot.export.arrival import arrive
from ingot.export.surgery import Made, remake
from ingot.export.vocabulary import extended
from ingot.models import huggingface
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.models.surgery.context import stretched
from ingot.models.surgery.depth import deepened, same_answers
from ingot.models.surgery.upcycling import upcycled
from ingot.models.surgery.vocabulary import sources, with_rows
from ingot.nn.experts import Experts
from ingot.nn.feed_forward import GatedFeedForward
from ingot.objectives.causal import CausalLM
from ingot.optim.joint import OptimizerConfig
from ingot.record import read
from ingot.tokenizer import surgery
from ingot.tokenizer.tokenizer import Tokenizer

SIZES: dict[str, Any] = {
    "vocabulary": 50,
    "width": 24,
    "layers": 4,
    "heads": 3,
    "kv_heads": 1,
    "head_width": 8,
    "feed_forward": 40,
    "context": 32,
}
LLAMA: dict[str, Any] = {"head_norm": None}
GPT2: dict[str, Any] = {
    "norm": "layer_bias",
    "head_norm": None,
    "positions": "learned",
    "activation": "gelu_tanh",
    "bias": ("query", "key", "value", "output", "up", "down"),
    "tied": True,
    "kv_heads": 3,
}
OLMO2: dict[str, Any] = {"arrangement": "post", "head_norm": "whole"}
GEMMA: dict[str, Any] = {
    "norm": "rms_one",
    "head_norm": None,
    "arrangement": "sandwich",
    "activation": "geglu_tanh",
    "tied": True,
    "window": 8,
    "local_layers": (0, 2),
    "logit_cap": 30.0,
    "embedding_scale": 5.0,
}
NEOX: dict[str, Any] = GPT2 | {"arrangement": "parallel", "positions": "rotary", "tied": False}
ALL = [{}, LLAMA, GPT2, OLMO2, GEMMA, NEOX]


def model(**changes: Any) -> Decoder:
    made = DecoderConfig.parse(SIZES | changes).build(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return made.eval()


TOKENS = torch.randint(0, 50, (2, 20), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("parts", ALL)
def test_added_rows_leave_the_logits_of_old_tokens(parts: dict[str, Any]) -> None:
    before = model(**parts)
    after = with_rows(before, [*([row] for row in range(50)), None, [3, 4, 4]])
    assert after.config == before.config.model_copy(update={"vocabulary": 52})
    assert same_answers(before, after, TOKENS) <= 1e-6
    for old, new in ((before.embedding, after.embedding), (before.head, after.head)):
        assert torch.equal(new.weight[:50], old.weight)
        torch.testing.assert_close(new.weight[50], old.weight.double().mean(0).float())
        torch.testing.assert_close(new.weight[51], (old.weight[3] + 2 * old.weight[4]) / 3)


def test_a_new_token_at_the_mean_is_about_as_likely_as_the_average_one() -> None:
    before = model()
    after = with_rows(before, [*([row] for row in range(50)), None])
    with torch.no_grad():
        logits = after(TOKENS).logits
        torch.testing.assert_close(logits[..., 50], logits[..., :50].mean(-1), rtol=1e-4, atol=1e-5)


def test_dropped_and_reordered_rows_follow_their_tokens() -> None:
    before = model()
    order = [7, 49, 0, 12]
    after = with_rows(before, [[row] for row in order])
    inverse = {old: new for new, old in enumerate(order)}
    theirs = torch.tensor([[7, 0, 12, 12, 49]])
    ours = torch.tensor([[inverse[int(token)] for token in theirs[0]]])
    with torch.no_grad():
        torch.testing.assert_close(after(ours).logits, before(theirs).logits[..., order])


def test_a_row_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no row 50 among the 50"):
        with_rows(model(), [[50]])


def test_sources_say_which_pieces_a_word_was() -> None:
    tokenizer = Tokenizer.train(["low lower lowest newer"] * 5, 300)
    changed = surgery.extend(tokenizer, words=[" zebra"], controls=["<|tool|>"])
    found = sources(tokenizer, changed.tokenizer, changed.ids, "pieces")
    assert found[: tokenizer.vocab_size] == [[token] for token in range(tokenizer.vocab_size)]
    zebra, tool = changed.tokenizer.encode(" zebra")[0], changed.tokenizer.special["<|tool|>"]
    assert found[zebra] == tokenizer.encode(" zebra") and len(found[zebra] or ()) > 1
    assert found[tool] is None
    pruned = surgery.prune(tokenizer, ["low"])
    kept = sources(tokenizer, pruned.tokenizer, pruned.ids)
    for token, source in enumerate(kept):
        assert source is not None
        assert tokenizer.token(source[0]) == pruned.tokenizer.token(token)
    assert len(sources(tokenizer, tokenizer, np.arange(300), rows=320)) == 320


@pytest.mark.parametrize("parts", ALL)
@pytest.mark.parametrize("layers", [5, 8, 11])
def test_silent_layers_change_no_answer_and_learn(parts: dict[str, Any], layers: int) -> None:
    before = model(**parts)
    after = deepened(before, layers)
    assert after.config.layers == len(after.blocks) == layers
    assert same_answers(before, after, TOKENS) == 0
    with torch.no_grad():
        x = torch.randn(1, 6, 24, generator=torch.Generator().manual_seed(0))
        silent = sum(torch.equal(_through(after, number, x), x) for number in range(layers))
    assert silent == layers - 4
    after.train()
    optimizer = OptimizerConfig(name="adamw", rate=0.01).build(after)
    for _ in range(2):  # the first step moves what adds; the second can move what is behind it
        optimizer.zero_grad()
        CausalLM().loss(after, {"inputs": TOKENS[:, :-1], "targets": TOKENS[:, 1:]}).sum.backward()
        optimizer.step(1.0)
    with torch.no_grad():
        still = sum(torch.equal(_through(after, number, x), x) for number in range(layers))
    assert still == 0


def _through(decoder: Decoder, layer: int, x: torch.Tensor) -> torch.Tensor:
    """What one layer makes of x."""
    from ingot.nn.attention import causal

    angles = None if decoder.rotary is None else decoder.rotary.angles(None, x.shape[1])
    made: torch.Tensor = decoder.blocks[layer](x, angles, layer, causal)
    return made


def test_local_layers_stay_of_their_kind() -> None:
    after = deepened(model(**GEMMA), 8)
    assert after.config.local_layers == (0, 1, 4, 5)


def test_solar_takes_the_first_layers_and_the_last() -> None:
    before = model()
    after = deepened(before, 6, "solar")
    for place, source in enumerate([0, 1, 2, 1, 2, 3]):
        for name, tensor in before.blocks[source].state_dict().items():
            assert torch.equal(after.blocks[place].state_dict()[name], tensor)
    assert same_answers(before, after, TOKENS) > 0.01
    with pytest.raises(ConfigError, match="more than twice"):
        deepened(before, 9, "solar")
    with pytest.raises(ConfigError, match="no more than the 4"):
        deepened(before, 4)


@pytest.mark.parametrize("parts", [{}, LLAMA, GEMMA, OLMO2])
@pytest.mark.parametrize(("experts", "chosen", "every"), [(4, 2, 1), (3, 1, 2), (8, 8, 3)])
def test_upcycled_experts_answer_as_the_dense_model(
    parts: dict[str, Any], experts: int, chosen: int, every: int
) -> None:
    before = model(**parts)
    after = upcycled(before, experts, chosen, every)
    assert same_answers(before, after, TOKENS) <= 1e-4
    kinds = [type(block.feed_forward) for block in after.blocks]
    wanted = [Experts if (3 - layer) % every == 0 else GatedFeedForward for layer in range(4)]
    assert kinds == wanted
    once = upcycled(before, experts, chosen, every, seed=1)
    routers = [name for name in after.state_dict() if name.endswith("router.weight")]
    assert routers and all(not torch.equal(after.state_dict()[n], once.state_dict()[n]) for n in routers)


def test_upcycled_experts_come_apart_in_training() -> None:
    after = upcycled(model(), 4, 2).train()
    optimizer = OptimizerConfig(name="adamw", rate=0.01).build(after)
    batch = {"inputs": TOKENS[:, :-1], "targets": TOKENS[:, 1:]}
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = CausalLM().loss(after, batch)
        (loss.sum / 38).backward()
        optimizer.step(1.0)
        losses.append(float(loss.sum.detach()))
    assert losses[-1] < 0.7 * losses[0]
    stacked = after.blocks[0].feed_forward.get_parameter("experts.up.weight")
    assert not torch.allclose(stacked[0], stacked[1], atol=1e-3)


def test_what_has_no_experts_to_be_made_of_is_refused() -> None:
    with pytest.raises(ConfigError, match="biases on down, up"):
        upcycled(model(**GPT2), 4)
    with pytest.raises(ConfigError, match="activation squared_relu"):
        upcycled(model(activation="squared_relu"), 4)
    with pytest.raises(ConfigError, match="4 experts per layer already"):
        upcycled(upcycled(model(), 4), 4)


def test_stretched_positions_turn_as_their_papers_say() -> None:
    config = DecoderConfig.parse(SIZES)
    theta, linear, yarn = (stretched(config, 128, method) for method in ("theta", "linear", "yarn"))
    assert [one.context for one in (theta, linear, yarn)] == [128, 128, 128]
    plain, longer = config.rotary(), linear.rotary()
    assert plain is not None and longer is not None
    there = longer.angles(None, 128)[0][4 * torch.arange(32)]
    torch.testing.assert_close(there, plain.angles(None, 32)[0], rtol=0, atol=1e-5)
    # Static NTK: the slowest frequency turns a quarter as fast, the quickest as before.
    slow = [base ** -(6 / 8) for base in (config.rope_theta, theta.rope_theta)]
    assert slow[0] / slow[1] == pytest.approx(4.0)
    assert yarn.rope_scaling is not None and yarn.rope_scaling.original_context == 32
    with pytest.raises(ConfigError, match="stretched already"):
        stretched(yarn, 256, "theta")
    with pytest.raises(ConfigError, match="only rotary"):
        stretched(DecoderConfig.parse(SIZES | GPT2), 64, "theta")
    with pytest.raises(ConfigError, match="not longer"):
        stretched(config, 32, "theta")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = Tokenizer.train(["low lower lowest newer newest"] * 5, 300)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    huggingface.save(elsewhere, model(vocabulary=tokenizer.vocab_size), torch.bfloat16)
    tokenizer.save(elsewhere)
    arrive(elsewhere, tmp_path / "low")
    return tmp_path / "low"


def test_a_remade_folder_knows_its_parent_and_loads(folder: Path, tmp_path: Path) -> None:
    def words(one: Decoder, tokenizer: Tokenizer) -> Made:
        return extended(one, tokenizer, words=[" zebra"], controls=["<|tool|>"], multiple=64, start="pieces")

    told = remake(folder, tmp_path / "more", "extend", {"words": [" zebra"]}, words)
    assert told.vocabulary == 320 and told.difference <= 1e-2  # bf16
    record = read(tmp_path / "more").record
    assert record.parents["model"]["fingerprint"] == read(folder).record.fingerprint
    assert (record.stage, record.config["words"], record.config["dtype"]) == ("extend", [" zebra"], "bf16")
    loaded, tokenizer = huggingface.load(tmp_path / "more"), Tokenizer.load(tmp_path / "more")
    assert tokenizer.vocab_size == loaded.config.vocabulary == 320
    assert len(tokenizer.encode(" zebra")) == 1
    old = huggingface.load(folder).embedding.weight
    assert torch.equal(loaded.embedding.weight[: len(old)], old)

    experts = remake(folder, tmp_path / "many", "upcycle", {}, lambda m, t: Made(upcycled(m, 4), t, []))
    assert experts.difference <= 5e-2  # bf16
    mixture = huggingface.load(tmp_path / "many")
    assert mixture.config.experts is not None and mixture.config.experts.count == 4
    with pytest.raises(ConfigError, match="nothing is added"):
        remake(folder, tmp_path / "none", "extend", {}, lambda m, t: extended(m, t))
    assert not (tmp_path / "none").exists()
