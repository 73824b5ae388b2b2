"""Synthetic short stories in simple words: a corpus that needs no network, in place of TinyStories.

A story has a plot (who, where, with what, what goes wrong, who helps) and a telling: sentences drawn from a
small grammar. The same plot may be told twice; whether a story is held out is decided by its plot, so that
no held-out plot is ever trained on. Everything follows from (seed, number).

The idea is TinyStories' (Eldan and Li 2023, "TinyStories: How Small Can Language Models Be and Still Speak
Coherent English?"), whose stories a large model wrote; these are built from a grammar, and teach spelling,
agreement, pronouns and the order of a story, not the world.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import parse_qsl, urlsplit

from ingot.data.document import Document
from ingot.data.readers.reading import Reading
from ingot.data.readers.source import Source
from ingot.errors import DataError

T = TypeVar("T")

COUNT, SEED = 20_000, 0
LICENCE = "CC0-1.0"

_HEROES = {
    "she": ("Lily", "Mia", "Anna", "Sue", "Ella", "Zoe", "Nora", "Ruby", "Amy", "Lucy", "Rosa", "Ida"),
    "he": ("Tom", "Ben", "Max", "Tim", "Sam", "Leo", "Jack", "Finn", "Otto", "Hugo", "Noah", "Paul"),
}
_FRIENDS = (
    "a little bird",
    "an old turtle",
    "a kind dog",
    "a small mouse",
    "a brown bear",
    "a funny frog",
    "a shy fox",
    "a wise owl",
    "a big horse",
    "a quick rabbit",
    "a sleepy cat",
    "a gray goose",
)
_GROWN = ("mom", "dad", "grandma", "grandpa", "aunt", "uncle", "teacher", "big sister", "big brother")
_PLACES = (
    "in the park",
    "by the river",
    "in the garden",
    "on the beach",
    "in the forest",
    "at the farm",
    "on the hill",
    "in the yard",
    "by the lake",
    "at the market",
    "in the snow",
    "near the old bridge",
)
_THINGS = (
    ("ball", "red"),
    ("kite", "blue"),
    ("boat", "wooden"),
    ("hat", "yellow"),
    ("doll", "soft"),
    ("drum", "loud"),
    ("cup", "shiny"),
    ("book", "big"),
    ("scarf", "warm"),
    ("bell", "tiny"),
    ("truck", "green"),
    ("key", "old"),
    ("lamp", "bright"),
    ("basket", "round"),
    ("blanket", "purple"),
    ("shell", "pink"),
)
_FEELINGS = (
    ("sad", "happy"),
    ("scared", "brave"),
    ("angry", "calm"),
    ("tired", "proud"),
    ("worried", "glad"),
)
_WEATHER = ("sunny", "cloudy", "windy", "warm", "cold", "rainy")
_LESSONS = (
    "it is good to ask for help",
    "friends help each other",
    "it is good to share",
    "trying again can work",
    "being kind makes others happy",
    "it is good to tell the truth",
    "small friends can do big things",
)

_TROUBLES = (
    (
        (
            "The {thing} rolled away and fell into a deep hole.",
            "Then the {thing} slipped into a hole in the ground.",
        ),
        (
            "{Friend} reached down and pulled the {thing} out.",
            "{Friend} found a long stick and lifted the {thing} up.",
        ),
    ),
    (
        (
            "A strong wind took the {thing} up into a tall tree.",
            "The wind blew, and the {thing} got stuck in a tree.",
        ),
        (
            "{Friend} went up the tree and brought the {thing} down.",
            "{Friend} shook the tree until the {thing} fell.",
        ),
    ),
    (
        (
            "The {thing} fell into the water and began to float away.",
            "Splash! The {thing} was in the water.",
        ),
        (
            "{Friend} swam out and pushed the {thing} back.",
            "{Friend} made a wave, and the {thing} came back.",
        ),
    ),
    (
        (
            "But then the {thing} broke into two pieces.",
            "There was a loud crack, and the {thing} was broken.",
        ),
        (
            "{Friend} had some glue, and together they fixed the {thing}.",
            "{Friend} held it while {name} tied a string around the {thing}.",
        ),
    ),
    (
        (
            "When {pronoun} looked again, the {thing} was gone.",
            "{Pronoun} looked away, and then the {thing} was lost.",
        ),
        (
            "{Friend} looked behind a rock, and there was the {thing}!",
            "{Friend} found the {thing} under some leaves.",
        ),
    ),
    (
        (
            "Another child wanted the {thing} and began to cry.",
            "A small boy saw the {thing} and cried because he had none.",
        ),
        (
            '{Friend} said, "You can play together!" and so they did.',
            "{Friend} showed them how to take turns.",
        ),
    ),
    (
        (
            "The {thing} was covered with mud and looked very dirty.",
            "{name} fell, and there was mud all over the {thing}.",
        ),
        (
            "{Friend} brought water, and they washed the {thing} clean.",
            "{Friend} rubbed the {thing} until it was clean.",
        ),
    ),
)

_BEGINNINGS = (
    "Once upon a time, there was a little {child} named {name}. {Pronoun} had a {colour} {thing}.",
    "One {weather} day, {name} went to play {place}. {Pronoun} took {possessive} {colour} {thing} along.",
    "{name} was a little {child} who loved {possessive} {colour} {thing} very much.",
    "It was a {weather} morning. {name} woke up and ran to find {possessive} {colour} {thing}.",
    "{Possessive} {grown} gave {name} a {colour} {thing}. {name} was so happy!",
)
_MIDDLES = (
    "{Pronoun} played with it {place} all morning.",
    "{Pronoun} wanted to show the {thing} to everyone {place}.",
    '"Look at my {thing}!" {name} said. {Pronoun} ran and jumped {place}.',
    "{name} and {possessive} {grown} walked slowly {place} and sang a song.",
    "The sky was {sky}, and {name} laughed {place}.",
)
_SORROWS = (
    "{name} felt very {bad}.",
    '"Oh no!" said {name}. {Pronoun} was {bad}.',
    "{name} did not know what to do. {Pronoun} felt {bad} and sat down.",
    '"What can I do now?" {name} asked. {Possessive} eyes were full of tears.',
)
_MEETINGS = (
    'Just then, {friend} came by. "Why are you {bad}?" {friend_the} asked.',
    'Soon {name} met {friend}. "Can I help you?" asked {friend_the}.',
    '{Friend_a} heard {object} and came closer. "Do not worry," {friend_the} said. "I will help you."',
)
_THANKS = (
    '"Thank you!" said {name}. {Pronoun} was {good} again.',
    "{name} gave {friend_the} a big hug. Now {pronoun} felt {good}.",
    '"You are my best friend," {name} said with a smile. {Pronoun} was so {good}.',
)
_ENDINGS = (
    "They played together until the sun went down.",
    "And {name} and {friend_the} were friends for ever after.",
    "When {name} came home, {pronoun} told {possessive} {grown} all about it.",
    '{Possessive} {grown} smiled and said, "You see, {lesson}."',
    "From that day on, {name} knew that {lesson}.",
    "That night, {name} slept well with the {thing} by the bed.",
)


@dataclass(frozen=True)
class Story:
    """One story: its plot, which decides the split, and its text."""

    plot: str
    text: str

    @property
    def split(self) -> Literal["train", "heldout"]:
        """One plot in ten is held out, by the hash of the plot."""
        return "heldout" if hashlib.sha256(self.plot.encode("utf-8")).digest()[0] < 26 else "train"


def story(number: int, seed: int = SEED) -> Story:
    """Makes one story.

    Args:
        number: which, from 0.
        seed: of all of them.

    Example:
        >>> story(0) == story(0), story(0) == story(1)
        (True, False)
    """
    draw = _Draw(seed, number)
    pronoun = draw.of(("she", "he"))
    name, friend = draw.of(_HEROES[pronoun]), draw.of(_FRIENDS)
    thing, colour = draw.of(_THINGS)
    place, grown = draw.of(_PLACES), draw.of(_GROWN)
    trouble = draw.below(len(_TROUBLES))
    plot = "|".join((name, friend, thing, place, str(trouble)))
    bad, good = draw.of(_FEELINGS)
    possessive = {"she": "her", "he": "his"}[pronoun]
    the = "the " + friend.split(" ", 1)[1]
    words = {
        "name": name,
        "pronoun": pronoun,
        "Pronoun": pronoun.capitalize(),
        "possessive": possessive,
        "Possessive": possessive.capitalize(),
        "object": {"she": "her", "he": "him"}[pronoun],
        "child": {"she": "girl", "he": "boy"}[pronoun],
        "thing": thing,
        "colour": colour,
        "place": place,
        "grown": grown,
        "bad": bad,
        "good": good,
        "friend": friend,
        "friend_the": the,
        "Friend": the.capitalize(),
        "Friend_a": friend.capitalize(),
        "weather": draw.of(_WEATHER),
        "sky": draw.of(("blue", "gray", "clear")),
        "lesson": draw.of(_LESSONS),
    }
    wrong, mended = _TROUBLES[trouble]
    first = (draw.of(_BEGINNINGS), draw.of(_MIDDLES))
    second = (draw.of(wrong), draw.of(_SORROWS))
    third = (draw.of(_MEETINGS), draw.of(mended), draw.of(_THANKS))
    last = draw.some(_ENDINGS, 1 + draw.below(2))
    paragraphs = (" ".join(sentences).format(**words) for sentences in (first, second, third, last))
    return Story(plot, "\n\n".join(paragraphs))


class _Draw:
    """Draws that are the same on every Python: only `random()` is promised to be."""

    def __init__(self, seed: int, number: int) -> None:
        self._source = random.Random(f"{seed}:{number}")

    def below(self, count: int) -> int:
        return int(self._source.random() * count)

    def of(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def some(self, choices: Sequence[str], count: int) -> list[str]:
        """Different ones, in their order."""
        left = list(range(len(choices)))
        drawn = [left.pop(self.below(len(left))) for _ in range(count)]
        return [choices[index] for index in sorted(drawn)]


def stories(count: int = COUNT, seed: int = SEED) -> Iterator[Story]:
    """Makes different stories, in order; one whose text came before is left out.

    Args:
        count: how many to make, at most.
        seed: of all of them.
    """
    seen: set[bytes] = set()
    for number in range(count):
        made = story(number, seed)
        key = hashlib.sha256(made.text.encode("utf-8")).digest()[:16]
        if key not in seen:
            seen.add(key)
            yield made


def open_stories(url: str) -> Source:
    """Makes the source for `stories://made?count=20000&seed=0`.

    Raises:
        DataError: count or seed is no number.
    """
    options = dict(parse_qsl(urlsplit(url).query))
    try:
        count, seed = int(options.pop("count", COUNT)), int(options.pop("seed", SEED))
    except ValueError:
        count = seed = -1
    if count < 1 or seed < 0 or options:
        raise DataError("cannot be used", where=url, fix="write stories://made?count=20000&seed=0")
    return Source(Path("stories"), "stories", LICENCE, f"stories://made?count={count}&seed={seed}")


def read_stories(source: Source, reading: Reading) -> Iterator[Document]:
    """Reads made stories; ids are `stories:number`.

    Their sources are shelves, `stories/00` to `stories/ff`, by plot: a corpus is split by source, and so no
    plot comes to lie on both sides.
    """
    options = dict(parse_qsl(urlsplit(source.url or "").query))
    made = stories(int(options["count"]), int(options["seed"]))
    for number, one in enumerate(made, start=1):
        shelf = hashlib.sha256(one.plot.encode("utf-8")).hexdigest()[:2]
        yield Document(f"{source.name}:{number}", f"{source.name}/{shelf}", one.text, "text", source.licence)
