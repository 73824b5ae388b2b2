"""Tokenizers as `tokenizers` makes them, in the layouts of published models, trained on a small corpus."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import tokenizers
from fuzzing import corpus
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

from ingot.tokenizer.split import PATTERNS

Peer = tokenizers.Tokenizer
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
ALPHABET = pre_tokenizers.ByteLevel.alphabet()


def gpt2() -> Peer:
    peer = _bytes(pre_tokenizers.ByteLevel(add_prefix_space=False), ["<|endoftext|>"])
    peer.post_processor = processors.ByteLevel(trim_offsets=False)
    return peer


def llama3() -> Peer:
    peer = _bytes(_split("llama3"), [], ignore_merges=True)
    peer.add_special_tokens(["<s>", "<|end_of_text|>"])
    peer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), _around("<s> $A", peer, "<s>")]
    )
    return peer


def qwen() -> Peer:
    peer = _bytes(_split("qwen2"), [], normalizers.NFC())
    peer.add_special_tokens(["<s>", "<|im_start|>", "<|im_end|>"])
    peer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("word", single_word=True)])
    return peer


def gpt4o() -> Peer:
    return _bytes(_split("o200k"), ["<s>"])


def roberta() -> Peer:
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    peer = _bytes(pre_tokenizers.ByteLevel(add_prefix_space=True), special, unk_token="<unk>")
    peer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    peer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return peer


def starcoder() -> Peer:
    digits = pre_tokenizers.Digits(individual_digits=True)
    return _bytes(
        pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]), ["<s>"]
    )


def falcon() -> Peer:
    steps = [
        pre_tokenizers.Punctuation("contiguous"),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        pre_tokenizers.Digits(False),
        pre_tokenizers.Split(tokenizers.Regex("[0-9][0-9][0-9]"), "isolated"),
    ]
    return _bytes(pre_tokenizers.Sequence(steps), ["<s>"])


def llama2() -> Peer:
    peer = Peer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    peer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    peer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=1000, special_tokens=special + BYTES, show_progress=False)
    peer.train_from_iterator(corpus(), trainer)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    peer.decoder = decoders.Sequence(steps)
    plain = json.loads(peer.to_str())
    plain["added_tokens"] = [token for token in plain["added_tokens"] if token["id"] < 3]
    peer = _changed(plain, pre_tokenizer=None)
    peer.post_processor = _around("<s> $A", peer, "<s>")
    return peer


def mistral() -> Peer:
    peer = _changed(json.loads(llama2().to_str()), normalizer=None)
    peer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return peer


def gemma() -> Peer:
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    peer = _changed(json.loads(llama2().to_str()), normalizer=replace)
    peer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    peer.decoder = decoders.Sequence(steps)
    return peer


def clip() -> Peer:
    peer = Peer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    steps = [normalizers.NFC(), normalizers.Lowercase(), normalizers.Strip()]
    peer.normalizer = normalizers.Sequence(steps)
    peer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    peer.decoder = decoders.BPEDecoder("</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<unk>", "<s>"], end_of_word_suffix="</w>", show_progress=False
    )
    peer.train_from_iterator(corpus(), trainer)
    return peer


def small_alphabet() -> Peer:
    peer = Peer(models.BPE(unk_token="<unk>", fuse_unk=True))
    peer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>", "<s>"], limit_alphabet=40, show_progress=False
    )
    peer.train_from_iterator(corpus(), trainer)
    return peer


def bert(lowercase: bool = True) -> Peer:
    peer = Peer(models.WordPiece(unk_token="[UNK]"))
    peer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    peer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    peer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    peer.train_from_iterator(corpus(), trainer)
    peer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return peer


def bert_cased() -> Peer:
    return bert(lowercase=False)


def t5() -> Peer:
    peer = Peer(models.Unigram())
    spaces = normalizers.Replace(tokenizers.Regex(" {2,}"), " ")
    peer.normalizer = normalizers.Sequence([normalizers.NFC(), spaces])
    peer.pre_tokenizer = pre_tokenizers.Metaspace()
    peer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=600, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    peer.train_from_iterator(corpus(), trainer)
    peer.post_processor = _around("$A </s>", peer, "</s>")
    # The library reads long decimals to the last bit but one, and then breaks near ties otherwise than
    # whoever reads them exactly; short ones, as published files have, are the same to everybody.
    state = json.loads(peer.to_str())
    state["model"]["vocab"] = [[piece, round(score, 6)] for piece, score in state["model"]["vocab"]]
    return Peer.from_str(json.dumps(state))


LAYOUTS: dict[str, Callable[[], Peer]] = {
    layout.__name__: layout
    for layout in (
        *(gpt2, llama3, qwen, gpt4o, roberta, starcoder, falcon),
        *(llama2, mistral, gemma, clip, small_alphabet, bert, bert_cased, t5),
    )
}

COMPILED = {"gpt2", "llama3", "qwen", "gpt4o"}
"""Those that tiktoken can encode."""


def _bytes(cut: Any, special: Sequence[str], normalizer: Any = None, **options: Any) -> Peer:
    """Byte-level BPE."""
    peer = Peer(models.BPE(**options))
    if normalizer is not None:
        peer.normalizer = normalizer
    peer.pre_tokenizer, peer.decoder = cut, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=800, special_tokens=list(special), initial_alphabet=ALPHABET, show_progress=False
    )
    peer.train_from_iterator(corpus(), trainer)
    return peer


def _split(name: str) -> Any:
    split = pre_tokenizers.Split(tokenizers.Regex(PATTERNS[name]), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _around(single: str, peer: Peer, token: str) -> Any:
    return processors.TemplateProcessing(single=single, special_tokens=[(token, peer.token_to_id(token))])


def _changed(plain: dict[str, Any], **changes: Any) -> Peer:
    return Peer.from_str(json.dumps(plain | changes))
