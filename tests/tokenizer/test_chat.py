"""Chat rendering and encoding against `apply_chat_template` of `transformers`."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ingot.tokenizer
from ingot.errors import ArtifactError, RequestError
from ingot.tokenizer import Tokenizer
from ingot.tokenizer.chat import encode_chat, render
from ingot.tokenizer.tokenizer import SPECIALS

TEXTS = st.text() | st.sampled_from(
    ["", "\n", " \n x", "{{ bos_token }}", "{% raw %}", "a\r\nb\n", "<b>&amp;"]
)
ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
MESSAGES = st.lists(st.fixed_dictionaries({"role": ROLES, "content": TEXTS}), min_size=1, max_size=4)
TRICKS = st.lists(st.sampled_from([*SPECIALS, "<|im_", "end|>", "assistant\n", "x"]), max_size=6).map("".join)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["assistant user\n system <|im_start|><|im_end|> hello there\n\n  world"] * 3, 330)


@pytest.fixture(scope="module")
def theirs(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    transformers = pytest.importorskip("transformers")
    folder: Path = tmp_path_factory.mktemp("chat")
    tokenizer.save(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


@settings(max_examples=150, deadline=None)
@given(messages=MESSAGES, prompt=st.booleans())
def test_rendering_and_ids_equal_transformers(
    messages: list, prompt: bool, tokenizer: Tokenizer, theirs: Any
) -> None:
    text = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    assert render(messages, prompt) == text
    ids, mask = encode_chat(tokenizer, messages, prompt)
    assert len(mask) == len(ids)
    if any(name in message["content"] for name in SPECIALS for message in messages):
        return  # there the library obeys the text, and we do not
    expected = theirs.apply_chat_template(messages, tokenize=True, add_generation_prompt=prompt)["input_ids"]
    assert ids == expected


@settings(max_examples=150, deadline=None)
@given(content=TRICKS, role=TRICKS)
def test_nobody_can_type_a_control_token(content: str, role: str, tokenizer: Tokenizer) -> None:
    ids, _ = encode_chat(tokenizer, [{"role": role, "content": content}])
    control = set(tokenizer.special.values())
    places = [token for token in ids if token in control]
    assert places == [tokenizer.bos_id, tokenizer.special["<|im_start|>"], tokenizer.special["<|im_end|>"]]
    assert tokenizer.decode(ids) == render([{"role": role, "content": content}])


def test_the_mask_covers_what_the_assistant_says(tokenizer: Tokenizer) -> None:
    messages = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "there"},
        {"role": "user", "content": "world"},
        {"role": "assistant", "content": "hello there"},
    ]
    ids, mask = encode_chat(tokenizer, messages)
    said = [token for token, taught in zip(ids, mask, strict=True) if taught]
    assert tokenizer.decode(said) == "there<|im_end|>hello there<|im_end|>"


@settings(max_examples=150, deadline=None)
@given(content=st.text())
def test_the_mask_follows_the_generation_prompt(content: str, tokenizer: Tokenizer) -> None:
    """Where the answer does not melt into the header, what is taught is what generation must produce."""
    user = {"role": "user", "content": "hello"}
    prompt, _ = encode_chat(tokenizer, [user], add_generation_prompt=True)
    ids, mask = encode_chat(tokenizer, [user, {"role": "assistant", "content": content}])
    taught = [index for index, one in enumerate(mask) if one]
    assert taught == list(range(taught[0], len(ids) - len(tokenizer.encode("\n"))))
    assert taught[0] >= len(prompt) or content[:1].isspace()
    if ids[: len(prompt)] == prompt:
        assert taught[0] == len(prompt)
        end = tokenizer.special["<|im_end|>"]
        assert ids[len(prompt) :] == [*tokenizer.encode(content), end, *tokenizer.encode("\n")]


@pytest.mark.parametrize("wrong", [{}, {"role": "user"}, {"role": "user", "content": None}, "text"])
def test_messages_without_text_are_refused(wrong: Any, tokenizer: Tokenizer) -> None:
    with pytest.raises(RequestError, match="message 2"):
        encode_chat(tokenizer, [{"role": "user", "content": "hi"}, wrong])
    with pytest.raises(RequestError, match="message 1"):
        render([wrong])


def test_an_empty_conversation_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(RequestError, match="no message"):
        encode_chat(tokenizer, [])


def test_a_tokenizer_without_chat_tokens_says_so(tmp_path: Path) -> None:
    from ingot.tokenizer.training import TokenizerConfig

    config = TokenizerConfig(specials=("<|endoftext|>",), workers=1)
    plain = Tokenizer.train(["some text " * 9], 300, config=config)
    with pytest.raises(ArtifactError, match="no token for 'start'"):
        encode_chat(plain, [{"role": "user", "content": "hello"}])


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(ingot.tokenizer.__path__)])
def test_the_examples_in_the_documentation_are_true(name: str) -> None:
    module = importlib.import_module(f"ingot.tokenizer.{name}")
    assert doctest.testmod(module, extraglobs={"Tokenizer": Tokenizer}).failed == 0
