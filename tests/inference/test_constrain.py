"""Constrained decoding: what a random model writes at temperature 2 still has the asked form."""

import gc
import json
import math
import re
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.errors import ConfigError, RequestError
from ingot.inference.choosing.constrain import Grammar, Guide, guide
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.choosing.trial import Trial
from ingot.inference.engine import Engine
from ingot.inference.request import Completion
from ingot.models.decoder import Decoder
from ingot.tokenizer import Tokenizer
from ingot.tokenizer.training import TokenizerConfig

pytest.importorskip("llguidance")

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 6},
        "degrees": {"type": "integer", "minimum": -90, "maximum": 60},
        "sky": {"enum": ["clear", "cloudy", None]},
        "days": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["city", "degrees", "sky", "days"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"left": {"$ref": "#/$defs/node"}, "value": {"type": "number"}},
            "required": ["value"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
SCHEMAS: list[Any] = [
    WEATHER,
    TREE,
    {"type": "array", "items": {"anyOf": [{"const": 1}, {"type": "null"}]}, "minItems": 2, "maxItems": 4},
    {"type": "string", "pattern": "^[a-c]{2,4}$"},
    {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 2},
    {},
]
EXPRESSIONS = [
    r"[a-c]{1,5}",
    r"(yes|no|perhaps)( indeed)?",
    r"[0-9]{3}-[0-9]{4}",
    r"[^x]{2,6}x",
    r"(é|日本|👩‍🚀)+!",
    r"^-?(0|[1-9][0-9]*)$",
    r"a|ab|abc",
]


def answers(
    model: Decoder, tokenizer: Tokenizer, grammar: Grammar, seeds: range = range(6), tokens: int = 80
) -> list[Completion]:
    engine = Engine(model, tokenizer, slots=8)
    wishes = [Sampling(temperature=2, seed=seed, max_new_tokens=tokens, grammar=grammar) for seed in seeds]
    return engine.generate([[tokenizer.bos_id]] * len(wishes), wishes, [tokenizer.eos_id])


def model_for(tokenizer: Tokenizer, model: Decoder) -> Decoder:
    """The model with a vocabulary of another size, a little larger than the tokenizer's."""
    built = model.config.model_copy(update={"vocabulary": tokenizer.vocab_size + 5}).build(seed=3)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(4))
    return built.eval()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_answers_match_the_expression(model: Decoder, tokenizer: Tokenizer, expression: str) -> None:
    found = answers(model, tokenizer, Grammar(kind="regex", text=expression))
    assert {one.finish_reason for one in found} <= {"stop", "length"}
    stopped = [one for one in found if one.finish_reason == "stop"]
    assert stopped
    for one in stopped:
        assert re.fullmatch(expression, one.text), one.text


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_answers_are_valid_json_of_the_schema(model: Decoder, tokenizer: Tokenizer, schema: Any) -> None:
    found = answers(model, tokenizer, Grammar(kind="json_schema", text=json.dumps(schema)), range(8), 140)
    stopped = [one for one in found if one.finish_reason == "stop"]
    assert stopped
    for one in stopped:
        jsonschema_rs.validate(schema, json.loads(one.text))
    assert all(len(one.tokens) == 140 for one in found if one.finish_reason == "length")


def test_any_json_object_will_do(model: Decoder, tokenizer: Tokenizer) -> None:
    found = answers(model, tokenizer, Grammar(kind="json_object"))
    assert any(one.finish_reason == "stop" for one in found)
    assert all(isinstance(json.loads(one.text), dict) for one in found if one.finish_reason == "stop")


def test_a_context_free_grammar_is_obeyed(model: Decoder, tokenizer: Tokenizer) -> None:
    brackets = 'start: "(" start ")" start | "[" start "]" | "x"'
    for one in answers(model, tokenizer, Grammar(kind="lark", text=brackets), range(8)):
        if one.finish_reason == "stop":
            text, before = one.text, None
            while text != before:
                before, text = text, re.sub(r"\(x\)x|\[x\]", "x", text)
            assert text == "x", one.text


@settings(max_examples=15, deadline=None)
@given(choices=st.lists(st.text(max_size=8), min_size=1, max_size=4), seed=st.integers(0, 1000))
def test_choices_are_taken_literally(
    model: Decoder, tokenizer: Tokenizer, choices: list[str], seed: int
) -> None:
    grammar = Grammar(kind="choice", text=json.dumps(choices))
    for one in answers(model, tokenizer, grammar, range(seed, seed + 3)):
        assert one.finish_reason == "stop"
        assert one.text in choices


@settings(max_examples=12, deadline=None)
@given(
    schema=st.recursive(
        st.sampled_from(
            [
                {"type": "null"},
                {"type": "boolean"},
                {"const": "é\n"},
                {"enum": [1, 2.5, "x"]},
                {"type": "integer"},
            ]
        ),
        lambda inner: st.one_of(
            st.builds(lambda items: {"type": "array", "items": items, "maxItems": 2}, inner),
            st.builds(
                lambda fields: {
                    "type": "object",
                    "properties": fields,
                    "required": sorted(fields)[:1],
                    "additionalProperties": False,
                },
                st.dictionaries(st.sampled_from(["a", "b c", "日"]), inner, max_size=2),
            ),
        ),
        max_leaves=4,
    ),
    seed=st.integers(0, 1000),
)
def test_any_schema_of_common_parts_is_obeyed(
    model: Decoder, tokenizer: Tokenizer, schema: Any, seed: int
) -> None:
    grammar = Grammar(kind="json_schema", text=json.dumps(schema))
    for one in answers(model, tokenizer, grammar, range(seed, seed + 2), 60):
        if one.finish_reason == "stop":
            jsonschema_rs.validate(schema, json.loads(one.text))
        else:
            assert one.finish_reason == "length"


def test_other_tokenizers_spell_the_same_forms(model: Decoder) -> None:
    """Tokens of unigram hold their space in front, and its vocabulary lacks most bytes."""
    text = 'the cat said {"a": 1, "b": [true, false, null]} to the café, twice: 日本 12 34 ab abc.\n'
    tokenizer = Tokenizer.train([text * 20], 300, config=TokenizerConfig.parse({"kind": "unigram"}))
    engine = Engine(model_for(tokenizer, model), tokenizer, slots=4)
    forms: list[tuple[Grammar, Callable[[str], Any]]] = [
        (Grammar(kind="json_object"), lambda text: isinstance(json.loads(text), dict)),
        (Grammar(kind="regex", text=r"[ab ]{1,6}"), lambda text: re.fullmatch(r"[ab ]{1,6}", text)),
        (Grammar(kind="choice", text='["true", "the cat"]'), lambda text: text in ("true", "the cat")),
        (Grammar(kind="lark", text='start: "the" " cat"+'), lambda text: re.fullmatch("the( cat)+", text)),
    ]
    for grammar, valid in forms:
        wishes = [Sampling(temperature=2, seed=s, max_new_tokens=60, grammar=grammar) for s in range(5)]
        found = engine.generate([[5]] * 5, wishes, [tokenizer.vocab_size - 1])
        assert all(one.finish_reason in ("stop", "length") for one in found)
        assert any(one.finish_reason == "stop" for one in found)
        assert all(valid(one.text) for one in found if one.finish_reason == "stop")


def test_a_tokenizer_that_begins_every_word_with_a_space_is_not_bent() -> None:
    """No WordPiece token is a bracket at the very beginning of a text: nothing is left out instead."""
    text = 'the cat said {"a": 1, "b": [true, false, null]} to the café.\n'
    tokenizer = Tokenizer.train([text * 20], 300, config=TokenizerConfig.parse({"kind": "wordpiece"}))
    with pytest.raises(RequestError, match="no token"):
        guide(Grammar(kind="json_object"), tokenizer)


def test_an_answer_may_stop_exactly_where_the_grammar_may_end(tokenizer: Tokenizer) -> None:
    made = guide(Grammar(kind="regex", text="ab?"), tokenizer, [tokenizer.eos_id])
    assert made is not None
    a, b, end = *tokenizer.encode("a"), *tokenizer.encode("b"), tokenizer.eos_id

    def allowed(at: Guide) -> set[int]:
        return set(at.allowed(tokenizer.vocab_size).nonzero()[0].tolist())

    assert a in allowed(made)
    assert end not in allowed(made)
    assert not made.complete
    assert not made.push(a)
    assert allowed(made) == {b, end}
    assert made.complete
    other = made.fork()
    assert made.push(b)
    assert allowed(made) == {end}
    assert allowed(other) == {b, end}


def test_an_ordinary_token_that_stops_waits_for_the_grammar(engine: Engine, tokenizer: Tokenizer) -> None:
    """A line break may be part of JSON, but where it ends an answer it must not cut one in two."""
    [newline] = tokenizer.encode("\n")
    wish = Sampling(temperature=2, max_new_tokens=60, grammar=Grammar(kind="json_object"))
    wishes = [wish.model_copy(update={"seed": seed}) for seed in range(8)]
    found = engine.generate([[tokenizer.bos_id]] * 8, wishes, [newline])
    assert any(one.finish_reason == "stop" for one in found)
    for one in found:
        if one.finish_reason == "stop":
            assert isinstance(json.loads(one.text), dict)


def test_what_is_compiled_goes_when_its_tokenizer_does() -> None:
    tokenizer = Tokenizer.train(["a b c"], vocabulary=300)
    assert guide(Grammar(kind="regex", text="ab"), tokenizer) is not None
    gone = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert gone() is None


def test_control_tokens_are_never_part_of_an_answer(tokenizer: Tokenizer) -> None:
    made = guide(Grammar(kind="regex", text="(.|\n)*"), tokenizer, [tokenizer.eos_id])
    assert made is not None
    allowed = made.allowed(tokenizer.vocab_size)
    assert [token for token in tokenizer.special.values() if allowed[token]] == [tokenizer.eos_id]


def test_without_stop_tokens_an_answer_ends_where_nothing_can_follow(
    engine: Engine, tokenizer: Tokenizer
) -> None:
    wish = Sampling(temperature=2, seed=1, grammar=Grammar(kind="regex", text="[ab]{3}"))
    [found] = engine.generate([[tokenizer.bos_id]], wish)
    assert found.finish_reason == "stop"
    assert re.fullmatch("[ab]{3}", found.text)


def test_a_cut_answer_says_so(engine: Engine, tokenizer: Tokenizer) -> None:
    wish = Sampling(temperature=2, seed=1, max_new_tokens=5, grammar=Grammar(kind="regex", text="[ab]{30}"))
    [found] = engine.generate([[tokenizer.bos_id]], wish, [tokenizer.eos_id])
    assert found.finish_reason == "length"


def test_neighbours_without_a_grammar_are_left_alone(model: Decoder, tokenizer: Tokenizer) -> None:
    prompts = [tokenizer.encode("def"), tokenizer.encode("café"), tokenizer.encode("return")]
    plain = [Sampling(temperature=1.5, seed=seed, max_new_tokens=20) for seed in range(3)]
    alone = Engine(model, tokenizer).generate(prompts, plain)
    bound = plain[1].model_copy(update={"grammar": Grammar(kind="regex", text="[ab]{9}")})
    mixed = Engine(model, tokenizer).generate(prompts, [plain[0], bound, plain[2]])
    assert [alone[0].tokens, alone[2].tokens] == [mixed[0].tokens, mixed[2].tokens]
    assert re.fullmatch("[ab]{9}", mixed[1].text)


def test_a_grammar_that_the_tokenizer_cannot_write_is_refused(tokenizer: Tokenizer) -> None:
    class NoDigits:
        vocab_size = tokenizer.vocab_size
        special = tokenizer.special
        byte_level = False

        def token_bytes(self, token: int) -> bytes:
            made = tokenizer.token_bytes(token)
            return b"" if made.isdigit() else made

        def encode(self, text: str) -> list[int]:
            return tokenizer.encode(text)

    letters = NoDigits()
    assert guide(Grammar(kind="regex", text="a1?"), letters) is not None
    with pytest.raises(RequestError, match="grammar cannot be used"):
        guide(Grammar(kind="regex", text="1a"), letters)


def test_a_dead_end_ends_the_request_and_nobody_else(model: Decoder, tokenizer: Tokenizer) -> None:
    """Whatever stops a grammar midway, its request says 'error' and the others go on."""
    engine = Engine(model, tokenizer, slots=4)
    bound = engine.submit([5], Sampling(grammar=Grammar(kind="regex", text="[ab]{9}"), max_new_tokens=9))
    other = engine.submit([6], Sampling(max_new_tokens=6))
    engine.step()
    assert bound.guide is not None
    bound.guide._ordinary = bound.guide._ordinary & False
    while other.finish_reason is None:
        engine.step()
    assert bound.finish_reason == "error"
    assert "no token" in str(bound.guide.failed)
    assert other.finish_reason == "length"
    assert len(other.tokens) == 6


def nested(depth: int) -> str:
    return '{"items":' * depth + "{}" + "}" * depth


@pytest.mark.parametrize(
    ("kind", "text", "match"),
    [
        ("regex", "", "needs its text"),
        ("regex", "\ud800", "unicode string"),
        ("regex", "a" * 200_000, "at most"),
        ("json_schema", "{", "cannot be used"),
        ("json_schema", "[]", "is an object"),
        ("json_schema", nested(65), "nested 66 deep"),
        ("json_schema", "[" * 100_000, "nested 100000 deep"),
        ("json_schema", '{"$ref": "https://example.com/a.json"}', "only its own parts"),
        ("json_schema", '{"properties": {"a": {"$ref": "file:///etc/passwd"}}}', "only its own parts"),
        ("choice", "[]", "at least one"),
        ("choice", '["a", 1]', "array of texts"),
        ("choice", json.dumps(["a"] * 2000), "more than 1024"),
        ("choice", '"a"', "array of texts"),
        ("gbnf", "a", "is not"),
    ],
)
def test_what_is_no_grammar_is_refused_where_it_is_read(kind: str, text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Sampling.parse({"grammar": {"kind": kind, "text": text}})


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("regex", "("),
        ("regex", "(?=a)b"),
        ("regex", r"(a)\1"),
        ("regex", "(" * 60_000 + "a" + ")" * 60_000),
        ("lark", "start: missing"),
        ("lark", "start: " + "(" * 60_000 + '"a"' + ")" * 60_000),
        ("lark", "start: start"),
        (
            "lark",
            "start: "
            + " ".join(f"r{i}" for i in range(4000))
            + "".join(f'\nr{i}: "x" | r{i + 1}' for i in range(4000))
            + '\nr4000: "y"',
        ),
        ("json_schema", '{"not": {}}'),
        ("json_schema", '{"type": "integer", "minimum": 3, "maximum": 2}'),
        ("json_schema", '{"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}'),
        ("json_schema", '{"$ref": "#/nowhere"}'),
        (
            "json_schema",
            json.dumps(
                {
                    "allOf": [
                        {"anyOf": [{"properties": {f"p{i}": {"minimum": j}}} for j in range(10)]}
                        for i in range(12)
                    ]
                }
            ),
        ),
    ],
    ids=range(13),
)
def test_what_cannot_be_compiled_is_refused_at_once(tokenizer: Tokenizer, kind: str, text: str) -> None:
    with pytest.raises(RequestError, match=r"the grammar cannot be used: .+") as caught:
        guide(Grammar.parse({"kind": kind, "text": text}), tokenizer)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("regex", "((a{1000}){1000}){1000}"),
        ("json_schema", json.dumps({"type": "string", "pattern": "^(((a{100}){100}){100}){100}$"})),
    ],
)
def test_what_would_compile_for_hours_is_refused_and_others_still_work(
    tokenizer: Tokenizer, kind: str, text: str
) -> None:
    """No time is asserted: the test would never end if nothing did it."""
    hostile = Grammar.parse({"kind": kind, "text": text})
    seen: list[Exception] = []

    def ask() -> None:
        try:
            guide(hostile, tokenizer)
        except RequestError as error:
            seen.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    ticks = 0
    while asking.is_alive():  # meanwhile this thread goes on
        ticks += 1
        time.sleep(0.01)
    assert ticks > 3
    assert "too complex" in str(seen[0])
    assert guide(Grammar(kind="regex", text="a{5}"), tokenizer) is not None


def test_the_helper_is_replaced_when_it_dies() -> None:
    from llguidance import LLMatcher

    trial = Trial()
    fine = LLMatcher.grammar_from_regex("a{3}")
    assert trial.verdict(fine) == ""
    assert trial._process is not None
    trial._process.kill()
    trial._process.wait()
    assert "too complex" in trial.verdict(fine) or trial.verdict(fine) == ""
    assert trial.verdict(fine) == ""
    assert "error" in trial.verdict(LLMatcher.grammar_from_regex("(")).lower()
    process = trial._process
    trial.close()
    assert process is not None
    assert process.returncode is not None


def test_grammars_are_compiled_once(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    verdict = Trial.verdict
    monkeypatch.setattr(Trial, "verdict", lambda self, text: asked.append(text) or verdict(self, text))
    for _ in range(3):
        assert guide(Grammar(kind="regex", text="only[once]"), tokenizer) is not None
        with pytest.raises(RequestError):
            guide(Grammar(kind="regex", text="once[wrong"), tokenizer)
    assert len(asked) == 2


def test_logprobs_are_of_the_model_not_of_the_grammar(model: Decoder, tokenizer: Tokenizer) -> None:
    wish = Sampling(temperature=2, seed=3, grammar=Grammar(kind="regex", text="[ab]{4}"))
    [found] = Engine(model, tokenizer).generate([[tokenizer.bos_id]], wish)
    ids = torch.tensor([[tokenizer.bos_id, *found.tokens]])
    expected = model(ids).logits[0].log_softmax(-1)
    for place, (token, logprob) in enumerate(zip(found.tokens, found.logprobs, strict=True)):
        assert math.isclose(logprob, expected[place, token].item(), abs_tol=1e-3)
