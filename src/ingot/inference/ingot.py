"""A model as its user meets it: loaded by name, it writes on, answers and streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ingot.errors import ArtifactError
from ingot.inference.conversation import Fitted, fit
from ingot.inference.engine import Engine
from ingot.inference.load import load_model
from ingot.inference.locate import locate
from ingot.inference.request import Completion
from ingot.inference.sampling import Sampling
from ingot.models.decoder import Decoder
from ingot.models.families import shapes
from ingot.record import read
from ingot.tokenizer import Tokenizer
from ingot.tokenizer.chat import encode_chat

Conversation = Sequence[Mapping[str, str]]


def load(folder: Path | str, model: str | None = None, device: str | None = None) -> Ingot:
    """Loads a model to use.

    Args:
        folder: a run folder (its newest aligned model, else finetuned, else base), or a model folder.
        model: another model of the run: 'base', 'int8', 'base@1' ...
        device: 'cpu', 'cuda'; None takes CUDA where there is one.

    Raises:
        ArtifactError: nothing there that can be loaded.

    Example:
        >>> ingot.load("runs/demo", model="base").generate("import ", max_new_tokens=20)
    """
    path = locate(folder, model)
    return Ingot(path, *load_model(path, device or "auto"))


class Ingot:
    """A loaded model: writes on, answers, streams.

    Every method that writes takes the fields of `inference.sampling.Sampling` as keywords
    (`max_new_tokens`, `temperature`, `top_k`, `top_p`, `seed`, `stop`). One thread at a time may use it.

    Args:
        folder: where it was loaded from.
        model: in evaluation mode.
        tokenizer: of the same folder.

    Attributes:
        engine: the batching engine, for many prompts at once.
        last: the latest completion, with its tokens, their logprobs and tokens per second; None before.
    """

    def __init__(self, folder: Path, model: Decoder, tokenizer: Tokenizer) -> None:
        self.folder = folder
        self.model = model
        self.tokenizer = tokenizer
        self.engine = Engine(model, tokenizer)
        self.last: Completion | None = None
        ending = {tokenizer.role_id(role) for role in ("eos", "end") if role in tokenizer.parts.roles}
        self.stop_ids = frozenset({tokenizer.bos_id, *ending})

    @property
    def name(self) -> str:
        """The model's address in its run (`aligned@1`), or its folder's name."""
        try:
            return read(self.folder).address
        except ArtifactError:
            return self.folder.resolve().name

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self.model.config.context

    @property
    def parameters(self) -> int:
        """How many weights the model has, tied ones and quantized ones counted once."""
        state = self.model.state_dict()
        return sum(state[name].numel() for name in shapes(self.model.config))

    def generate(self, prompt: str, **sampling: Any) -> str:
        """Writes on from a raw text and returns what was added.

        Raises:
            RequestError: the prompt does not fit the context.
            ConfigError: a sampling value that cannot be used.
        """
        return "".join(self.stream(prompt, **sampling))

    def chat(self, messages: Conversation, **sampling: Any) -> str:
        """Returns the assistant's next message.

        Args:
            messages: `{"role": "system" | "user" | "assistant", "content": text}` each.

        Raises:
            RequestError: the conversation does not fit the context (`fit` makes it).
            ConfigError: a sampling value that cannot be used.
        """
        return "".join(self.stream(messages, **sampling))

    def stream(self, prompt: str | Conversation, **sampling: Any) -> Iterator[str]:
        """Yields the answer to a raw text or a conversation as it is made, in whole characters.

        Mistakes in the request are raised by this call, before the first text is asked for. Closing the
        iterator early ends the work.
        """
        settings = Sampling.parse(sampling, where="sampling")
        tokens = self.encode(prompt)
        self.engine.room(len(tokens))

        def pieces() -> Iterator[str]:
            request = self.engine.submit(tokens, settings, self.stop_ids)
            try:
                yield from self.engine.follow(request)
            finally:
                self.last = request.completion()

        return pieces()

    def encode(self, prompt: str | Conversation) -> list[int]:
        """Returns the tokens that the model reads: BOS and the text, or the rendered conversation."""
        if isinstance(prompt, str):
            return [self.tokenizer.bos_id, *self.tokenizer.encode(prompt)]
        return encode_chat(self.tokenizer, prompt, add_generation_prompt=True)[0]

    def fit(self, messages: Conversation, answer: int | None = None) -> Fitted:
        """Cuts the oldest turns of a conversation that has outgrown the context.

        Args:
            messages: the whole conversation.
            answer: tokens to keep free for the answer; None keeps a quarter of the context.

        Returns:
            `(messages, cut)`: what stays, and the messages that were dropped.

        Raises:
            RequestError: the last message alone is too long.
        """
        free = self.context // 4 if answer is None else min(answer, self.context - 1)
        plain = [dict(message) for message in messages]
        return fit(plain, lambda part: len(self.encode(part)), self.context - free)
