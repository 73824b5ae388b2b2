"""`tokenizer.json` and `tokenizer_config.json`, as `tokenizers`, `transformers` and vLLM read and write them.

The class is declared as `PreTrainedTokenizerFast`, which takes `tokenizer.json` as it is; a model's own
tokenizer class would rebuild it by its own rules and give other ids. A tokenizer trained here adds no BOS
to a text: documents and the chat template bring their own.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ingot.atomic import write_atomic
from ingot.tokenizer import bpe_model, unigram_model, wordpiece_model
from ingot.tokenizer.parts import Model, Parts
from ingot.tokenizer.reading import Fields, read_json, refuse
from ingot.tokenizer.specials import END, START, read_added, usual_roles

TOKENIZER = "tokenizer.json"
SETTINGS = "tokenizer_config.json"


def read(path: Path) -> Parts:
    """Reads a `tokenizer.json`, and the `tokenizer_config.json` beside it where there is one.

    Raises:
        ArtifactError: missing, damaged, or with a part that is not supported, which is named.
    """
    fields = read_json(path)
    settings = path.with_name(SETTINGS)
    return parse(fields, read_json(settings) if settings.is_file() else None)


def parse(fields: Fields, settings: Fields | None = None) -> Parts:
    """Makes the parts of what the two files hold.

    Args:
        fields: `tokenizer.json`.
        settings: `tokenizer_config.json`; without it, roles go by the usual names.

    Raises:
        ArtifactError: a field that is missing, wrong, or not supported.
    """
    added = tuple(sorted(read_added(fields.inners("added_tokens")), key=lambda token: token.id))
    model = _model(fields.inner("model"), {token.text for token in added if token.special})
    known = [token.text for token in added] + ([model.unknown] if model.unknown is not None else [])
    return Parts(
        model,
        added,
        normaliser=_described(fields, "normalizer"),
        pretokeniser=_described(fields, "pre_tokenizer"),
        decoder=_described(fields, "decoder"),
        template=_described(fields, "post_processor"),
        roles=usual_roles(known) if settings is None else _roles(settings, known),
        chat_template=_chat_template(settings),
        where=fields.where,
    )


def write(folder: Path, parts: Parts) -> None:
    """Writes both files.

    Args:
        folder: where to; made if missing.
        parts: of the tokenizer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / TOKENIZER, json.dumps(tokenizer_json(parts), ensure_ascii=False))
    write_atomic(folder / SETTINGS, json.dumps(_settings(parts), indent=2, ensure_ascii=False) + "\n")


def tokenizer_json(parts: Parts) -> dict[str, Any]:
    """What `tokenizer.json` holds."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token.id, **token.flags()} for token in parts.added],
        "normalizer": parts.normaliser,
        "pre_tokenizer": parts.pretokeniser,
        "post_processor": parts.template,
        "decoder": parts.decoder,
        "model": _with_added(parts.model.spec(), parts),
    }


def _model(fields: Fields, control: Collection[str]) -> Model:
    """The model, of whichever type; old files do not say it. Control tokens are nothing that it makes."""
    guess = "BPE" if "merges" in fields.values else "Unigram" if "unk_id" in fields.values else "WordPiece"
    kind = fields.text("type", guess)
    if kind == "BPE":
        return bpe_model.read(fields, _vocabulary(fields), control)
    if kind == "WordPiece":
        return wordpiece_model.read(fields, _vocabulary(fields), control)
    if kind == "Unigram":
        return unigram_model.read(fields, control)
    raise refuse(f"the model '{kind}' is not supported", fields.at("type"))


def _with_added(model: dict[str, Any], parts: Parts) -> dict[str, Any]:
    """The model with the added tokens that it has to number: those that do not come behind all others."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        last = max(vocabulary.values(), default=-1)
        inside = {token.text: token.id for token in parts.added if token.id < last}
        model["vocab"] = dict(sorted((vocabulary | inside).items(), key=lambda item: item[1]))
    return model


def _vocabulary(fields: Fields) -> dict[str, int]:
    vocabulary: dict[str, int] = fields.inner("vocab").values
    for name, token in vocabulary.items():
        if not isinstance(token, int) or isinstance(token, bool) or token < 0:
            raise refuse(f"the token {name[:60]!r} has the id {token!r}", fields.at("vocab"))
    return vocabulary


def _described(fields: Fields, key: str) -> dict[str, Any] | None:
    return None if fields.get(key) is None else fields.inner(key).values


def _roles(settings: Fields, known: Iterable[str]) -> dict[str, str]:
    """The roles that the settings give, and those of a chat by their names."""
    names = set(known)
    roles = {}
    for role in ("bos", "eos", "pad", "unk", "mask", "cls", "sep"):
        value = settings.get(f"{role}_token")
        text = value.get("content") if isinstance(value, Mapping) else value
        if isinstance(text, str) and text in names:
            roles[role] = text
    return roles | {role: name for role, name in (("start", START), ("end", END)) if name in names}


def _chat_template(settings: Fields | None) -> str | None:
    template = settings.get("chat_template") if settings else None
    return template if isinstance(template, str) else None


def _settings(parts: Parts) -> dict[str, Any]:
    """What `tokenizer_config.json` holds: the class, the control tokens' roles, the chat template."""
    required = ("bos", "eos", "pad", "unk")
    more = [role for role in ("mask", "cls", "sep") if role in parts.roles]
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": {str(token.id): token.flags() for token in parts.added},
        **{f"{role}_token": parts.roles.get(role) for role in (*required, *more)},
    }
    if parts.template is None:
        settings |= {"add_bos_token": False, "add_eos_token": False}
    settings |= {
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1_000_000_000,
        # Decoders go on behind a text; encoders with learnt places count them from the left.
        "padding_side": "right" if "cls" in parts.roles else "left",
    }
    return settings | ({"chat_template": parts.chat_template} if parts.chat_template is not None else {})
