"""Stage tag: what is each word: a name, a place, a verb?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from ingot.data.labelled.batches import RowStream, batches
from ingot.evaluate.classification import by_class, things_f1
from ingot.evaluate.scores import Score
from ingot.objectives.objective import IGNORED, Batch
from ingot.objectives.token_classification import TokenClassification
from ingot.pipeline import Context, Outlook
from ingot.stages.encoding import EncoderLearningConfig, begin, finish, framed
from ingot.stages.examples import read_side
from ingot.stages.learning import AT_ONCE, each, fit, write_scores
from ingot.stages.training import INDIFFERENT
from ingot.tokenizer.tokenizer import Tokenizer
from ingot.tokenizer.training import TokenizerConfig


class TagConfig(EncoderLearningConfig):
    """How to learn to tag words; see `EncoderLearningConfig`. Capitals, which tell names, are kept."""

    tokenizer: TokenizerConfig = TokenizerConfig(kind="wordpiece", normaliser="bert_cased")


class Tag:
    """Makes a tagger, measured beside the most frequent tag of each word."""

    name = "tag"
    artifact = "tagger"
    kind = "encoder"
    indifferent = INDIFFERENT

    def __init__(self, config: TagConfig) -> None:
        self.config, self.needs, self.identity = config, config.needs, config.identity

    def check(self, outlook: Outlook) -> None:
        """Refuses settings that do not go together."""
        self.config.refuse(self.name, outlook)

    def run(self, context: Context) -> None:
        """Writes the model's folder and `evaluation.json`."""
        train, heldout = (read_side(context, side, "tags") for side in ("train", "heldout"))
        config = self.config
        names = sorted({tag for row in train for tag in row["tags"]})
        numbers = {name: number for number, name in enumerate(names)}
        texts = (" ".join(row["words"]) for row in train)
        model, tokenizer = begin(context, config, texts, "tokens", names)
        pads = {"inputs": tokenizer.pad_id, "labels": IGNORED}
        learnt = [part for row in train for part in rows(tokenizer, row, numbers, config.context)]
        stream = RowStream(learnt, pads, min(config.batch_size, len(learnt)), context.seed)
        fitted = fit(context, config, "learning to tag", model, TokenClassification(), stream)
        finish(context, model, tokenizer, fitted)

        parts = [list(rows(tokenizer, row, numbers, config.context, asked=True)) for row in heldout]

        def look(batch: Batch) -> list[list[int]]:
            said = model(batch["inputs"]).logits.argmax(-1)
            return [row[first != IGNORED].tolist() for row, first in zip(said, batch["labels"], strict=True)]

        flat = [one for row in parts for one in row]
        answers = iter(
            [
                one
                for part in each(model, batches(flat, pads, AT_ONCE), look, context, "tagging")
                for one in part
            ]
        )
        said = [[names[number] for _ in row for number in next(answers)] for row in parts]
        right = [row["tags"] for row in heldout]
        usual = usual_tags(train)
        simple = [usual(row["words"]) for row in heldout]
        score = Score(
            "tag accuracy",
            [_agree(a, b) for a, b in zip(said, right, strict=True)],
            counts=[len(row) for row in right],
            baselines={
                "most frequent tag of each word": [_agree(a, b) for a, b in zip(simple, right, strict=True)]
            },
            unit="sentences",
        )
        every = [[tag for row in side for tag in row] for side in (right, said)]
        details = {
            "things": {
                "ours": things_f1(right, said),
                "most frequent tag of each word": things_f1(right, simple),
            },
            **by_class(*every),
        }
        write_scores(context, "tags", [score], details)


def rows(
    tokenizer: Tokenizer, example: dict[str, Any], numbers: dict[str, int], context: int, asked: bool = False
) -> Iterator[dict[str, Any]]:
    """Makes rows of a sentence: every word's first piece has its tag, all else is not asked for.

    Args:
        tokenizer: with CLS and SEP.
        example: its words and tags.
        numbers: of the tags.
        context: tokens of a row; longer sentences are several rows, cut between words.
        asked: whether tags that nobody learnt are asked for too (as the first tag): none is passed over.
    """
    room = context - 2
    ids: list[int] = []
    labels: list[int] = []
    for word, tag in zip(example["words"], example["tags"], strict=True):
        pieces = (tokenizer.encode(f" {word}") or [tokenizer.role_id("unk")])[:room]
        if len(ids) + len(pieces) > room:
            yield {"inputs": framed(tokenizer, ids, context), "labels": [IGNORED, *labels, IGNORED]}
            ids, labels = [], []
        ids += pieces
        labels += [numbers.get(tag, 0 if asked else IGNORED), *[IGNORED] * (len(pieces) - 1)]
    yield {"inputs": framed(tokenizer, ids, context), "labels": [IGNORED, *labels, IGNORED]}


def usual_tags(train: Sequence[dict[str, Any]]) -> Any:
    """Returns a function that gives each word its most frequent tag, new words the commonest of all."""
    every: Counter[str] = Counter()
    known: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in train:
        every.update(row["tags"])
        for word, tag in zip(row["words"], row["tags"], strict=True):
            known[word][tag] += 1
    top = every.most_common(1)[0][0]
    best = {word: counts.most_common(1)[0][0] for word, counts in known.items()}
    return lambda words: [best.get(word, top) for word in words]


def _agree(said: Sequence[str], right: Sequence[str]) -> int:
    return sum(a == b for a, b in zip(said, right, strict=True))
