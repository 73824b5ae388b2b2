"""What was seen of a pass, as one page that holds everything and loads nothing.

Tensors travel as base64, texts as JSON in which no character can end the script element; the page's
script puts them on the screen as text nodes and drawings only. A content policy in the page allows its
own script and style and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ingot.errors import ConfigError
from ingot.report.look import Seen
from ingot.report.samples import visible
from ingot.tokenizer import Tokenizer

_PAGE = Path(__file__).parent / "page" / "look.html"
_SLOT = re.compile(r"{{ (policy|title|data) }}")


def render(seen: Seen, tokenizer: Tokenizer, name: str) -> str:
    """Returns the page.

    Args:
        seen: what to show.
        tokenizer: the model's, for the names of tokens.
        name: what to call the model.

    Returns:
        A whole HTML document that refers to nothing outside itself.
    """
    frame = _PAGE.read_text(encoding="utf-8")
    style, script = (_between(frame, element) for element in ("style", "script"))
    parts = {
        "policy": f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src data:",
        "title": html.escape(f"A look into {name}"),
        "data": in_script(payload(seen, tokenizer, name)),
    }
    return _SLOT.sub(lambda slot: parts[slot[1]], frame)


def payload(seen: Seen, tokenizer: Tokenizer, name: str) -> dict[str, Any]:
    """Returns the page's data: plain values, tensors as base64 of little-endian numbers.

    Attention is in bytes, of which the places of a row share 255 exactly; what can be stepped through is
    in float32, as it was computed.
    """
    lens, steps = seen.lens, seen.steps
    used = torch.cat([seen.tokens, lens.ids.flatten(), steps.ids.flatten()]).unique().tolist()
    layers, heads = seen.maps.shape[:2]
    return {
        "name": visible(name),
        "layers": layers,
        "heads": heads,
        "length": len(seen.tokens),
        "first": seen.first,
        "tokens": seen.tokens.tolist(),
        "names": {str(token): spelled(tokenizer, token) for token in used},
        "maps": _bytes(shares(seen.maps)),
        "rollout": _bytes(shares(seen.rollout)),
        "kinds": {kind: _rounded(values) for kind, values in seen.heads._asdict().items()},
        "lens": {
            "ids": lens.ids.tolist(),
            "chances": _rounded(lens.chances),
            "next": _rounded(lens.next),
        },
        "steps": {
            "layers": list(steps.layers),
            "tokens": len(steps.embedding),
            "width": steps.embedding.shape[-1],
            "headWidth": steps.query[0].shape[-1],
            "valueWidth": steps.value[0].shape[-1],
            "kvHeads": steps.key[0].shape[0],
            "embedding": _floats(steps.embedding),
            **{
                kind: _floats(torch.stack(getattr(steps, kind)))
                for kind in ("query", "key", "value", "weights", "mixed")
            },
            "ids": steps.ids.tolist(),
            "chances": _rounded(steps.chances),
        },
    }


def shares(weights: Tensor) -> Tensor:
    """Returns attention in bytes: what is lost by rounding down goes to the places that lost most.

    Args:
        weights: [..., t], rows that sum to 1.

    Returns:
        uint8 of the same shape; every row sums to 255, and no place is off by more than 1/255.
    """
    exact = weights.double() / weights.double().sum(-1, keepdim=True) * 255
    whole = exact.floor()
    missing = (255 - whole.sum(-1, keepdim=True)).round()
    order = torch.argsort(exact - whole, dim=-1, descending=True, stable=True).argsort(-1)
    return (whole + (order < missing)).to(torch.uint8)


def in_script(value: Any) -> str:
    """Returns JSON that can stand inside a script element: it has no <, > or &.

    Example:
        >>> in_script("</script>")
        '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def spelled(tokenizer: Tokenizer, token: int) -> str:
    """Returns a token as a reader sees it: its text, its bytes where they are no text, or its name."""
    data = tokenizer.token_bytes(token)
    if not data:
        return visible(tokenizer.token(token))
    try:
        return visible(data.decode())
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in data)


def _rounded(values: Tensor) -> Any:
    """Nested lists with five decimals, None for what is not a number."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(one) for one in value]
        return round(value, 5) if math.isfinite(value) else None

    return plain(values.tolist())


def _bytes(values: Tensor) -> str:
    return base64.b64encode(values.contiguous().numpy().tobytes()).decode()


def _floats(values: Tensor) -> str:
    return base64.b64encode(values.contiguous().numpy().astype("<f4").tobytes()).decode()


def _between(frame: str, element: str) -> str:
    return frame.split(f"<{element}>", 1)[1].split(f"</{element}>", 1)[0]


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def read_text(tokenizer: Tokenizer, text: str, context: int) -> tuple[Tensor, int]:
    """Returns the ids of a text's end, as many as the model can read, and how many tokens were left out.

    Raises:
        ConfigError: the text has fewer than two tokens.
    """
    ids = tokenizer.wrap(tokenizer.encode(text))
    if len(ids) < 2:
        what = f"the text has {len(ids)} tokens, and it takes two"
        raise ConfigError(what, where="--text", fix="give a longer text")
    return torch.tensor(ids[-context:]), max(0, len(ids) - context)
