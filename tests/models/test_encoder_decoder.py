"""The encoder-decoder: PyTorch's Transformer with the same weights, writing, and tasks of length 20."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ingot.data.stream import WHOLE, Part
from ingot.errors import ArtifactError, ConfigError, DataError, RequestError
from ingot.models import encoder_decoder_folder
from ingot.models.describe import tree
from ingot.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from ingot.models.encoder_decoder_writing import PLACES, write
from ingot.models.families import t5
from ingot.objectives.objective import Batch
from ingot.objectives.seq2seq import Seq2Seq
from ingot.optim.joint import OptimizerConfig
from ingot.progress import Progress
from ingot.train.trainer import TrainConfig, Trainer

SIZES: dict[str, Any] = {
    "vocabulary": 50,
    "width": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "heads": 4,
    "head_width": 8,
    "feed_forward": 48,
    "context": 200,
}
KINDS: dict[str, dict[str, Any]] = {
    "original": {"last_norm": False, "embedding_scale": 32**0.5},
    "t5": {**t5.PARTS, "activation": "geglu_tanh", "tied": False},
}


def built(kind: str = "original", **changes: Any) -> EncoderDecoder:
    """A model with weights far from where training starts."""
    model = EncoderDecoderConfig.parse({**SIZES, **KINDS[kind], **changes}).build(3)
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def texts() -> tuple[Tensor, Tensor]:
    """Sources of different lengths, and targets."""
    torch.manual_seed(1)
    source, tokens = torch.randint(2, 50, (3, 13)), torch.randint(2, 50, (3, 9))
    source[1, 6:] = 0
    source[2, 1:] = 0
    return source, tokens


@torch.no_grad()
def weights_of(theirs: nn.Transformer) -> dict[str, Tensor]:
    """PyTorch's weights by our names."""
    names: dict[str, nn.Module] = {"encoder.norm": theirs.encoder.norm, "decoder.norm": theirs.decoder.norm}
    state: dict[str, Tensor] = {}
    for side, stack in (("encoder", theirs.encoder), ("decoder", theirs.decoder)):
        for number, layer in enumerate(stack.layers):
            block = f"{side}.blocks.{number}"
            norms = ["attention_norm", "crossing_norm", "feed_forward_norm"]
            heads = {"attention": layer.self_attn}
            if side == "decoder":
                heads["crossing"] = layer.multihead_attn
            else:
                norms.pop(1)
            for place, name in enumerate(norms, 1):
                names[f"{block}.{name}"] = getattr(layer, f"norm{place}")
            names |= {f"{block}.feed_forward.up": layer.linear1, f"{block}.feed_forward.down": layer.linear2}
            for name, part in heads.items():
                names[f"{block}.{name}.output"] = part.out_proj
                for kind, rows in (("weight", part.in_proj_weight), ("bias", part.in_proj_bias)):
                    each = zip(("query", "key", "value"), rows.chunk(3), strict=True)
                    state |= {f"{block}.{name}.{one}.{kind}": chunk for one, chunk in each}
    for name, module in names.items():
        if module is not None:
            state |= {f"{name}.{kind}": getattr(module, kind) for kind in ("weight", "bias")}
    return state


@pytest.mark.parametrize("last_norm", [True, False])
@pytest.mark.parametrize("arrangement", ["post", "pre"])
@torch.no_grad()
def test_logits_are_those_of_torch(arrangement: str, last_norm: bool) -> None:
    torch.manual_seed(4)
    theirs = nn.Transformer(32, 4, 2, 3, 48, dropout=0.0, batch_first=True, norm_first=arrangement == "pre")
    if not last_norm:
        theirs.encoder.norm = theirs.decoder.norm = None
    for parameter in theirs.parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter) * 0.2)
    parts = {"arrangement": arrangement, "last_norm": last_norm}
    model = built(**parts)
    told = model.load_state_dict(weights_of(theirs), strict=False)
    assert told.missing_keys == ["embedding.weight", "head.weight"] and not told.unexpected_keys
    source, tokens = texts()
    place = torch.arange(200)[:, None] / 10_000 ** (torch.arange(0, 32, 2) / 32)
    waves = torch.stack((place.sin(), place.cos()), -1).flatten(1)  # equation of section 3.5
    table = model.embedding.weight
    padded = source == 0
    out = theirs(
        table[source] * 32**0.5 + waves[:13],
        table[tokens] * 32**0.5 + waves[:9],
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(9),
        src_key_padding_mask=padded,
        memory_key_padding_mask=padded,
    )
    expected = out @ table.T
    assert expected.std() > 0.5
    assert (model(source, tokens).logits - expected).abs().max() <= 1e-5
    assert torch.equal(model(source, tokens, ~padded).logits, model(source, tokens).logits)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_padding_of_a_source_changes_nothing(kind: str) -> None:
    model = built(kind)
    source, tokens = texts()
    wider = pad(source, (0, 30))
    assert torch.allclose(model(source, tokens).logits, model(wider, tokens).logits, atol=1e-4)
    alone = model(source[1:2, :6], tokens[1:2]).logits
    assert torch.allclose(alone, model(source, tokens).logits[1:2], atol=1e-4)
    nothing = model(torch.zeros_like(source), tokens).logits
    assert bool(nothing.isfinite().all())


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_no_logit_knows_a_later_token_and_all_know_the_source(kind: str) -> None:
    model = built(kind)
    source, tokens = texts()
    other = tokens.clone()
    other[:, 5] = (other[:, 5] + 1) % 50
    one, two = model(source, tokens).logits, model(source, other).logits
    assert torch.equal(one[:, :5], two[:, :5]) and not torch.isclose(one[:, 5:], two[:, 5:]).all(-1).any()
    moved = source.clone()
    moved[0, 12] = (moved[0, 12] + 1) % 48 + 2
    far = model(moved, tokens).logits
    assert not torch.isclose(one[0], far[0]).all(-1).any() and torch.equal(one[1:], far[1:])


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_writing_with_caches_is_the_full_pass(kind: str) -> None:
    """Longer than the memory that is taken at first, and one row that ends before the others."""
    model = built(kind, decoder_layers=2)
    source, _ = texts()
    free, new = model.config.model_copy(update={"end": None}), PLACES + 6
    model.config = free
    made = write(model, source, new)
    whole = model(source, pad(made, (1, -1), value=free.begin)).logits
    assert made.shape == (3, new) and torch.equal(made, whole.argmax(-1))
    assert write(model, source, 0).shape == (3, 0)
    drawn = write(model, source, 5, choose=lambda logits: logits.argmin(-1))
    assert torch.equal(drawn[:, 0], whole[:, 0].argmin(-1))
    end = int(made[0, 3])
    model.config = free.model_copy(update={"end": end})
    for row, full in zip(write(model, source, new), made, strict=True):
        ends = (full == end).nonzero().flatten().tolist()
        last = ends[0] + 1 if ends else len(row)
        assert torch.equal(row[:last], full[:last]) and not row[last:].any()


@torch.no_grad()
def test_memory_is_made_once_for_many_targets() -> None:
    model = built("t5")
    source, tokens = texts()
    memory = model.encode(source)
    assert torch.equal(model.head(model.decode(tokens, memory)), model(source, tokens).logits)
    assert model(source, tokens, logits=False).logits is None
    assert torch.equal(model(source, tokens).memory, memory.states)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_model_predicts_evenly_and_learns_in_every_part(kind: str) -> None:
    model = EncoderDecoderConfig.parse({**SIZES, **KINDS[kind]}).build(5)
    source, tokens = texts()
    assert float(model(source, tokens).logits.detach().std()) < 2
    for name, parameter in model.named_parameters():  # outputs start at zero: give them something to say
        if name.endswith((".output.weight", ".down.weight", "head.weight")):
            nn.init.normal_(parameter, std=0.05)
    model(source, tokens).logits.square().sum().backward()
    still = [name for name, parameter in model.named_parameters() if not bool(parameter.grad.any())]
    assert [name for name in still if not name.endswith("key.bias")] == []  # softmax minds no shift
    again = EncoderDecoderConfig.parse({**SIZES, **KINDS[kind]}).build(5)
    other = EncoderDecoderConfig.parse({**SIZES, **KINDS[kind]}).build(6)
    first = EncoderDecoderConfig.parse({**SIZES, **KINDS[kind]}).build(5)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(again.embedding.weight, other.embedding.weight)


@pytest.mark.parametrize("kind", KINDS)
def test_short_numbers_are_near(kind: str) -> None:
    """bf16 by autocast, as in training; sources of padding alone stay finite there too."""
    model = built(kind)
    for parameter in model.parameters():  # sharp scores would make much of the last bits
        parameter.data.mul_(0.4 if parameter.dim() == 2 else 1.0)
    source, tokens = texts()
    source[2] = 0
    whole = model(source, tokens).logits
    with torch.autocast("cpu", torch.bfloat16):
        short = model(source, tokens).logits
    assert short.dtype == torch.bfloat16
    assert (short - whole).abs().max() < 0.1 * whole.abs().max()


def test_every_parameter_is_in_the_tree_once() -> None:
    model = built("t5")
    root = tree(model)
    assert root.total == sum(tensor.numel() for tensor in model.state_dict().values())
    blocks = {part.path: part.times for _, part in root.walk() if part.kind == "Block"}
    assert blocks == {"encoder.blocks.0": 2, "decoder.blocks.0": 3}


def test_dropout_is_off_outside_training() -> None:
    model = built(dropout=0.5)
    source, tokens = texts()
    assert torch.equal(model(source, tokens).logits, model(source, tokens).logits)
    model.train()
    assert not torch.equal(model(source, tokens).logits, model(source, tokens).logits)


def test_size_of_the_paper() -> None:
    """Vaswani et al. 2017, table 3: the base model has 65 million parameters, the big one 213."""
    parts = {
        "vocabulary": 37_000,
        "encoder_layers": 6,
        "decoder_layers": 6,
        "head_width": 64,
        "last_norm": False,
    }
    with torch.device("meta"):
        base = EncoderDecoderConfig(**parts, width=512, heads=8, feed_forward=2048)
        big = EncoderDecoderConfig(**parts, width=1024, heads=16, feed_forward=4096)
        assert round(EncoderDecoder(base).parameter_count() / 1e6) in (63, 64, 65)
        assert round(EncoderDecoder(big).parameter_count() / 1e6) in range(210, 216)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"padding": 50}, "padding .50. is outside the vocabulary"),
        ({"begin": 50}, "begin .50. is outside"),
        ({"end": 99}, "end .99. is outside"),
        ({"width": 31}, "must be even"),
        ({"positions": "relative", "furthest": 16}, "more than half of 32 buckets"),
        ({"activation": "relo"}, "relo"),
        ({"widht": 3}, "did you mean 'width'"),
    ],
)
def test_configurations_that_cannot_be(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        EncoderDecoderConfig.parse({**SIZES, **changes})


def test_what_cannot_be_written_or_saved_says_why(tmp_path: Path) -> None:
    model = built()
    with pytest.raises(RequestError, match="asked for are 201 tokens, the model's context is 200"):
        write(model, texts()[0], 201)
    with pytest.raises(RequestError, match="the source has 201 tokens"):
        write(model, torch.ones(1, 201, dtype=torch.long), 1)
    with pytest.raises(DataError, match="a text has 201 tokens, the model's context is 200"):
        model(texts()[0], torch.ones(3, 201, dtype=torch.long))
    with pytest.raises(
        ArtifactError, match=r"differs: t5 .norm layer, .*; marian .positions sinusoidal, head_bias"
    ):
        encoder_decoder_folder.save(tmp_path, model)
    assert not list(tmp_path.iterdir())


# What it learns: tasks over rows of symbols, told apart by the first token of the source.
FIRST, TASK = 8, 2
TASKS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "copy": lambda rows, symbols: rows,
    "reverse": lambda rows, symbols: rows.flip(1),
    "sort": lambda rows, symbols: rows.sort(1).values,
    "successor": lambda rows, symbols: (rows - FIRST + 1) % symbols + FIRST,
}


class Questions:
    """A stream of rows of random symbols, each task in its turn.

    Args:
        tasks: names of `TASKS`.
        length: of a row.
        symbols: how many there are.
        twice: whether a symbol can be in a row again.
    """

    fingerprint = "questions"
    batch_size = 64

    def __init__(self, tasks: tuple[str, ...], length: int, symbols: int, twice: bool) -> None:
        self.tasks, self.length, self.symbols, self.twice = tasks, length, symbols, twice

    def pairs(self, rows: int, seed: int) -> tuple[Tensor, Tensor]:
        random = torch.Generator().manual_seed(seed)
        if self.twice:
            given = torch.randint(self.symbols, (rows, self.length), generator=random)
        else:
            given = torch.rand(rows, self.symbols, generator=random).argsort(1)[:, : self.length]
        given, answers = given + FIRST, given.clone()
        which = torch.arange(rows) % len(self.tasks)
        for number, task in enumerate(self.tasks):
            answers[which == number] = TASKS[task](given[which == number], self.symbols)
        end = torch.ones(rows, 1, dtype=torch.long)
        return torch.cat((which[:, None] + TASK, given, end), 1), torch.cat((answers, end), 1)

    def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> Batch:
        source, target = self.pairs(self.batch_size, step)
        return {"inputs": source, "targets": target, "sample_ids": self.sample_ids(step)}

    def sample_ids(self, step: int, salt: int = 0) -> Tensor:
        return torch.arange(self.batch_size) + self.batch_size * step


def exact(
    model: EncoderDecoder, questions: Questions, steps: int, optimizer: dict[str, Any], work: Path
) -> dict[str, float]:
    """Trains, and returns the share of unseen rows that are answered without a mistake, by task."""
    adam = {"name": "adam", "beta2": 0.98, "epsilon": 1e-9, **optimizer}
    joint = OptimizerConfig.parse(adam).build(model)
    config = TrainConfig.parse({"steps": steps, "checkpoint_every": steps, "guard": {"sigmas": None}})
    Trainer(model, Seq2Seq(), questions, joint, config, work).fit(Progress(), "x")  # type: ignore[arg-type]
    source, target = questions.pairs(300 * len(questions.tasks), 10**7)
    answers = write(model.eval(), source, target.shape[1])
    right = (pad(answers, (0, target.shape[1] - answers.shape[1])) == target).all(1).float()
    by_task = right.view(-1, len(questions.tasks)).mean(0).tolist()
    return dict(zip(questions.tasks, by_task, strict=True))


@pytest.mark.slow
def test_the_transformer_copies_reverses_and_sorts_twenty_symbols(tmp_path: Path) -> None:
    """With the paper's parts, and its Adam with a rate that rises and falls."""
    sizes = {"vocabulary": 18, "width": 64, "heads": 4, "head_width": 16, "feed_forward": 256, "context": 32}
    layers = {"encoder_layers": 2, "decoder_layers": 2}
    model = EncoderDecoderConfig.parse({**sizes, **layers, "last_norm": False, "embedding_scale": 8.0}).build(
        1
    )
    questions = Questions(("copy", "reverse", "sort"), length=20, symbols=10, twice=True)
    found = exact(model, questions, 1600, {"rate": 0.001}, tmp_path)
    assert min(found.values()) >= 0.99, found


@pytest.mark.slow
def test_four_tasks_in_one_t5(tmp_path: Path) -> None:
    """Places are known by distance alone, so the tables that say so learn ten times as fast as the rest."""
    sizes = {"vocabulary": 28, "width": 48, "heads": 4, "head_width": 12, "feed_forward": 96}
    layers = {"encoder_layers": 2, "decoder_layers": 2}
    model = EncoderDecoderConfig.parse({**t5.PARTS, **sizes, **layers, "tied": False}).build(1)
    questions = Questions(("copy", "reverse", "sort", "successor"), length=6, symbols=20, twice=False)
    optimizer = {"rate": 0.003, "groups": [{"match": "*relative*", "rate": 0.03}]}
    found = exact(model, questions, 1000, optimizer, tmp_path)
    assert min(found.values()) >= 0.95, found
