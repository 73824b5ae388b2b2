"""From a training sample back to its text: sample id -> tokens -> documents -> source and licence.

The ids are those of the training log (of a refused update, say). A sample is a pure function of the settings
and the tokens, so nothing has to be written down while training: the rows are laid out again and looked at.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ingot.artifact import latest, read
from ingot.config import read_yaml
from ingot.data.corpus import Location, document_at
from ingot.data.stream import Span, Stream
from ingot.data.tokens import Tokens
from ingot.errors import ArtifactError
from ingot.pipeline import RECIPE
from ingot.stages.pretrain import Pretrain, PretrainConfig
from ingot.stages.tokenizer import TrainTokenizer
from ingot.stages.tuning import PLAN
from ingot.status import WORK
from ingot.tokenizer.tokenizer import Tokenizer

_FIX = "give a run folder in which the pretrain stage was begun, such as runs/demo"


class Part(NamedTuple):
    """What a sample holds of one document.

    Args:
        span: which tokens of which document.
        location: the document in the corpus, and where it lies.
        text: of those tokens.
    """

    span: Span
    location: Location
    text: str


@dataclass(frozen=True)
class Sample:
    """A training sample.

    Args:
        id: as in the log.
        salt: rollbacks before it.
        parts: of documents, in the order in which they stand in the sample.
    """

    id: int
    salt: int
    parts: list[Part]

    def plain(self) -> dict[str, Any]:
        """Returns it as plain data; of the documents' texts, only what the sample holds of them."""
        return {
            "sample": self.id,
            "salt": self.salt,
            "tokens": sum(part.span.end - part.span.first for part in self.parts),
            "documents": [
                {
                    "document": part.span.document,
                    "first_token": part.span.first,
                    "end_token": part.span.end,
                    "id": part.location.document.id,
                    "source": part.location.document.source,
                    "licence": part.location.document.licence,
                    "kind": part.location.document.kind,
                    "file": part.location.shard.name,
                    "row": part.location.row,
                    "text": part.text,
                }
                for part in self.parts
            ],
        }


class Samples:
    """The samples of a run's pretraining, finished or under way.

    Args:
        run: the run folder.

    Raises:
        ArtifactError: the run has no pretraining, or not the tokens that it learnt from.

    Example:
        >>> Samples(Path("runs/demo")).trace(4711).parts[0].location.document.source   # doctest: +SKIP
        'asyncio/base_events.py'
    """

    def __init__(self, run: Path) -> None:
        settings, plan, seed, tokenizer = _begun(run)
        source = read(run / tokenizer)
        corpus = source.record.parents.get("prepare", {}).get("address", "corpus")
        self._corpus = run / corpus
        self._tokens, self._tokenizer = Tokens.open(source.path), Tokenizer.load(source.path)
        self._stream: Stream = settings.stream(
            self._tokens, plan["model"]["context"], plan["batch_size"], seed, self._tokenizer.bos_id
        )

    def of_step(self, step: int, salt: int = 0) -> list[int]:
        """Returns the ids of all samples of a step, counted from 1 as in the log.

        Raises:
            ArtifactError: there is no such step.
        """
        if step < 1:
            raise ArtifactError(f"there is no step {step}", where="trace", fix="steps are counted from 1")
        return [int(one) for one in self._stream.sample_ids(step - 1, salt)]

    def trace(self, id: int, salt: int = 0) -> Sample:
        """Returns where a sample came from.

        Args:
            id: of the sample.
            salt: how many rollbacks came before it; another salt is another order of the data.

        Raises:
            ArtifactError: there is no such sample, or the corpus is not there any more.
        """
        if id < 0:
            raise ArtifactError(f"there is no sample {id}", where="trace", fix="ids are 0 or more")
        spans: list[Span] = self._stream.spans_of(id, salt)  # type: ignore[attr-defined]
        return Sample(id, salt, [self._part(span) for span in spans])

    def _part(self, span: Span) -> Part:
        begin = int(self._tokens.offsets[span.document])
        ids = self._tokens.tokens[begin + max(span.first, 1) : begin + span.end]  # without BOS
        text = self._tokenizer.decode([int(one) for one in ids])
        return Part(span, document_at(self._corpus, "train", span.document), text)


def _begun(run: Path) -> tuple[PretrainConfig, dict[str, Any], int, str]:
    """Settings, plan, seed and the tokenizer's address of the newest pretraining, or of the one under way."""
    made = latest(run, Pretrain.artifact)
    if made is not None and made.record.left_out is None:
        config = PretrainConfig.parse(made.record.config, where=made.path)
        plan = json.loads((made.path / PLAN).read_text(encoding="utf-8"))
        return config, plan, made.record.seed, made.record.parents[TrainTokenizer.name]["address"]
    plans = list((run / WORK).glob(f"{Pretrain.name}-*/{PLAN}"))
    tokenizer = latest(run, TrainTokenizer.artifact)
    if not plans or tokenizer is None or not (run / RECIPE).is_file():
        raise ArtifactError("no model was trained here", where=run, fix=_FIX)
    recipe = read_yaml(run / RECIPE)
    settings = dict(recipe["stages"][Pretrain.name] or {})
    settings.pop("share", None)
    newest = max(plans, key=lambda path: path.stat().st_mtime)
    plan = json.loads(newest.read_text(encoding="utf-8"))
    config = PretrainConfig.parse(settings, where=run / RECIPE)
    return config, plan, int(recipe.get("seed", 0)), tokenizer.address
