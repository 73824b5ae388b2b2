"""Parity-aware training as a whole: texts by language, counted; then the parts of a tokenizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from ingot.errors import ConfigError, DataError
from ingot.progress import Task
from ingot.tokenizer import fair
from ingot.tokenizer.bpe_model import BPE
from ingot.tokenizer.counting import PieceCounts, count
from ingot.tokenizer.parts import Parts
from ingot.tokenizer.training import Seen, TokenizerConfig, learn_counted


def count_fairly(
    texts: Mapping[str, Iterable[str]],
    config: TokenizerConfig,
    parallel: Mapping[str, Sequence[str]] | None = None,
    task: Task | None = None,
) -> dict[str, fair.Language]:
    """Counts the pieces of several languages.

    Args:
        texts: language -> its texts, read once.
        config: split and limits; the languages share its memory.
        parallel: language -> the same sentences in it, which the languages are judged by; without them
            it is tokens per character of the texts, which suits languages of one script only.
        task: is told of every character.

    Raises:
        ConfigError: another kind than "bpe", or a limit on the length of tokens.
        DataError: fewer than two languages, or one that the parallel text lacks.
    """
    if config.kind != "bpe" or config.max_token_length is not None:
        what = f"parity-aware training of '{config.kind}'" + (
            " with max_token_length" if config.kind == "bpe" else ""
        )
        raise ConfigError(f"{what} is not there", where="tokenizer", fix="use kind bpe without that limit")
    if len(texts) < 2:
        fix = "give two languages or more"
        raise DataError(f"{len(texts)} language has nobody to be fair to", where="tokenizer", fix=fix)
    missing = sorted(set(texts) - set(parallel)) if parallel is not None else []
    if missing:
        what = f"the parallel text lacks {', '.join(missing)}"
        raise DataError(what, where="tokenizer", fix="name its columns as the languages")
    cut = Seen(config.pattern, config.normaliser or "none")
    share = config.memory_mb / len(texts)
    languages = {}
    for name, of_language in texts.items():
        pieces = count(of_language, cut, workers=config.workers, memory_mb=share, task=task)
        judged = None if parallel is None else count(parallel[name], cut, workers=1)
        languages[name] = fair.Language(pieces, judged, None if parallel is None else len(parallel[name]))
    return languages


def learn_fairly(
    languages: Mapping[str, fair.Language], vocabulary: int, config: TokenizerConfig, task: Task | None = None
) -> tuple[Parts, fair.FairMerges]:
    """Learns a byte-level BPE tokenizer that treats languages alike (see `fair`).

    Args:
        languages: as `count_fairly` counted them.
        vocabulary: ids to have in all; small texts may give fewer.
        config: split, control tokens and limits.
        task: is told of every merge.

    Returns:
        The parts, and whose pair each merge is.

    Raises:
        ConfigError: a vocabulary without room.
    """
    frame = learn_counted(PieceCounts(), vocabulary, config)  # all but the merges
    left = vocabulary - len(frame.names())
    learned = fair.train(languages, left, task, min_frequency=config.min_frequency)
    model = BPE.of_bytes(learned.merges)
    first = len(model.vocabulary)
    added = tuple(dataclasses.replace(token, id=first + place) for place, token in enumerate(frame.added))
    return dataclasses.replace(frame, model=model, added=added), learned
