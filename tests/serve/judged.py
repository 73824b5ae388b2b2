"""The official client, whose every answer is also checked field by field."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import torch
from openai_shapes import validate
from servers import Running, running

from ingot.models import huggingface


def judged(url: str, **options: Any) -> openai.OpenAI:
    """Returns a client of the server at `url`.

    Args:
        url: of the server, without `/v1`.
        options: of the client.
    """

    def look(response: httpx.Response) -> None:
        body = response.read()
        validate(response.url.path, response.status_code, response.headers.get("content-type", ""), body)

    http = httpx.Client(event_hooks={"response": [look]}, timeout=60)
    return openai.OpenAI(
        base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60, http_client=http, **options
    )


@contextlib.contextmanager
def opinionated(folder: Path, place: Path, context: int = 512) -> Iterator[Running]:
    """Serves a copy of the tiny model that finds some tokens likelier than others: heads begin at zero."""
    copy = place / folder.name
    shutil.copytree(folder, copy)
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": context}))
    model = huggingface.load(copy)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2:  # head and embedding are one: if they were large, tokens would repeat
                weight.normal_(std=0.15 if "embedding" in name or "head" in name else 0.4, generator=random)
    huggingface.save(copy, model)
    with running(copy) as server:
        yield server
