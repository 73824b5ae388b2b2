"""Chat: messages to text by a template, and to ids with a mask of what the assistant says.

The template is ChatML: `<|im_start|>role\\ncontent<|im_end|>\\n`, after one BOS. `render` gives the same
bytes as `apply_chat_template` of `transformers`. `encode_chat` does not go through that text: it puts the
control tokens in by id and encodes the rest as ordinary text, so that nobody can type one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ingot.errors import RequestError

if TYPE_CHECKING:
    from jinja2 import Template

    from ingot.tokenizer.tokenizer import Tokenizer

TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The Jinja source that stands in `tokenizer_config.json`."""

_BOS = "<|endoftext|>"

Message = Mapping[str, Any]


def render(messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
    """Returns a conversation as text.

    Args:
        messages: `{"role": ..., "content": ...}` each.
        add_generation_prompt: end with the opening of an assistant's message, for it to go on.

    Raises:
        RequestError: no message, or one without a role or content of text.

    Example:
        >>> render([{"role": "user", "content": "Hi"}], add_generation_prompt=True)
        '<|endoftext|><|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n'
    """
    _check(messages)
    return _template().render(messages=messages, add_generation_prompt=add_generation_prompt, bos_token=_BOS)


def encode_chat(
    tokenizer: Tokenizer, messages: Sequence[Message], add_generation_prompt: bool = False
) -> tuple[list[int], list[bool]]:
    """Returns the ids of a conversation, and which of them the assistant says.

    Args:
        tokenizer: encodes the ordinary text.
        messages: `{"role": ..., "content": ...}` each; names of control tokens in them stay text.
        add_generation_prompt: end with the opening of an assistant's message, for it to go on.

    Returns:
        ids, and a mask of the same length: True on the assistant's content and the `<|im_end|>` after it.
        A token that reaches from the header into the content counts as header: it was given, not said.

    Raises:
        RequestError: no message, or one without a role or content of text.
        ArtifactError: the tokenizer has no control tokens for the ends of messages.
    """
    _check(messages)
    start, end = tokenizer.role_id("start"), tokenizer.role_id("end")
    newline = tokenizer.encode("\n")
    ids, mask = [tokenizer.bos_id], [False]
    for message in messages:
        header = message["role"] + "\n"
        said = tokenizer.encode(header + message["content"])
        assistant = message["role"] == "assistant"
        ids += [start, *said, end, *newline]
        mask += [False, *_after(tokenizer, said, header, assistant), assistant, *[False] * len(newline)]
    if add_generation_prompt:
        opening = [start, *tokenizer.encode("assistant\n")]
        ids += opening
        mask += [False] * len(opening)
    return ids, mask


def _after(tokenizer: Tokenizer, ids: Sequence[int], header: str, assistant: bool) -> list[bool]:
    """True on the ids that begin behind the header's bytes, where the assistant speaks."""
    mask, position = [], 0
    length = len(header.encode("utf-8", errors="surrogatepass"))
    for token in ids:
        mask.append(assistant and position >= length)
        position += len(tokenizer.token_bytes(token))
    return mask


def _check(messages: Sequence[Message]) -> None:
    if not messages:
        raise RequestError("there is no message", where="messages", fix="give at least one")
    for index, message in enumerate(messages):
        for key in ("role", "content"):
            if not isinstance(message, Mapping) or not isinstance(message.get(key), str):
                fix = 'give {"role": "user", "content": "..."}'
                raise RequestError(f"has no text as '{key}'", where=f"message {index + 1}", fix=fix)


@functools.cache
def _template() -> Template:
    """The template in a sandbox, under the settings that `transformers` uses."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(TEMPLATE)
