"""Phi-3 for long texts has two rows of rotary factors: which of them turns a text, `transformers` says."""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from ingot.inference.computing.native.runner import runner
from ingot.inference.computing.paged_attention import TorchRunner
from ingot.inference.computing.pages import PAGE, Pages, pages_for
from ingot.inference.computing.passes import Runner, Segment, assemble
from ingot.models import huggingface
from ingot.models.decoder import Decoder

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

ORIGINAL, LONGEST = 40, 160


@pytest.fixture(scope="module")
def theirs() -> Any:
    config = transformers.Phi3Config(
        vocab_size=97, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, max_position_embeddings=LONGEST, original_max_position_embeddings=ORIGINAL,
        pad_token_id=0, bos_token_id=None, eos_token_id=None,
        rope_parameters={
            "rope_type": "longrope", "rope_theta": 1e4,
            "short_factor": [1.0, 1.1, 1.3, 1.6], "long_factor": [1.5, 4.0, 9.0, 20.0],
        },
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.fixture(scope="module")
def folder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phi3")
    theirs.save_pretrained(path)
    return path


def tokens_of(length: int, rows: int = 2) -> Tensor:
    return torch.randint(1, 97, (rows, length), generator=torch.Generator().manual_seed(length))


@torch.no_grad()
def cached(run: Runner, tokens: list[int], cut: int, context: int) -> list[Tensor]:
    """The logits after a prompt of `cut` tokens, in two pieces, and after each token behind it."""
    pages = Pages(pages_for(context))
    table = array("i", [pages.take() for _ in range(-(-len(tokens) // PAGE))])
    logits: list[Tensor] = []
    for first, last in [(0, cut // 2), (cut // 2, cut), *((n, n + 1) for n in range(cut, len(tokens)))]:
        logits.append(run(assemble([Segment(tokens[first:last], first, table)]), pages)[0])
    return logits[1:]


@pytest.mark.parametrize("length", [7, ORIGINAL, ORIGINAL + 1, LONGEST])
@torch.no_grad()
def test_whole_texts_are_turned_by_their_length(theirs: Any, folder: Path, length: int) -> None:
    ours, tokens = huggingface.load(folder), tokens_of(length)
    wanted = theirs(tokens).logits
    assert (ours(tokens).logits - wanted).abs().max() < 1e-4
    positions = torch.arange(length).expand(2, length)
    assert (ours(tokens, positions).logits - wanted).abs().max() < 1e-4
    assert (ours(tokens, positions[0]).logits - wanted).abs().max() < 1e-4


@torch.no_grad()
def test_the_two_rows_are_told_apart(theirs: Any, folder: Path) -> None:
    """Were one of them used throughout, the test above could not pass."""
    near, far = theirs(tokens_of(ORIGINAL)).logits, huggingface.load(folder).config
    assert far.context == LONGEST
    swapped = huggingface.load(folder)
    swapped.rotary.near = None  # type: ignore[union-attr]
    assert (swapped(tokens_of(ORIGINAL)).logits - near).abs().max() > 0.1


@torch.no_grad()
def test_rows_are_turned_each_by_its_own_length(folder: Path) -> None:
    """A row of short documents, beside one of a single long text, as they are trained on."""
    ours, length = huggingface.load(folder), ORIGINAL + 10
    tokens = tokens_of(length)
    documents = torch.zeros(2, length, dtype=torch.long)
    documents[0, length // 2 :] = 1
    logits = ours(tokens, documents=documents).logits
    halves = torch.cat([ours(part).logits[0] for part in tokens[:1].split(length // 2, 1)])
    assert (logits[0] - halves).abs().max() < 1e-4
    assert (logits[1] - ours(tokens[1:]).logits[0]).abs().max() < 1e-4


@torch.no_grad()
def test_a_text_behind_a_cache_beyond_the_original_context(theirs: Any, folder: Path) -> None:
    """The compiled step and PyTorch, from a prompt that is longer already."""
    ours = huggingface.load(folder).requires_grad_(False)
    tokens = tokens_of(LONGEST, 1)[0].tolist()
    wanted = theirs(torch.tensor([tokens])).logits[0]
    for run in (TorchRunner(ours), runner(ours)):
        if run is None:  # no compiler here
            continue
        logits = cached(run, tokens, ORIGINAL + 5, LONGEST)
        for place, row in zip(range(ORIGINAL + 4, LONGEST), logits, strict=True):
            assert (row - wanted[place]).abs().max() < 1e-3


@torch.no_grad()
def test_with_a_context_set_to_the_original_short_texts_are_theirs(
    theirs: Any, folder: Path, tmp_path: Path
) -> None:
    """Which is done in the `config.json` that we write."""
    huggingface.save(tmp_path, huggingface.load(folder))
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text())
    assert raw["max_position_embeddings"] == LONGEST
    path.write_text(json.dumps(raw | {"max_position_embeddings": ORIGINAL}))
    ours: Decoder = huggingface.load(tmp_path).requires_grad_(False)
    assert ours.rotary is not None and ours.rotary.near is None
    tokens = tokens_of(ORIGINAL, 1)[0].tolist()
    wanted = theirs(torch.tensor([tokens])).logits[0]
    for run in (TorchRunner(ours), runner(ours)):
        if run is not None:
            for place, row in zip(range(9, ORIGINAL), cached(run, tokens, 10, ORIGINAL), strict=True):
                assert (row - wanted[place]).abs().max() < 1e-3
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert (again(torch.tensor([tokens])).logits[0] - wanted).abs().max() < 1e-4


@torch.no_grad()
def test_written_and_read_it_is_the_same(theirs: Any, folder: Path, tmp_path: Path) -> None:
    ours = huggingface.load(folder)
    huggingface.save(tmp_path, ours)
    assert huggingface.read_config(tmp_path)[0] == ours.config
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    for length in (ORIGINAL, LONGEST):
        tokens = tokens_of(length)
        assert (again(tokens).logits - theirs(tokens).logits).abs().max() < 1e-5
