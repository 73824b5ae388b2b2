"""What a folder that forces an end changes: the last token of an answer that was cut off, no other."""

from pathlib import Path

import pytest
import torch
from torch import nn

from ingot.inference.choosing.sampling import Sampling
from ingot.inference.rows.seq2seq import seq2seq_engine
from ingot.models import encoder_decoder_folder as folder
from ingot.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")

END = 1
SIZES = {"layers": 2, "attention_heads": 3, "ffn_dim": 40}


def test_a_forced_end_takes_the_place_of_the_last_token_of_a_cut_answer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sides = {f"{side}_{what}": size for side in ("encoder", "decoder") for what, size in SIZES.items()}
    theirs = transformers.MarianMTModel(
        transformers.MarianConfig(
            vocab_size=300,
            d_model=24,
            max_position_embeddings=64,
            pad_token_id=0,
            decoder_start_token_id=0,
            eos_token_id=END,
            forced_eos_token_id=END,
            **sides,
        )
    ).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.ndim == 2 and "positions" not in name:  # those are not learned
                nn.init.normal_(parameter, std=0.2)
    theirs.generation_config.forced_eos_token_id = END
    theirs.save_pretrained(tmp_path)
    engine = seq2seq_engine(folder.load(tmp_path), Tokenizer.train(["ab" * 50], 300))
    sources = [[3, 50, 7, END], [200, 8, 90, 61, 5, END], [4, END]]
    made = engine.generate(sources, Sampling(max_new_tokens=9, temperature=0), stop_ids=[END])
    cut = 0
    for source, ours in zip(sources, made, strict=True):
        told = theirs.generate(torch.tensor([source]), do_sample=False, num_beams=1, max_new_tokens=9)
        expected = told[0, 1:].tolist()
        if ours.finish_reason == "length":
            cut += 1
            assert ours.tokens[:-1] == expected[:-1]
            assert ours.tokens[-1] != expected[-1] == END
        else:
            assert ours.tokens == expected
    assert cut
