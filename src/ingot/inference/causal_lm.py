"""The face that `transformers` gives its models, on our engine: one line of a script changes.

```python
from transformers import AutoTokenizer
from ingot import CausalLM                       # instead of transformers.AutoModelForCausalLM

tokenizer = AutoTokenizer.from_pretrained("runs/demo/base@1")
model = CausalLM.from_pretrained("runs/demo/base@1")
inputs = tokenizer("def read_lines(path):", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_length=50)[0]))
```
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field
from torch import Tensor

from ingot.config import Config
from ingot.errors import RequestError
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.ingot import Ingot

SETTINGS = "generation_config.json"
"""What a folder asks for where the caller says nothing."""


class Wishes(Config):
    """What `generate` may be asked for, under the names and with the defaults of `transformers`.

    Args:
        max_length: tokens of prompt (padding counted) and answer together.
        max_new_tokens: tokens of the answer; goes before `max_length`.
        min_new_tokens: before this many, no end of text is written.
        do_sample: draw tokens; else the likeliest is taken.
        temperature, top_k, top_p, min_p, typical_p, repetition_penalty: see `Sampling`; all but the last
            matter only where tokens are drawn.
        num_return_sequences: answers to each prompt.
        eos_token_id: tokens that end an answer; None are the model's own.
        pad_token_id: fills rows up; None is the end of text.
    """

    max_length: int = Field(default=20, ge=1)
    max_new_tokens: int | None = Field(default=None, ge=1)
    min_new_tokens: int | None = Field(default=None, ge=0)
    do_sample: bool = False
    temperature: float = Field(default=1.0, gt=0)
    top_k: int = Field(default=50, ge=0)
    top_p: float = 1.0
    min_p: float | None = None
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    num_return_sequences: int = Field(default=1, ge=1)
    eos_token_id: int | tuple[int, ...] | None = None
    pad_token_id: int | None = None

    def sampling(self, prompt: int) -> Sampling:
        """Returns how tokens of an answer are chosen.

        Args:
            prompt: tokens of a row of prompts, padding counted.

        Raises:
            RequestError: `max_length` leaves no room.
            ConfigError: a value that cannot be used.
        """
        new = self.max_length - prompt if self.max_new_tokens is None else self.max_new_tokens
        if new < 1:
            what = f"the prompt has {prompt} tokens, max_length is {self.max_length}"
            raise RequestError(what, where="generate", fix="say max_new_tokens instead")
        values: dict[str, Any] = {
            "max_new_tokens": new,
            "min_new_tokens": self.min_new_tokens or 0,
            "repetition_penalty": self.repetition_penalty,
            "temperature": 0.0,
        }
        if self.do_sample:
            values |= {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
            values |= {"min_p": self.min_p or 0.0, "typical_p": self.typical_p}
        return Sampling.parse(values, where="generate")


class CausalLM:
    """A model that writes on, as scripts for `transformers` call it.

    Args:
        ingot: the loaded model.
        wishes: what is done where the caller says nothing.
    """

    def __init__(self, ingot: Ingot, wishes: dict[str, Any] | None = None) -> None:
        self.ingot = ingot
        self.wishes = wishes or {}

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: str | None = None) -> Self:
        """Loads a model folder, or the best model of a run folder.

        Raises:
            ArtifactError: nothing there that can be loaded and writes.
        """
        ingot = Ingot.load(folder, device=device)
        try:
            told = json.loads((ingot.folder / SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            told = {}
        known = {key: told[key] for key in Wishes.model_fields if told.get(key) is not None}
        return cls(ingot, known)

    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **wishes: Any) -> Tensor:
        """Writes on from prompts.

        What is drawn depends on `torch.manual_seed`, but is not what `transformers` would draw.

        Args:
            input_ids: [b, t] int64, filled up on the left.
            attention_mask: [b, t], 0 where a row is filled up; None says nowhere.
            wishes: see `Wishes`.

        Returns:
            [b * num_return_sequences, t + longest answer] int64: each prompt as it was given, its answer with
            its end of text, and padding.

        Raises:
            ConfigError: an unknown wish (with the nearest right name), or a value that cannot be used.
            RequestError: a prompt that is empty or too long, or is filled up on the right.
        """
        asked = Wishes.parse({**self.wishes, **wishes}, where="generate")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if (mask.diff(dim=-1) < 0).any():
            fix = "tokenizer.padding_side = 'left'"
            raise RequestError("prompts are filled up on their right", where="attention_mask", fix=fix)
        sampling = asked.sampling(input_ids.shape[1])
        ends = self._ends(asked)
        requests = []
        for row, real in zip(input_ids, mask.bool(), strict=True):
            for _ in range(asked.num_return_sequences):
                drawn = sampling.model_copy(update={"seed": int(torch.randint(2**62, ()))})
                requests.append(self.ingot.engine.submit(row[real].tolist(), drawn, ends))
        while any(request.finish_reason is None for request in requests):
            self.ingot.engine.step()
        pad = asked.pad_token_id if asked.pad_token_id is not None else min(ends, default=0)
        prompts = input_ids.repeat_interleave(asked.num_return_sequences, 0)
        answers = input_ids.new_full((len(requests), max(len(one.tokens) for one in requests)), pad)
        for answer, request in zip(answers, requests, strict=True):
            answer[: len(request.tokens)] = torch.tensor(request.tokens)
        return torch.cat([prompts, answers], -1)

    def _ends(self, asked: Wishes) -> frozenset[int]:
        if asked.eos_token_id is None:
            return self.ingot.stop_ids
        return frozenset([asked.eos_token_id] if isinstance(asked.eos_token_id, int) else asked.eos_token_id)
