"""A model and its tokenizer given more tokens together: words, control tokens, merges of another text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from ingot.errors import ConfigError
from ingot.export.surgery import Made
from ingot.models.decoder import Decoder
from ingot.models.surgery.vocabulary import Start, sources, with_rows
from ingot.tokenizer import surgery
from ingot.tokenizer.chat import TEMPLATE
from ingot.tokenizer.specials import END, START, Added
from ingot.tokenizer.tokenizer import Tokenizer


def extended(
    model: Decoder,
    tokenizer: Tokenizer,
    *,
    words: Sequence[str] = (),
    controls: Sequence[str] = (),
    chat: bool = False,
    texts: Iterable[str] | None = None,
    entries: int = 0,
    multiple: int = 1,
    start: Start = "mean",
) -> Made:
    """Adds tokens to both; old ids stay, and so do the logits of the old tokens.

    Args:
        model: whose tokenizer it is.
        tokenizer: with a token for each row of the embedding.
        words: that shall be one token each, with the space before them where they shall have one.
        controls: names of control tokens.
        chat: add the tokens and the template of a chat, where they are missing.
        texts: to learn further merges from, or None.
        entries: how many of those at most.
        multiple: fill the vocabulary up to a multiple of this with tokens that are not used.
        start: of new rows, see `models.surgery.vocabulary`.

    Raises:
        ConfigError: nothing to add, or words and names that cannot be.
    """
    if tokenizer.vocab_size != model.config.vocabulary:
        what = (
            f"the tokenizer has {tokenizer.vocab_size} tokens, the embedding {model.config.vocabulary} rows"
        )
        raise ConfigError(what, where="extend", fix="take the model in with `ingot import` first")
    changed = tokenizer
    if texts is not None:
        changed = surgery.grow(changed, texts, entries).tokenizer
    messages = [name for name in (START, END) if chat and name not in changed.special]
    changed = surgery.extend(changed, words, [*controls, *messages]).tokenizer
    if chat and changed.parts.chat_template is None:
        changed = _with_parts(changed, chat_template=TEMPLATE)
    filled = -(-changed.vocab_size // multiple) * multiple
    spare = [Added(f"<|unused_{number}|>", number) for number in range(changed.vocab_size, filled)]
    if spare:
        changed = _with_parts(changed, added=(*changed.parts.added, *spare))
    new = changed.vocab_size - tokenizer.vocab_size
    if not new:
        raise ConfigError("nothing is added", where="extend", fix="give words, controls, chat or a text")
    ids = np.arange(tokenizer.vocab_size)
    made = with_rows(model, sources(tokenizer, changed, ids, start))
    means = "the mean of the old ones" if start == "mean" else "the mean of the pieces that they were"
    return Made(made, changed, [f"{new} tokens are new; their rows start at {means}."])


def _with_parts(tokenizer: Tokenizer, **changes: object) -> Tokenizer:
    return Tokenizer(dataclasses.replace(tokenizer.parts, **changes))  # type: ignore[arg-type]
