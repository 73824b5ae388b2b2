"""Vectors and scores of texts against `transformers` on the same folder, with random weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ingot.errors import ArtifactError, ConfigError, RequestError
from ingot.inference import embedding
from ingot.inference.embedding import Embedder
from ingot.models import encoder_decoder_folder, huggingface
from ingot.models.decoder import DecoderConfig
from ingot.models.encoder_decoder import EncoderDecoderConfig
from ingot.models.families.t5 import PARTS
from ingot.models.pooling import PoolingConfig, read_pooling, write_pooling
from ingot.tokenizer import Tokenizer
from ingot.tokenizer.pairs import Pairs
from ingot.tokenizer.training import TokenizerConfig

transformers = pytest.importorskip("transformers")

TEXTS = [
    "the lowest of all numbers",
    "add",
    "a small dog, a little dog and the widest river of them all",
    "the newest number is low",
    "low lower lowest; new newer newest; wide wider widest; and then some more of it",
]
CORPUS = TEXTS * 20
SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 66,
}
PAIRS = [(TEXTS[0], TEXTS[2]), (TEXTS[1], TEXTS[1]), (TEXTS[4], TEXTS[3]), (TEXTS[3], TEXTS[0])]


def tokenizer_of(family: str) -> Tokenizer:
    """With the template that published models of the family have."""
    if family == "Roberta":
        names = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
        made = Tokenizer.train(CORPUS, 330, config=TokenizerConfig(kind="bpe", specials=names))
        ends: dict[str, Any] = {
            "cls": ["<s>", made.special["<s>"]],
            "sep": ["</s>", made.special["</s>"]],
            "type": "RobertaProcessing",
            "trim_offsets": True,
            "add_prefix_space": False,
        }
        roles = {**made.parts.roles, "cls": "<s>", "sep": "</s>"}
        return Tokenizer(dataclasses.replace(made.parts, template=ends, roles=roles))
    made = Tokenizer.train(CORPUS, 330, config=TokenizerConfig(kind="wordpiece"))
    ids = {name: made.special[name] for name in ("[CLS]", "[SEP]")}
    cls, sep = ({"SpecialToken": {"id": name, "type_id": 0}} for name in ids)
    first, second = ({"Sequence": {"id": name, "type_id": kind}} for name, kind in (("A", 0), ("B", 1)))
    last = {"SpecialToken": {"id": "[SEP]", "type_id": 1}}
    told = {name: {"id": name, "ids": [one], "tokens": [name]} for name, one in ids.items()}
    template = {
        "type": "TemplateProcessing",
        "single": [cls, first, sep],
        "pair": [cls, first, sep, second, last],
        "special_tokens": told,
    }
    return Tokenizer(dataclasses.replace(made.parts, template=template))


def made(folder: Path, family: str, head: str = "Model", **changes: Any) -> nn.Module:
    """A folder of theirs whose weights are far from where training starts."""
    tokenizer = tokenizer_of(family)
    special = {"pad_token_id": tokenizer.pad_id}
    if family == "ModernBert":
        special |= {"local_attention": 8, "classifier_pooling": "mean", "bos_token_id": 2, "eos_token_id": 3}
        special |= {"cls_token_id": 2, "sep_token_id": 3}
    if family == "Roberta":
        special |= {"max_position_embeddings": 64 + tokenizer.pad_id + 1}
        special |= {"type_vocab_size": 1, "bos_token_id": tokenizer.special["<s>"], "eos_token_id": 0}
    config = getattr(transformers, f"{family}Config")(
        **SIZES | special | changes, vocab_size=tokenizer.vocab_size
    )
    torch.manual_seed(1)
    model = getattr(transformers, f"{family}{head}")(config)
    for name, parameter in model.named_parameters():
        mean = 1.0 if "orm" in name and name.endswith("weight") else 0.0
        nn.init.normal_(parameter, mean=mean, std=0.25)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return model.eval()


def there(folder: Path, texts: list[Any], **asked: bool) -> Any:
    """What their tokenizer makes of texts, or pairs of them."""
    return transformers.AutoTokenizer.from_pretrained(folder)(
        texts, padding=True, return_tensors="pt", **asked
    )


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("family", ["Bert", "Roberta", "ModernBert"])
@torch.no_grad()
def test_vectors_are_theirs_in_any_company(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(tmp_path, family)
    rows = there(tmp_path, TEXTS)
    hidden, mask = model(**rows).last_hidden_state, rows["attention_mask"].bool()
    mean = unit(torch.stack([states[seen].mean(0) for states, seen in zip(hidden, mask, strict=True)]))
    embedder = Embedder(tmp_path, device="cpu")
    assert [embedder.encode(text) for text in TEXTS] == [
        row[seen].tolist() for row, seen in zip(rows["input_ids"], mask, strict=True)
    ]
    assert (embedder.embed(TEXTS) - mean).abs().max() <= 1e-5
    assert (embedder.embed([embedder.encode(text) for text in TEXTS]) - mean).abs().max() <= 1e-5
    first = Embedder(tmp_path, device="cpu", pooling="first")
    assert (first.embed(TEXTS) - unit(hidden[:, 0])).abs().max() <= 1e-5
    monkeypatch.setattr(embedding, "AT_ONCE", 20)  # several passes of one or two texts
    assert (embedder.embed(TEXTS) - mean).abs().max() <= 1e-5
    assert embedder.embed([]).shape == (0, 24)
    cosine = embedder.score(PAIRS)
    place = {text: row for row, text in enumerate(TEXTS)}
    right = [float(mean[place[a]] @ mean[place[b]]) for a, b in PAIRS]
    assert not embedder.ranks and (cosine - torch.tensor(right)).abs().max() <= 1e-5


@pytest.mark.parametrize("family", ["Bert", "Roberta", "ModernBert"])
@torch.no_grad()
def test_a_cross_encoder_scores_pairs_as_theirs(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(tmp_path, family, "ForSequenceClassification", num_labels=1)
    rows = there(tmp_path, [list(pair) for pair in PAIRS], return_token_type_ids=family == "Bert")
    logits = model(**rows).logits[:, 0]
    assert float(logits.std()) > 0.05
    embedder = Embedder(tmp_path, device="cpu")
    assert embedder.ranks
    assert (embedder.score(PAIRS) - logits.sigmoid()).abs().max() <= 1e-5
    monkeypatch.setattr(embedding, "AT_ONCE", 40)
    assert (embedder.score(PAIRS) - logits.sigmoid()).abs().max() <= 1e-5
    config = json.loads((tmp_path / "config.json").read_text())
    config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity", "version": "5"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert (Embedder(tmp_path, device="cpu").score(PAIRS) - logits).abs().max() <= 1e-5
    assert embedder.score([]).shape == (0,)


def test_what_does_not_fit_is_refused_with_both_numbers_or_cut(tmp_path: Path) -> None:
    made(tmp_path, "Bert")
    embedder = Embedder(tmp_path, device="cpu")
    long = " ".join(["low"] * 90)
    with pytest.raises(RequestError, match=r"90 tokens.*room for 64"):
        embedder.embed([TEXTS[0], long])
    cut = embedder.embed([long], cut=True)
    assert torch.equal(cut, embedder.embed([" ".join(["low"] * 64)]))
    with pytest.raises(RequestError, match="token id 999"):
        embedder.embed([[2, 999, 3]])
    with pytest.raises(RequestError, match="token id -1"):
        embedder.embed([[-1]])
    with pytest.raises(RequestError, match="no tokens"):
        embedder.embed([[]])
    with pytest.raises(RequestError, match=r"7 numbers.*gives 24"):
        embedder.embed(TEXTS, dimensions=7)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    with pytest.raises(RequestError, match=r"90 tokens.*room for 10"):
        Embedder(tmp_path, device="cpu").embed([long])


def test_shorter_vectors_of_models_that_give_them(tmp_path: Path) -> None:
    made(tmp_path, "Bert")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "matryoshka_dimensions": [8, 16, 24]}))
    embedder = Embedder(tmp_path, device="cpu")
    whole, short = embedder.embed(TEXTS), embedder.embed(TEXTS, dimensions=8)
    assert (short - unit(whole[:, :8])).abs().max() <= 1e-6


@torch.no_grad()
def test_a_decoder_only_when_it_is_asked_or_says_so(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(CORPUS, 330)
    sizes = {"width": 24, "layers": 2, "heads": 4, "kv_heads": 2, "head_width": 8, "feed_forward": 32}
    config = DecoderConfig(vocabulary=tokenizer.vocab_size, context=80, **sizes)
    model = config.build(3)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.2)
    huggingface.save(tmp_path, model)
    tokenizer.save(tmp_path)
    with pytest.raises(ConfigError, match=r"not trained to make vectors.*pooling='mean'"):
        Embedder(tmp_path, device="cpu")
    hf = transformers.AutoModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = [[tokenizer.bos_id, *tokenizer.encode(text)] for text in TEXTS]
    states = [hf(torch.tensor([one])).last_hidden_state[0] for one in ids]
    asked = Embedder(tmp_path, device="cpu", pooling="mean")
    assert (asked.embed(TEXTS) - unit(torch.stack([one.mean(0) for one in states]))).abs().max() <= 1e-5
    write_pooling(tmp_path, PoolingConfig(pooling="last", normalised=False), 24)
    told = Embedder(tmp_path, device="cpu")
    assert (told.embed(TEXTS) - torch.stack([one[-1] for one in states])).abs().max() <= 1e-4


def test_an_encoder_decoder_makes_no_vectors(tmp_path: Path) -> None:
    sizes = {"vocabulary": 40, "width": 16, "heads": 2, "head_width": 8, "feed_forward": 16}
    layers = {"encoder_layers": 1, "decoder_layers": 1}
    model = EncoderDecoderConfig.parse({**PARTS, **sizes, **layers}).build(0)
    encoder_decoder_folder.save(tmp_path, model)
    with pytest.raises(ArtifactError, match="holds an encoder-decoder, which makes no vectors"):
        Embedder(tmp_path)


@pytest.mark.parametrize("pooling", ["first", "mean", "last"])
@pytest.mark.parametrize("normalised", [True, False])
def test_pooling_is_read_as_it_was_written(pooling: str, normalised: bool, tmp_path: Path) -> None:
    config = PoolingConfig.parse({"pooling": pooling, "normalised": normalised})
    assert read_pooling(tmp_path) is None
    write_pooling(tmp_path, config, 24)
    assert read_pooling(tmp_path) == config
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    assert read_pooling(tmp_path) == PoolingConfig(pooling="first", normalised=normalised)


@pytest.mark.parametrize(
    ("modules", "pooling", "words"),
    [
        ("{", None, "not readable"),
        ("{}", None, "no list of modules"),
        ('[{"type": "x.Transformer", "path": ""}]', None, "names no Pooling"),
        ('[{"type": "x.Pooling", "path": "1"}, {"type": "x.Dense", "path": "2"}]', None, "through Dense"),
        ('[{"type": "x.Pooling", "path": "../../etc"}]', None, "leads out"),
        ('[{"type": "x.Pooling", "path": "1_Pooling"}]', None, "missing"),
        ('[{"type": "x.Pooling", "path": "1_Pooling"}]', "[]", "no keys"),
        (
            '[{"type": "x.Pooling", "path": "1_Pooling"}]',
            '{"pooling_mode_max_tokens": true}',
            "pooling_mode_max_tokens is not built",
        ),
        ('[{"type": "x.Pooling", "path": "1_Pooling"}]', "{}", "pooling by nothing"),
    ],
)
def test_damaged_pooling_files_say_why(modules: str, pooling: str | None, words: str, tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(modules)
    if pooling is not None:
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text(pooling)
    with pytest.raises(ArtifactError, match=words):
        read_pooling(tmp_path)


def test_pairs_need_a_template_or_the_roles() -> None:
    plain = Tokenizer.train(CORPUS, 330)
    with pytest.raises(ArtifactError, match="how two texts are joined"):
        Pairs(plain)
    usual = Tokenizer.train(CORPUS, 330, config=TokenizerConfig(kind="wordpiece"))
    cls, sep = usual.role_id("cls"), usual.role_id("sep")
    bare = Pairs(Tokenizer(dataclasses.replace(usual.parts, template=None)))
    assert bare.join([9], [8, 7]) == ([cls, 9, sep, 8, 7, sep], [0, 0, 0, 1, 1, 1])
    assert bare.added == 3
