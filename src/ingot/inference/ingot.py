"""A model as its user meets it: loaded by name, it writes on, answers and streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ingot.errors import ArtifactError, RequestError
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.conversation import Fitted, fit
from ingot.inference.embedding import Embedder
from ingot.inference.engine import Engine
from ingot.inference.load import Writer, load_writer
from ingot.inference.locate import locate
from ingot.inference.request import Completion
from ingot.inference.rows.linear import linear_engine
from ingot.inference.rows.row_engine import RowEngine
from ingot.inference.rows.sentinels import Sentinels
from ingot.inference.rows.seq2seq import banned_tokens, search, seq2seq_engine
from ingot.inference.searching.search import beam_search
from ingot.inference.text import Transcript
from ingot.models.decoder import Decoder
from ingot.models.encoder_decoder import EncoderDecoder
from ingot.models.families import shapes
from ingot.models.kinds import ENCODER, kind_of
from ingot.record import read
from ingot.tokenizer import Tokenizer
from ingot.tokenizer.rendering import encode

Conversation = Sequence[Mapping[str, str]]


def load(
    folder: Path | str, model: str | None = None, device: str | None = None, **engine: Any
) -> Ingot | Embedder:
    """Loads a model to use: what writes as an `Ingot`, an encoder as an `Embedder`.

    Args:
        folder: a run folder (its newest aligned model, else finetuned, else base ...), or a model folder.
        model: another model of the run: 'base', 'int8', 'base@1' ...
        device: 'cpu', 'cuda'; None takes CUDA where there is one.
        engine: settings of `Engine` that a decoder gets; other kinds of models have none of them.

    Raises:
        ArtifactError: nothing there that can be loaded.

    Example:
        >>> ingot.load("runs/demo", model="base").generate("import ", max_new_tokens=20)
        >>> ingot.load("runs/embed").embed(["a small dog", "a little dog"])
    """
    path = locate(folder, model)
    if kind_of(path)[0] is ENCODER:
        return Embedder(path, device)
    return Ingot(path, *load_writer(path, device or "auto"), **engine)


class Ingot:
    """A loaded model: writes on, answers, streams.

    Every method that writes takes the fields of `inference.choosing.sampling.Sampling` as keywords
    (`max_new_tokens`, `temperature`, `top_k`, `top_p`, `seed`, `stop`). One thread at a time may use it.
    An encoder-decoder writes about the text that it is given: a translation, a summary.

    Args:
        folder: where it was loaded from.
        model: in evaluation mode.
        tokenizer: of the same folder.
        engine: settings of `Engine`, for a decoder.

    Attributes:
        engine: the batching engine, for many prompts at once.
        last: the latest completion, with its tokens, their logprobs and tokens per second; None before.
    """

    def __init__(self, folder: Path, model: Writer, tokenizer: Tokenizer, **engine: Any) -> None:
        self.folder = folder
        self.model = model
        self.tokenizer = tokenizer
        self.last: Completion | None = None
        self.engine: Engine | RowEngine
        if isinstance(model, EncoderDecoder):
            self.engine = seq2seq_engine(model, Sentinels(tokenizer), banned=banned_tokens(folder))
            self.stop_ids = frozenset(() if model.config.end is None else (model.config.end,))
            return
        self.engine = (
            Engine(model, tokenizer, **engine)
            if isinstance(model, Decoder)
            else linear_engine(model, tokenizer)
        )
        ending = {tokenizer.role_id(role) for role in ("eos", "end") if role in tokenizer.parts.roles}
        self.stop_ids = frozenset({tokenizer.bos_id, *ending})

    @classmethod
    def load(cls, folder: Path | str, model: str | None = None, device: str | None = None) -> Ingot:
        """Loads a model that writes; see `load`.

        Raises:
            ArtifactError: nothing there that can be loaded, or an encoder.
        """
        path = locate(folder, model)
        return cls(path, *load_writer(path, device or "auto"))

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
        if not isinstance(self.model, Decoder):
            return self.model.parameter_count()
        state = self.model.state_dict()
        return sum(state[name].numel() for name in shapes(self.model.config))

    @property
    def rewrites(self) -> bool:
        """Whether it writes about a text (an encoder-decoder) instead of going on with it."""
        return isinstance(self.model, EncoderDecoder)

    def generate(self, prompt: str, *, beams: int | None = None, **sampling: Any) -> str:
        """Writes on from a raw text and returns what was added; of an encoder-decoder, what it makes of it.

        Args:
            prompt: the text.
            beams: how many texts to try side by side (beam search); None samples.
            sampling: see `Sampling`; a search takes `max_new_tokens` only.

        Raises:
            RequestError: the prompt does not fit the context, or a search by a linear-time decoder.
            ConfigError: a sampling value that cannot be used.
        """
        if beams is not None:
            return self._searched(prompt, beams, Sampling.parse(sampling, where="sampling"))
        return "".join(self.stream(prompt, **sampling))

    def embed(self, texts: Sequence[str], pooling: str | None = None, cut: bool = False) -> Tensor:
        """Makes one vector of each text, as far as the model can.

        Args:
            texts: at least one character each.
            pooling: 'mean' of the last hidden states, 'first' or 'last'; None is what the folder says, and a
                decoder that was not trained for it says nothing.
            cut: whether texts that are too long lose their ends, instead of being refused.

        Returns:
            [n, d] float32 on the CPU.

        Raises:
            ArtifactError: an encoder-decoder, which makes none.
            ConfigError: no pooling asked for, and none in the folder.
            RequestError: a text that is empty or too long.
        """
        embedder = Embedder(self.folder, pooling=pooling, loaded=(self.model, self.tokenizer))
        return embedder.embed(texts, cut=cut)

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
            begun = not self.rewrites  # a tokenizer of words puts a space before the first one too
            try:
                for piece in self.engine.follow(request):
                    shown = piece if begun else piece.lstrip(" ")
                    if shown:
                        begun = True
                        yield shown
            finally:
                self.last = request.completion()

        return pieces()

    def encode(self, prompt: str | Conversation) -> list[int]:
        """Returns the tokens that the model reads: BOS and the text, or the rendered conversation.

        Raises:
            RequestError: a conversation for an encoder-decoder.
        """
        if isinstance(self.model, EncoderDecoder):
            if not isinstance(prompt, str):
                what = "the model rewrites texts, and holds no conversations"
                raise RequestError(what, where=self.name, fix="give it one text: `ingot generate`")
            end, tokens = self.model.config.end, self.tokenizer.wrap(Sentinels(self.tokenizer).encode(prompt))
            return tokens if end is None or tokens[-1:] == [end] else [*tokens, end]
        if isinstance(prompt, str):
            return [self.tokenizer.bos_id, *self.tokenizer.encode(prompt)]
        return encode(self.tokenizer, [dict(message) for message in prompt])

    def _searched(self, prompt: str, beams: int, settings: Sampling) -> str:
        tokens = self.encode(prompt)
        new = min(settings.max_new_tokens, self.engine.room(len(tokens)))
        found: Sequence[list[int]]
        if isinstance(self.model, EncoderDecoder):
            banned = banned_tokens(self.folder)
            found = [one.tokens for one in search(self.model, [tokens], beams, new, banned=banned)[0]]
        elif isinstance(self.model, Decoder):
            found = [one.tokens for one in beam_search(self.model, tokens, beams, new, self.stop_ids)]
        else:
            what, fix = f"{beams} beams for a linear-time decoder, which cannot fork", "leave it out"
            raise RequestError(what, where="beams", fix=fix)
        shown = Transcript(Sentinels(self.tokenizer))
        for token in found[0]:
            shown.push(token)
        shown.finish()
        return shown.text.lstrip(" ") if self.rewrites else shown.text

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
