"""How each kind of our models is loaded, saved, asked and made to answer, beside its counterpart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ingot.inference.choosing.sampling import Sampling
from ingot.inference.engine import Engine
from ingot.models import encoder_decoder_folder, encoder_folder, huggingface, linear_folder
from ingot.models.encoder_decoder_writing import write


@dataclass(frozen=True)
class Door:
    """One kind of models.

    Args:
        load: a folder in a number type -> our model.
        save: our model into a folder that exists.
        logits: of our model over tokens [b, t]: [b, t, v].
        their_logits: the same of theirs.
        greedy: our model, a prompt [t] and a count -> the most probable tokens, through our own cache.
        their_greedy: the same of theirs; None for what does not generate.
        gguf: whether llama.cpp knows this kind.
        onnx: whether we write it as ONNX.
    """

    load: Callable[[Path, torch.dtype], Any]
    save: Callable[[Path, Any], None]
    logits: Callable[[Any, Tensor], Tensor]
    their_logits: Callable[[Any, Tensor], Tensor]
    greedy: Callable[[Any, Tensor, int], list[int]] | None = None
    their_greedy: Callable[[Any, Tensor, int], list[int]] | None = None
    gguf: bool = False
    onnx: bool = False


def _logits(model: Any, tokens: Tensor) -> Tensor:
    return _logits_of(model(tokens))


class _NoText:
    """A tokenizer for answers that nobody reads."""

    def token_bytes(self, token: int) -> bytes:
        """See `text.Bytes`."""
        return b""


def _engine_greedy(model: Any, prompt: Tensor, count: int) -> list[int]:
    engine = Engine(model, _NoText(), slots=1)
    return engine.generate([prompt.tolist()], Sampling(temperature=0, max_new_tokens=count))[0].tokens


def _their_greedy(model: Any, prompt: Tensor, count: int) -> list[int]:
    with torch.no_grad():
        made = model.generate(
            prompt[None],
            attention_mask=torch.ones_like(prompt)[None],
            do_sample=False,
            min_new_tokens=count,
            max_new_tokens=count,
            eos_token_id=None,
            pad_token_id=0,
        )
    answer: list[int] = made[0, len(prompt) :].tolist()
    return answer


def _pairs(model: Any, tokens: Tensor) -> Tensor:
    """Ours, from the tokens to themselves."""
    return _logits_of(model(tokens, tokens))


def _their_pairs(model: Any, tokens: Tensor) -> Tensor:
    return _logits_of(model(input_ids=tokens, decoder_input_ids=tokens))


def _logits_of(said: Any) -> Tensor:
    logits: Tensor = said.logits
    return logits


def _written(model: Any, prompt: Tensor, count: int) -> list[int]:
    made: list[int] = write(model, prompt[None], count)[0].tolist()
    return made


def _their_written(model: Any, prompt: Tensor, count: int) -> list[int]:
    with torch.no_grad():
        made: list[int] = model.generate(prompt[None], do_sample=False, max_new_tokens=count)[0, 1:].tolist()
    return made


def _remembered(model: Any, prompt: Tensor, count: int) -> list[int]:
    """Through the state of a linear-time decoder."""
    made: list[int] = []
    with torch.inference_mode():
        said = model(prompt[None])
        while len(made) < count:
            made.append(int(said.logits[0, -1].argmax()))
            said = model(torch.tensor([made[-1:]]), said.state)
    return made


DOORS = {
    "decoder": Door(
        load=huggingface.load,
        save=huggingface.save,
        logits=_logits,
        their_logits=_logits,
        greedy=_engine_greedy,
        their_greedy=_their_greedy,
        gguf=True,
        onnx=True,
    ),
    "linear": Door(
        load=linear_folder.load,
        save=linear_folder.save,
        logits=_logits,
        their_logits=_logits,
        greedy=_remembered,
        their_greedy=_their_greedy,
    ),
    "encoder": Door(
        load=encoder_folder.load,
        save=encoder_folder.save,
        logits=_logits,
        their_logits=_logits,
        onnx=True,
    ),
    "encoder-decoder": Door(
        load=encoder_decoder_folder.load,
        save=encoder_decoder_folder.save,
        logits=_pairs,
        their_logits=_their_pairs,
        greedy=_written,
        their_greedy=_their_written,
    ),
}
"""By kind, as `published.Published` has it."""
