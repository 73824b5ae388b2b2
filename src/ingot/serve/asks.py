"""What requests for text have in common: how tokens are chosen, and how the answer is sent.

Fields beyond OpenAI's own (`top_k`, `min_p`, `guided_json` ...) have the names that vLLM gave them; the
official client sends them through `extra_body`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from ingot.errors import ConfigError
from ingot.inference.choosing.constrain import Grammar
from ingot.inference.choosing.sampling import MOST_BIASES, Sampling
from ingot.serve.protocol import Shape, invalid, short

IGNORED = frozenset(
    {
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
    }
)
"""Fields that are accepted and change nothing, whichever the route."""

NEUTRAL: dict[str, Sequence[Any]] = {
    "length_penalty": (1,),
    "use_beam_search": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "include_stop_str_in_output": (False,),
    "add_special_tokens": (True,),
    "stop_token_ids": ([],),
    "moderation": (),
}
"""Fields that are not supported, with the values that ask for nothing, whichever the route."""

CHOICES = 16
"""Answers that one request may ask for, over all its prompts."""

Prompts = str | list[str] | list[int] | list[list[int]]
Text = Annotated[str, Field(max_length=2**24)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
Count = Annotated[int, Field(ge=1, lt=2**31)]


class StreamOptions(Shape):
    """What a stream should carry.

    Args:
        include_usage: a last chunk that counts the tokens.
        continuous_usage_stats: the count so far in every chunk.
        include_obfuscation: accepted; nothing is added.
    """

    include_usage: bool = False
    continuous_usage_stats: bool = False
    include_obfuscation: bool = False


class Structured(Shape):
    """`structured_outputs`: one of these forms that the answer must have."""

    json_: dict[str, Any] | str | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool = False


class Ask(Shape):
    """What chats and completions have in common; absent values take the engine's defaults."""

    ignored: ClassVar[frozenset[str]] = IGNORED

    model: str | None = None
    max_tokens: int | None = Field(default=None, ge=1, lt=2**63)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=-1, lt=2**31)
    min_p: Share | None = None
    typical_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=100, allow_inf_nan=False)
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]] = Field(
        default={}, max_length=MOST_BIASES
    )
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: list[Stop] = Field(default=[], max_length=4)
    min_tokens: int = Field(default=0, ge=0, lt=2**31)
    ignore_eos: bool = False
    n: int = Field(default=1, ge=1, le=CHOICES)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    priority: int = Field(default=0, ge=-(2**31), lt=2**31)
    user: Text | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    structured_outputs: Structured = Structured()

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_is_enough(cls, stop: object) -> object:
        return [stop] if isinstance(stop, str) else stop

    @field_validator("logit_bias")
    @classmethod
    def _keys_are_token_ids(cls, biases: dict[str, float]) -> dict[str, float]:
        for key in biases:
            if not (key.isascii() and key.isdigit() and len(key) < 10):
                raise ValueError(f"'{short(key)}' is no token id")
        return biases

    @model_validator(mode="after")
    def _wishes_agree(self) -> Ask:
        _ = self.grammar
        return self

    @functools.cached_property
    def grammar(self) -> Grammar | None:
        """The form that the answer must have.

        Raises:
            ApiError: 400, more than one is asked for, or it cannot be used.
        """
        return self.asked_form()

    def asked_form(self) -> Grammar | None:
        """Returns the one form that fields of the request ask for."""
        wishes = self.forms()
        if not wishes:
            return None
        if len(wishes) > 1:
            names = " and ".join(f"'{name}'" for name, _ in wishes)
            raise invalid(f"{names}: an answer can have one form only", wishes[1][0])
        name, form = wishes[0]
        try:
            return Grammar.parse(form)
        except ConfigError as error:
            raise invalid(f"{name}: {short(error.what, 300)}", name) from None

    def forms(self) -> list[tuple[str, dict[str, str]]]:
        """Returns the fields that say how the answer must look, with the grammar that each means."""
        structured = self.structured_outputs
        asked: list[tuple[str, str, Any]] = [
            ("guided_json", "json_schema", self.guided_json),
            ("guided_regex", "regex", self.guided_regex),
            ("guided_choice", "choice", self.guided_choice),
            ("guided_grammar", "lark", self.guided_grammar),
            ("structured_outputs", "json_schema", structured.json_),
            ("structured_outputs", "regex", structured.regex),
            ("structured_outputs", "choice", structured.choice),
            ("structured_outputs", "lark", structured.grammar),
            ("structured_outputs", "json_object", "" if structured.json_object else None),
        ]
        return [
            (name, {"kind": kind, "text": value if isinstance(value, str) else json.dumps(value)})
            for name, kind, value in asked
            if value is not None
        ]

    @property
    def alternatives(self) -> int | None:
        """How many likeliest tokens to report at every place; None where no log-probabilities are wanted."""
        return None

    @property
    def budget(self) -> int | None:
        """New tokens asked for at most; None for as many as there is room for."""
        return self.max_tokens

    def sampling(self, room: int, choice: int, vocabulary: int) -> Sampling:
        """Returns how to sample one of the answers.

        Args:
            room: tokens that may follow the prompt.
            choice: number of the answer; each one's seed is the next.
            vocabulary: token ids are below it.

        Raises:
            ApiError: 400, wishes that exclude each other, or a token that does not exist.
        """
        biases = {int(token): bias for token, bias in self.logit_bias.items()}
        if any(token >= vocabulary for token in biases):
            raise invalid(f"logit_bias: token ids go from 0 to {vocabulary - 1}", "logit_bias")
        limit = min(self.budget if self.budget is not None else room, room)
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": None if self.top_k is None else max(self.top_k, 0),
            "min_p": self.min_p,
            "typical_p": self.typical_p,
            "repetition_penalty": self.repetition_penalty,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "seed": None if self.seed is None else (self.seed + choice + 2**63) % 2**64 - 2**63,
        }
        try:
            return Sampling.model_validate(
                {
                    "max_new_tokens": max(limit, 1),
                    "min_new_tokens": self.min_tokens,
                    "ignore_eos": self.ignore_eos,
                    "stop": tuple(self.stop),
                    "logit_bias": biases,
                    "top_logprobs": self.alternatives or 0,
                    "prompt_logprobs": self.reads_prompt,
                    "grammar": self.grammar,
                    **{key: value for key, value in given.items() if value is not None},
                }
            )
        except ValueError as error:  # what only two fields together make wrong
            raise invalid(_reason(error), "min_tokens" if self.min_tokens else None) from None

    @property
    def reads_prompt(self) -> bool:
        """Whether the prompt's own log-probabilities are wanted."""
        return False


def _reason(error: ValueError) -> str:
    """The first line of meaning in a validation's complaint, in the words of the protocol."""
    errors = getattr(error, "errors", None)
    text = str(errors()[0]["msg"]) if errors else str(error)
    text = text.removeprefix("Value error, ").replace("min_new_tokens", "min_tokens")
    return short(text.replace("max_new_tokens", "max_tokens"), 300)


class CompletionAsk(Ask):
    """`POST /v1/completions`."""

    neutral: ClassVar[dict[str, Sequence[Any]]] = NEUTRAL | {"suffix": ("",)}

    prompt: Prompts
    max_tokens: int | None = Field(default=None, ge=0, lt=2**63)
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool = False
    best_of: int | None = Field(default=None, ge=1, le=CHOICES)

    @field_validator("prompt", mode="plain", json_schema_input_type=Prompts)
    @classmethod
    def _prompts(cls, prompt: object) -> object:
        return shaped(prompt, "prompt")

    @model_validator(mode="after")
    def _best_of_is_enough(self) -> CompletionAsk:
        if self.best_of is not None and self.best_of < self.n:
            raise invalid(f"best_of is {self.best_of}, n is {self.n}: it must be as many at least", "best_of")
        if self.best_of is not None and self.best_of > self.n and self.stream:
            raise invalid("best_of cannot be streamed: which is best shows at the end", "best_of")
        return self

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """The prompts, each a text or token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        tokens = [part for part in self.prompt if isinstance(part, int)]
        if tokens:
            return [tokens]
        return [part for part in self.prompt if not isinstance(part, int)]

    @property
    def budget(self) -> int:
        """New tokens asked for at most; OpenAI's default for this route is 16."""
        return 16 if self.max_tokens is None else self.max_tokens

    @property
    def made(self) -> int:
        """Answers to make for each prompt, of which the best `n` are sent."""
        return self.best_of or self.n

    @property
    def alternatives(self) -> int | None:
        """How many likeliest tokens to report at every place."""
        return self.logprobs

    @property
    def reads_prompt(self) -> bool:
        """Whether the prompt is sent back with its log-probabilities."""
        return self.echo and self.logprobs is not None


def shaped(given: object, name: str) -> object:
    """Returns a prompt or input as it is, if it has one of the four shapes.

    Looked at here, as a validator for each shape would complain of each of a million items.

    Raises:
        ValueError: it has none of them.
    """
    if isinstance(given, str) or _all(given, str) or _all(given, int):
        return given
    if isinstance(given, list) and all(_all(one, int) for one in given):
        return given
    raise ValueError(f"'{name}' is a text, a list of texts, a list of token ids or a list of those")


def _all(values: object, kind: type) -> bool:
    """Whether it is a list of nothing but this type; truth values are no numbers."""
    return isinstance(values, list) and all(type(value) is kind for value in values)
