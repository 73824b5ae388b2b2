"""A model from elsewhere as an artifact of ours: read, checked, written in the native format, recorded.

```
config.json, *.safetensors -> the family's model -> every weight there, every number finite
tokenizer files            -> roles, chat template, a name for every row of the embedding
                           -> model.safetensors, tokenizer.json, ... artifact.json (where from, hashes)
```

Nothing of a folder is run: remote code, pickled weights and paths that lead out of it are refused. The
weights keep their bits; what the tokenizer does to text stays as it is.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ingot.artifact import write_record
from ingot.atomic import publish
from ingot.errors import ArtifactError
from ingot.export.likeness import difference
from ingot.models import pooling
from ingot.models.kinds import kind_of
from ingot.record import RECORD, artifacts, file_hash, files_of
from ingot.tokenizer import overview
from ingot.tokenizer.parts import Parts
from ingot.tokenizer.specials import START, Added, usual_roles
from ingot.tokenizer.tokenizer import Tokenizer

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_STORED = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float32}
_READ = (".json", ".jinja", ".safetensors", ".model", ".txt", ".tiktoken")
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class Arrived:
    """What came in.

    Args:
        folder: of the artifact.
        kind: of model, as its record says: model, linear_decoder, encoder_decoder or encoder.
        family: `model_type` of its `config.json`.
        parameters: tied ones once.
        dtype: of the stored weights.
        sizes: layers, width, context, vocabulary.
        tokenizer: its kind in words.
        chat: whose chat template it has: ChatML, its own, or none.
        difference: of logits, the largest, against `transformers`; None where nobody looked.
        notes: what is worth knowing, in sentences.
    """

    folder: str
    kind: str
    family: str
    parameters: int
    dtype: str
    sizes: dict[str, int]
    tokenizer: str
    chat: str
    difference: float | None
    notes: list[str]

    def plain(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return dataclasses.asdict(self)


def arrive(
    source: Path,
    out: Path,
    dtype: str | None = None,
    check: bool = False,
    origin: dict[str, str] | None = None,
) -> Arrived:
    """Makes an artifact of a model folder; it appears whole or not at all.

    Args:
        source: with `config.json`, safetensors and a tokenizer.
        out: the folder to make, or a run folder, which gets its next `base@N`.
        dtype: to store the weights in: fp32, bf16 or fp16; None keeps theirs.
        check: whether to compare logits with `transformers`.
        origin: where the folder came from, where it is a copy (repository, commit).

    Raises:
        ArtifactError: `out` exists; the folder is damaged or of an unknown architecture; weights are
            missing, left over, or not finite; the tokenizer does not fit; or logits are not `transformers`'.
        ResourceError: `check` without `transformers`.
    """
    started = time.monotonic()
    final = place_for(out)
    if final.exists():
        raise ArtifactError("exists already", where=final, fix="choose another name or remove it")
    kind, raw = kind_of(source)
    if raw.get("quantization_config"):
        fix = "import the dense model that it was made from"
        raise ArtifactError("its weights are quantized, and only dense ones are taken", where=source, fix=fix)
    stored = DTYPES[dtype] if dtype is not None else stored_dtype(source)
    model = kind.door.load(source, dtype=stored)
    refuse_numbers_that_are_none(model, source)
    tokenizer, notes = fitting_tokenizer(source, model.config.vocabulary, raw)
    ids = {name: raw[name] for name in _IDS if raw.get(name) is not None}
    played = [role for role in ("bos", "eos", "pad") if role in tokenizer.parts.roles]
    roles = {f"{role}_token_id": tokenizer.role_id(role) for role in played}
    with publish(final) as aside:
        kind.door.save(aside, model, dtype=stored, special=roles | ids)
        tokenizer.save(aside)
        _keep(source, aside)
        largest = difference(source, aside, stored) if check else None
        config = model.config
        arrived = Arrived(
            folder=str(final),
            kind=kind.artifact,
            family=str(raw.get("model_type")),
            parameters=sum(p.numel() for p in model.parameters()),
            dtype=next(name for name, one in DTYPES.items() if one == stored),
            sizes={name: getattr(config, name) for name in _SIZES if hasattr(config, name)},
            tokenizer=overview.kind_of(tokenizer),
            chat=_chat(tokenizer),
            difference=largest,
            notes=notes,
        )
        settings = {"dtype": dtype, "origin": origin or {"folder": str(source.resolve())}}
        write_record(
            aside,
            kind=kind.artifact,
            name=final.name.partition("@")[0],
            version=_version(final.name),
            stage="import",
            config=settings | {"files": _hashes(source)},
            metrics={"parameters": arrived.parameters, "family": arrived.family, "difference": largest},
            seconds=time.monotonic() - started,
            notes=notes,
        )
    return arrived


_SIZES = ("layers", "encoder_layers", "decoder_layers", "width", "context", "vocabulary")


def place_for(out: Path) -> Path:
    """Returns the folder to make: `out` itself, or the next `base@N` of a run folder."""
    if not out.is_dir() or (out / "config.json").exists():
        return out
    if any(out.iterdir()) and not (artifacts(out) or (out / "recipe.yaml").exists()):
        what = "is neither a run folder nor free"
        raise ArtifactError(what, where=out, fix="choose another name")
    made = [one.version for one in artifacts(out) if one.name == "base"]
    return out / f"base@{max(made, default=0) + 1}"


def _version(name: str) -> int:
    """The number behind the @ of an artifact's name, where there is one."""
    number = name.partition("@")[2]
    return int(number) if number.isdecimal() else 1


def stored_dtype(folder: Path) -> torch.dtype:
    """Returns the number type that most weights of a folder are stored in; 64 bits count as 32.

    Raises:
        ArtifactError: no safetensors that can be read.
    """
    from safetensors import SafetensorError, safe_open

    counts: dict[torch.dtype, int] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (no mapping)
                    part = file.get_slice(name)
                    kind = _STORED.get(part.get_dtype())
                    if kind is not None:
                        size = 1
                        for length in part.get_shape():
                            size *= length
                        counts[kind] = counts.get(kind, 0) + size
        except (SafetensorError, OSError, ValueError) as error:
            what = f"damaged or truncated ({error})"
            raise ArtifactError(what, where=path, fix="copy or make it anew") from None
    return max(counts, key=lambda kind: counts[kind]) if counts else torch.float32


def refuse_numbers_that_are_none(model: nn.Module, where: object) -> None:
    """Refuses a model with NaN or infinity among its weights.

    Raises:
        ArtifactError: names them.
    """
    wrong = [name for name, one in model.named_parameters() if not bool(torch.isfinite(one).all())]
    if wrong:
        listed = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise ArtifactError(
            f"NaN or infinity in {listed}", where=where, fix="get another copy of the weights"
        )


def fitting_tokenizer(folder: Path, rows: int, raw: dict[str, Any]) -> tuple[Tokenizer, list[str]]:
    """Returns a folder's tokenizer with what the others here need of it, and what was done in sentences.

    Every row of the embedding gets a name, a text that ends gets its token, and the chat template is found
    wherever it lies.

    Args:
        folder: with tokenizer files.
        rows: of the model's embedding.
        raw: its `config.json`.

    Raises:
        ArtifactError: no tokenizer, or one with more tokens than rows.
    """
    notes: list[str] = []
    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size > rows:
        what = f"the tokenizer has {tokenizer.vocab_size} tokens, the embedding {rows} rows"
        raise ArtifactError(what, where=folder, fix="give the model the tokenizer it was made with")
    parts = tokenizer.parts
    names = parts.names()
    spare = tuple(Added(f"<|unused_{number}|>", number) for number in range(len(names), rows))
    if spare:
        notes.append(f"{len(spare)} rows of the embedding belong to no token; they are called <|unused_N|>.")
    roles = _roles(parts, names, folder, raw)
    said = {role: name for role, name in roles.items() if role in ("bos", "eos", "pad")}
    for role in sorted(said.keys() - parts.roles.keys()):
        notes.append(f"Its tokenizer names no {role} token; {said[role]} takes that part.")
    if "eos" not in roles and "bos" not in roles:
        notes.append("No token ends a text: name one in tokenizer_config.json before training on.")
    for role, instead in (("eos", "bos"), ("bos", "eos"), ("pad", "eos")):
        if role not in roles and instead in roles:
            roles[role] = roles[instead]
            notes.append(f"Its tokenizer names no {role} token; {roles[role]} takes that part.")
    template = _template(folder, parts)
    made = dataclasses.replace(parts, added=(*parts.added, *spare), roles=roles, chat_template=template)
    return Tokenizer(made), notes


def _roles(parts: Parts, names: list[str], folder: Path, raw: dict[str, Any]) -> dict[str, str]:
    """The parts that control tokens play: by the tokenizer's files, by the ids that the model's files name,
    else by the names that are usual."""
    roles = dict(parts.roles)
    generation = _json(folder / "generation_config.json")
    for role in ("bos", "eos", "pad"):
        for told in (generation, raw):
            value = told.get(f"{role}_token_id")
            number = value[0] if isinstance(value, list) and value else value
            if role not in roles and isinstance(number, int) and 0 <= number < len(names):
                roles[role] = names[number]
    return usual_roles(token.text for token in parts.added if token.special) | roles


def _template(folder: Path, parts: Parts) -> str | None:
    """The chat template, in whichever file it lies."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    if parts.chat_template is not None:
        return parts.chat_template
    inside = _json(folder / "chat_template.json").get("chat_template")
    listed = _json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(listed, list):
        found = {one.get("name"): one.get("template") for one in listed if isinstance(one, dict)}
        inside = found.get("default", inside)
    return inside if isinstance(inside, str) else None


def _chat(tokenizer: Tokenizer) -> str:
    template = tokenizer.parts.chat_template
    if template is None:
        return "none"
    return "ChatML" if START in template else "its own"


def _keep(source: Path, aside: Path) -> None:
    """Copies what only its makers can say: how to sample, how vectors are made, the licence, the card."""
    generation = source / "generation_config.json"
    if generation.is_file():
        shutil.copyfile(generation, aside / generation.name)
    for name in pooling.FILES:
        if (source / name).is_file():
            (aside / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, aside / name)
    for path in source.iterdir():
        name = path.name.upper()
        if path.is_file() and name.startswith(("LICENSE", "LICENCE", "NOTICE", "README.MD")):
            shutil.copyfile(path, aside / path.name)


def _hashes(source: Path) -> dict[str, str]:
    names = [name for name in files_of(source) if name.endswith(_READ) and "/" not in name]
    found = {name: file_hash(source / name) for name in names}
    if (source / RECORD).is_file():
        found[RECORD] = file_hash(source / RECORD)
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
