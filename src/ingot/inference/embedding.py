"""Vectors of texts, and how well two texts go together.

```
texts -> ids with control tokens -> batches of similar length -> hidden states -> one vector each
pairs -> one row each -> a head with one output (cross-encoder)      -> score
pairs -> two vectors -> cosine, where there is no such head          -> score
```

A folder says how its vectors are made (`models.pooling`); an encoder that says nothing takes the mean, and a
decoder, which was not trained for it, only does so when it is asked to.

Source: Reimers and Gurevych 2019, arXiv 1908.10084; Nogueira and Cho 2019, arXiv 1901.04085, section 3.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ingot import device as machine
from ingot.errors import ArtifactError, ConfigError, RequestError
from ingot.inference.locate import locate
from ingot.models.decoder import Decoder
from ingot.models.encoder import Encoder
from ingot.models.kinds import ENCODER, ENCODER_DECODER, kind_of
from ingot.models.linear_decoder import LinearDecoder
from ingot.models.pooling import PoolingConfig, read_pooling
from ingot.progress import Task
from ingot.record import read
from ingot.tokenizer import Tokenizer
from ingot.tokenizer.pairs import Pairs

AT_ONCE = 512
"""Tokens, padding counted, that one pass on a CPU takes at most (one longer text goes alone): what is worked
on stays in its caches, which makes it half as fast again as with 8,192."""

AT_ONCE_ELSEWHERE = 16384
"""The same on other devices."""

Text = str | Sequence[int]
Reader = Encoder | Decoder | LinearDecoder


class Row(NamedTuple):
    """One row of a pass."""

    ids: Sequence[int]
    segments: Sequence[int] | None = None


class Embedder:
    """Makes vectors of texts, and scores pairs of them. One thread at a time may use it.

    Args:
        folder: a model's folder, or a run's.
        device: 'cpu', 'cuda'; None takes CUDA where there is one.
        pooling: 'mean', 'first' or 'last' instead of what the folder says; a decoder that says nothing needs
            it.
        dtype: to compute in; None is fp32 on CPUs, because vectors are kept and compared with later ones.
        loaded: the folder's model and tokenizer, where they are in memory already.

    Attributes:
        width: numbers of a vector.
        context: tokens of a text at most, control tokens counted.
        ranks: whether a head of its own scores pairs.

    Raises:
        ArtifactError: nothing there that makes vectors.
        ConfigError: a decoder, and no pooling asked for.

    Example:
        >>> embedder = Embedder("runs/embed")
        >>> embedder.embed(["a small dog", "a little dog"]).shape
        torch.Size([2, 128])
    """

    def __init__(
        self,
        folder: Path | str,
        device: str | None = None,
        pooling: str | None = None,
        dtype: torch.dtype | None = None,
        loaded: tuple[nn.Module, Tokenizer] | None = None,
    ) -> None:
        self.folder = locate(folder)
        self.kind, self._said = kind_of(self.folder)
        if self.kind is ENCODER_DECODER or (loaded is None and "quantization_config" in self._said):
            quantized = " of quantized weights" if "quantization_config" in self._said else ""
            what = f"holds {self.kind.words}{quantized}, which makes no vectors"
            fix = "name an encoder, or a decoder with dense weights"
            raise ArtifactError(what, where=self.folder, fix=fix)
        self.pooling = self._pooling(pooling)
        model, self.tokenizer = loaded or self._loaded(machine.resolve(device or "auto"), dtype)
        assert isinstance(model, Reader)
        self.model = model
        if self.tokenizer.vocab_size > self.model.config.vocabulary:
            sizes = f"{self.tokenizer.vocab_size} entries, the model {self.model.config.vocabulary}"
            fix = "put the files of one model together"
            raise ArtifactError(f"the tokenizer has {sizes}", where=self.folder, fix=fix)
        self.width = self.model.config.width
        self.context = self._context()
        head = self.model.config.head if isinstance(self.model, Encoder) else None
        self.ranks = head is not None and head.task == "sequence" and head.labels == 1
        self._device = self.model.embedding.weight.device

    @property
    def name(self) -> str:
        """The model's address in its run (`embedder@1`), or its folder's name."""
        try:
            return read(self.folder).address
        except ArtifactError:
            return self.folder.resolve().name

    @property
    def parameters(self) -> int:
        """How many weights the model has; tied ones count once."""
        return self.model.parameter_count()

    @property
    def dimensions(self) -> tuple[int, ...]:
        """Shorter vectors that the model was trained to give by their first numbers; empty where none."""
        told = self._said.get("matryoshka_dimensions") or ()
        return tuple(one for one in told if isinstance(one, int) and 0 < one <= self.width)

    def encode(self, text: str, cut: bool = False) -> list[int]:
        """Returns the tokens of a text as the model reads them, with control tokens around them.

        Args:
            text: any text.
            cut: whether a text that is too long loses its end, instead of being refused.

        Raises:
            RequestError: the text is too long; both numbers are named.
        """
        ids, frame = self.tokenizer.encode(text), self._framed([])
        return self._framed(self._fitted(ids, self.context - len(frame), cut))

    @torch.inference_mode()
    def embed(
        self,
        texts: Sequence[Text],
        *,
        cut: bool = False,
        dimensions: int | None = None,
        task: Task | None = None,
    ) -> Tensor:
        """Makes one vector of each text.

        Args:
            texts: strings, or token ids with the control tokens in them.
            cut: whether texts that are too long lose their ends, instead of being refused.
            dimensions: keep only so many numbers, for a model that was trained for it; None keeps all.
            task: advanced by one for each text.

        Returns:
            [n, d] float32 on the CPU, in the order of the texts.

        Raises:
            RequestError: a text that is empty or too long, token ids that the model does not have, or
                dimensions that it was not trained for.
        """
        if dimensions is not None and dimensions != self.width and dimensions not in self.dimensions:
            known = ", ".join(map(str, (*self.dimensions, self.width)))
            what = f"the model does not give vectors of {dimensions} numbers"
            raise RequestError(what, where="dimensions", fix=f"it gives {known}")
        rows = [Row(self._ids(text, cut)) for text in texts]
        made = torch.zeros(len(rows), self.width)
        for places, tokens, mask, _ in self._batches(rows):
            hidden = self._hidden(tokens, mask)
            made[places] = self.pooling.vectors(hidden, mask).cpu()
            if task is not None:
                task.advance(len(places))
        if dimensions is None or dimensions == self.width:
            return made
        short = made[:, :dimensions]
        return normalize(short, dim=-1) if self.pooling.normalised else short

    @torch.inference_mode()
    def score(
        self, pairs: Sequence[tuple[str, str]], *, cut: bool = False, task: Task | None = None
    ) -> Tensor:
        """Says how well the texts of each pair go together, such as a query and a document.

        A cross-encoder reads both at once; its logit goes through the logistic function, unless the folder
        says that it stays as it is. Other models give the cosine of the two vectors.

        Args:
            pairs: of texts.
            cut: whether what is too long loses the end of its second text, instead of being refused.
            task: advanced by one for each pair, or for each different text.

        Returns:
            [n] float32 on the CPU: higher is better.

        Raises:
            RequestError: a pair that is too long.
        """
        if not self.ranks:
            different = list(dict.fromkeys(text for pair in pairs for text in pair))
            place = {text: number for number, text in enumerate(different)}
            vectors = normalize(self.embed(different, cut=cut, task=task), dim=-1)
            first, second = ([place[pair[side]] for pair in pairs] for side in (0, 1))
            return (vectors[first] * vectors[second]).sum(-1)
        rows, made = [self._pair(*pair, cut) for pair in pairs], torch.zeros(len(pairs))
        for places, tokens, mask, segments in self._batches(rows):
            assert isinstance(self.model, Encoder)
            logits = self.model(tokens, mask, segments if self.model.segments is not None else None).logits
            made[places] = logits[:, 0].float().cpu()
            if task is not None:
                task.advance(len(places))
        return made if self._as_they_are else made.sigmoid()

    @property
    def _as_they_are(self) -> bool:
        """Whether the folder asks for logits instead of chances."""
        told = self._said.get("sentence_transformers")
        name = told.get("activation_fn") if isinstance(told, Mapping) else None
        return str(name or self._said.get("sbert_ce_default_activation_function")).endswith(".Identity")

    def _pooling(self, asked: str | None) -> PoolingConfig:
        told = read_pooling(self.folder)
        if asked is not None:
            return PoolingConfig.parse(
                {"pooling": asked, "normalised": told is None or told.normalised}, where="pooling"
            )
        if told is None and self.kind is not ENCODER:
            what = f"holds {self.kind.words} that was not trained to make vectors"
            fix = "ask for pooling='mean' if the mean of its last hidden states will do"
            raise ConfigError(what, where=self.folder, fix=fix)
        return told or PoolingConfig()

    def _loaded(self, device: str, dtype: torch.dtype | None) -> tuple[Reader, Tokenizer]:
        kept = dtype or (torch.float32 if device == "cpu" else machine.best_dtype(device))
        model: Any = self.kind.door.load(self.folder, dtype=kept, device=device)
        return model.requires_grad_(False), Tokenizer.load(self.folder)

    def _context(self) -> int:
        """What the model has places for, or less where its folder says so."""
        most, path = self.model.config.context, self.folder / "sentence_bert_config.json"
        try:
            told = json.loads(path.read_text(encoding="utf-8")).get("max_seq_length")
        except (OSError, ValueError, AttributeError):
            return most
        return min(most, told) if isinstance(told, int) and told > 0 else most

    def _framed(self, ids: Sequence[int]) -> list[int]:
        """A text's ids with control tokens around them: the template's, else CLS and SEP, else BOS."""
        tokenizer = self.tokenizer
        roles = tokenizer.parts.roles
        if tokenizer.parts.template is not None:
            return tokenizer.wrap(ids)
        if self.kind is ENCODER and "cls" in roles and "sep" in roles:
            return [tokenizer.role_id("cls"), *ids, tokenizer.role_id("sep")]
        return [*([tokenizer.bos_id] if self.kind is not ENCODER and "bos" in roles else []), *ids]

    def _ids(self, text: Text, cut: bool) -> list[int]:
        """A text's ids, checked."""
        if isinstance(text, str):
            ids = self.encode(text, cut)
        else:
            ids = self._fitted(list(text), self.context, cut)
            wrong = next((one for one in ids if not 0 <= one < self.model.config.vocabulary), None)
            if wrong is not None:
                what = f"token id {wrong} is not among the {self.model.config.vocabulary} of the model"
                raise RequestError(what, where="input", fix="use ids of this model's tokenizer")
        if not ids:
            raise RequestError("a text has no tokens", where="input", fix="leave it out")
        return ids

    def _fitted(self, ids: list[int], room: int, cut: bool) -> list[int]:
        if len(ids) > room and not cut:
            what = f"a text has {len(ids)} tokens, the model has room for {max(room, 0)}"
            raise RequestError(what, where="input", fix="shorten it, or have its end cut")
        return ids[: max(room, 0)]

    def _pair(self, first: str, second: str, cut: bool) -> Row:
        pairs = Pairs(self.tokenizer)
        room = self.context - pairs.added
        left = self._fitted(self.tokenizer.encode(first), room, cut)
        right = self._fitted(self.tokenizer.encode(second), room - len(left), cut)
        return Row(*pairs.join(left, right))

    def _hidden(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The last hidden states; a causal model does not see the padding behind a text."""
        if isinstance(self.model, Encoder):
            hidden: Tensor = self.model(tokens, mask, logits=False).hidden
        else:
            hidden = self.model(tokens, logits=False).hidden
        return hidden

    def _batches(self, rows: Sequence[Row]) -> Iterator[tuple[list[int], Tensor, Tensor, Tensor]]:
        """Rows of similar length together, longest first: places, and [b, t] ids, mask and segments."""
        order = sorted(range(len(rows)), key=lambda place: -len(rows[place].ids))
        start, most = 0, AT_ONCE if self._device.type == "cpu" else AT_ONCE_ELSEWHERE
        while start < len(order):
            longest = len(rows[order[start]].ids)
            places = order[start : start + max(1, most // longest)]
            start += len(places)
            tokens = torch.full((len(places), longest), self._padding, dtype=torch.int64)
            segments = torch.zeros_like(tokens)
            lengths = torch.tensor([len(rows[place].ids) for place in places])
            for row, place in enumerate(places):
                tokens[row, : lengths[row]] = torch.tensor(rows[place].ids)
                if (kinds := rows[place].segments) is not None:
                    segments[row, : lengths[row]] = torch.tensor(kinds)
            mask = torch.arange(longest) < lengths[:, None]
            yield places, tokens.to(self._device), mask.to(self._device), segments.to(self._device)

    @property
    def _padding(self) -> int:
        """What fills rows: the model's own padding, for those that count places by it."""
        padding = self.model.config.padding if isinstance(self.model, Encoder) else None
        return padding or 0
