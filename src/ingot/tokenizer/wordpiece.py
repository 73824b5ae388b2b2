"""WordPiece: tokens that begin a word and tokens that go on with it ("##ing"), the longest first.

Schuster and Nakajima 2012; as in BERT (Devlin et al. 2019). BERT's trainer was never published. Ours is that
of the `tokenizers` library: byte-pair encoding on characters, where a character inside a word is another
symbol than the same one at its beginning. So pairs are chosen by how often they occur, not by how much they
raise the likelihood.

Encoding is greedy: the longest token that begins the word, then the longest that goes on, and so forth. A
word for which this fails is unknown as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ingot.errors import ArtifactError, ConfigError
from ingot.progress import Task
from ingot.tokenizer.alphabet import BREAK, choose_alphabet, code_points
from ingot.tokenizer.bpe import MIN_FREQUENCY, learn
from ingot.tokenizer.words import SEPARATOR, UNKNOWN, Words

PREFIX = "##"
UNKNOWN_TOKEN = "[UNK]"
SPECIALS = ("[PAD]", UNKNOWN_TOKEN, "[CLS]", "[SEP]", "[MASK]")
"""BERT's control tokens, the first of the vocabulary."""

MAX_CHARACTERS = 100
"""A longer word is unknown, as in BERT."""


def train(
    pieces: Mapping[str, int],
    vocabulary: int,
    task: Task | None = None,
    *,
    specials: Sequence[str] = SPECIALS,
    min_frequency: int = MIN_FREQUENCY,
    max_token_length: int | None = None,
    initial_alphabet: Iterable[str] = (),
    limit_alphabet: int | None = 1000,
) -> list[str]:
    """Learns a vocabulary from counted words.

    Args:
        pieces: word -> how often it occurs; without blanks (see `split.WORDS`).
        vocabulary: entries to have in all; few words may give fewer.
        task: is told of every merge.
        specials: control tokens, which come first.
        min_frequency: pairs that are rarer are not merged.
        max_token_length: characters that a token may have at most, its prefix not counted.
        initial_alphabet: characters to have even if they do not occur.
        limit_alphabet: characters to have at most, the most frequent ones.

    Returns:
        The tokens by id: control tokens; characters that begin a word, by code point; those that go on, by
        code point; what was merged.

    Raises:
        ConfigError: the alphabet alone is larger than the vocabulary.

    Example:
        >>> train({"singing": 5, "sing": 5}, vocabulary=15)[5:]
        ['g', 'i', 'n', 's', '##g', '##i', '##n', '##in', '##ing', 'sing']
    """
    alphabet = choose_alphabet(pieces, initial_alphabet, limit_alphabet)
    points = code_points(pieces)
    ids = np.full(0x110000, UNKNOWN, dtype=np.int32)
    ids[[ord(character) for character in alphabet]] = np.arange(len(alphabet))
    ids[BREAK] = SEPARATOR
    row = ids[points]
    inside = np.flatnonzero((row[1:] >= 0) & (row[:-1] != SEPARATOR)) + 1
    going_on = np.unique(row[inside])
    renumber = np.zeros(len(alphabet), dtype=np.int32)
    renumber[going_on] = len(alphabet) + np.arange(len(going_on))
    row[inside] = renumber[row[inside]]

    texts = alphabet + [PREFIX + alphabet[index] for index in going_on.tolist()]
    merges = vocabulary - len(specials) - len(texts)
    if merges < 0:
        what = f"{vocabulary} entries are fewer than the {len(specials) + len(texts)} of the alphabet"
        fix = "ask for more, or set limit_alphabet"
        raise ConfigError(what, where="tokenizer.vocabulary", fix=fix)
    words = Words(row, np.fromiter(pieces.values(), np.int64, len(pieces)), min_frequency)
    for left, right in learn(words, [1] * len(texts), merges, task, max_token_length):
        texts.append(texts[left] + texts[right].removeprefix(PREFIX))
    return [*specials, *texts]


class WordPiece:
    """A vocabulary that encodes words.

    Args:
        tokens: by id; those that go on with a word begin with the prefix.
        unknown: the token for words that cannot be encoded; one of them.
        prefix: how tokens that go on begin.
        max_characters: longer words are unknown.

    Raises:
        ArtifactError: the unknown token is missing, or a token occurs twice.

    Example:
        >>> WordPiece(["[UNK]", "sing", "##ing", "s"]).encode_word("singing")
        [1, 2]
    """

    def __init__(
        self,
        tokens: Sequence[str],
        unknown: str = UNKNOWN_TOKEN,
        prefix: str = PREFIX,
        max_characters: int = MAX_CHARACTERS,
    ) -> None:
        self.tokens = list(tokens)
        self.max_characters = max_characters
        self._first = {text: token for token, text in enumerate(self.tokens)}
        if len(self._first) != len(self.tokens):
            twice = next(text for token, text in enumerate(self.tokens) if self._first[text] != token)
            what = f"the token {twice!r} occurs twice"
            raise ArtifactError(what, where="WordPiece vocabulary", fix="make the tokenizer again")
        if unknown not in self._first:
            what = f"there is no token {unknown!r}"
            raise ArtifactError(what, where="WordPiece vocabulary", fix="name the one for unknown words")
        self.unknown_id = self._first[unknown]
        cut = len(prefix)
        self._next = {text[cut:]: i for i, text in enumerate(self.tokens) if text.startswith(prefix)}
        self._longest = max(map(len, self.tokens))

    def encode_word(self, word: str) -> list[int]:
        """Returns the ids of one word; the unknown token's alone where it cannot be encoded."""
        size = len(word)
        if size > self.max_characters:
            return [self.unknown_id]
        ids: list[int] = []
        known, start = self._first, 0
        while start < size:
            for end in range(min(size, start + self._longest), start, -1):
                token = known.get(word[start:end])
                if token is not None:
                    break
            else:
                return [self.unknown_id]
            ids.append(token)
            known, start = self._next, end
        return ids
