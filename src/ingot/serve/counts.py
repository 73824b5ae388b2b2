"""What answers say of tokens, as objects and as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ingot.config import Config

Tokens = Annotated[int, Field(ge=0)]


class PromptDetails(Config):
    """Of a prompt's tokens.

    Args:
        cached_tokens: that did not have to be computed.
    """

    cached_tokens: Tokens


class Usage(Config):
    """Of a chat or a completion.

    Args:
        prompt_tokens: that were read, each prompt once.
        completion_tokens: that were made, for all answers.
        total_tokens: both.
        prompt_tokens_details: more of the first.
    """

    prompt_tokens: Tokens
    completion_tokens: Tokens
    total_tokens: Tokens
    prompt_tokens_details: PromptDetails


class InputDetails(Config):
    """Of the tokens that a response was given.

    Args:
        cached_tokens: that did not have to be computed.
        cache_write_tokens: that were kept at a price; nothing has one here.
    """

    cached_tokens: Tokens
    cache_write_tokens: Tokens = 0


class OutputDetails(Config):
    """Of the tokens that a response has.

    Args:
        reasoning_tokens: that it does not show.
    """

    reasoning_tokens: Tokens = 0


class ResponseUsage(Config):
    """Of a response.

    Args:
        input_tokens: that were read.
        input_tokens_details: more of them.
        output_tokens: that were made.
        output_tokens_details: more of them.
        total_tokens: both.
    """

    input_tokens: Tokens
    input_tokens_details: InputDetails
    output_tokens: Tokens
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: Tokens


def usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> dict[str, Any]:
    """Returns the count of a chat or a completion."""
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        prompt_tokens_details=PromptDetails(cached_tokens=cached_tokens),
    ).plain()


def response_usage(input_tokens: int, output_tokens: int, cached_tokens: int) -> dict[str, Any]:
    """Returns the count of a response."""
    return ResponseUsage(
        input_tokens=input_tokens,
        input_tokens_details=InputDetails(cached_tokens=cached_tokens),
        output_tokens=output_tokens,
        total_tokens=input_tokens + output_tokens,
    ).plain()
