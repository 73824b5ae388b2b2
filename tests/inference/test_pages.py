"""Pages are a conserved quantity, and what they hold survives growth; random passes equal plain forwards."""

import random
from array import array
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.errors import ResourceError
from ingot.inference.computing.paged_attention import TorchRunner
from ingot.inference.computing.pages import PAGE, Layout, Pages, pages_for, widest_window
from ingot.inference.computing.passes import Segment, assemble
from ingot.models.decoder import Decoder, DecoderConfig

BASE: dict[str, Any] = {
    "vocabulary": 61, "width": 32, "layers": 3, "heads": 4, "kv_heads": 2, "head_width": 8,
    "feed_forward": 48, "context": 256,
}  # fmt: skip
LATENT = {"key_value_rank": 12, "rotary_width": 4, "plain_width": 4, "value_width": 6, "query_rank": 10}
KINDS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "one for all": {"kv_heads": 1},
    "each its own": {"kv_heads": 4},
    "window": {"window": 40},
    "some windows": {"window": 20, "local_layers": [0, 2]},
    "cap": {"score_cap": 5.0},
    "window and cap": {"window": 33, "score_cap": 5.0, "local_layers": [1]},
    "distances": {"positions": "alibi"},
    "sinks": {"sinks": True, "window": 48, "local_layers": [1]},
    "places": {"positions": "learned"},
    "latent": {"latent": LATENT, "kv_heads": 4},
}


def model_of(**changes: Any) -> Decoder:
    """Random weights everywhere: freshly built models start as the identity, which would test little."""
    built = DecoderConfig.parse(BASE | changes).build(seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.3, generator=generator)
            else:
                parameter.uniform_(0.5, 1.5, generator=generator)
    return built.eval().requires_grad_(False)


class Ledger:
    """Who holds which page, as a test knows it."""

    def __init__(self, limit: int, roomy: int) -> None:
        self.pages = Pages(limit, roomy)
        self.tables: list[list[int]] = []
        self.names = 0

    def check(self) -> None:
        pages, held = self.pages, [page for table in self.tables for page in table]
        assert pages.used == len(set(held))
        assert pages.free + pages.idle + pages.used == pages.limit
        assert min(pages.free, pages.idle, pages.used) >= 0
        for page in held:
            assert pages.readers(page) == held.count(page)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_pages_are_conserved(data: st.DataObject) -> None:
    limit = data.draw(st.integers(1, 12))
    ledger = Ledger(limit, data.draw(st.integers(0, limit)))
    pages = ledger.pages
    known: dict[bytes, int] = {}
    for _ in range(data.draw(st.integers(0, 40))):
        act = data.draw(st.sampled_from(["new", "take", "fork", "give", "name", "find", "forget"]))
        table = data.draw(st.sampled_from(ledger.tables)) if ledger.tables else None
        if act == "new":
            ledger.tables.append([])
        elif act == "take" and table is not None:
            if pages.available:
                others = {page for other in ledger.tables for page in other}
                page = pages.take()
                assert page not in others
                table.append(page)
            else:
                with pytest.raises(ResourceError, match=str(limit)):
                    pages.take()
        elif act == "fork" and table is not None:
            ledger.tables.append([pages.share(page) for page in table])
        elif act == "give" and table is not None:
            ledger.tables.remove(table)
            pages.release(table)
        elif act == "name" and table:
            name = str(len(known)).encode()
            pages.name(table[-1], name)
            if pages.find(name) == table[-1]:
                known[name] = table[-1]
        elif act == "find" and known:
            name = data.draw(st.sampled_from(sorted(known)))
            found = pages.find(name)
            if found is not None:
                assert found == known[name]
                ledger.tables.append([pages.share(found)])
        elif act == "forget":
            pages.forget()
            assert not pages.idle
            assert all(pages.find(name) is None for name in known)
        ledger.check()


def test_the_page_idle_for_longest_goes_first() -> None:
    pages = Pages(3)
    table = [pages.take() for _ in range(3)]
    for page in table:
        pages.name(page, bytes([page]))
    pages.release(table)  # the last of it falls idle first
    pages.release([pages.share(table[2])])  # and is now the freshest
    assert pages.take() == table[1]
    assert pages.find(bytes([table[1]])) is None
    assert pages.find(bytes([table[0]])) == table[0]
    assert pages.evicted == 1


def test_memory_grows_with_the_pages_taken_and_keeps_what_they_hold() -> None:
    pages = Pages(limit=20)
    layout = Layout(layers=2, kv_heads=2, width=4, value_width=6)
    first = pages.take()
    pages.lay_out(layout, torch.float32)
    assert pages.bytes() == 8 * layout.page_bytes(torch.float32)
    pages.keys[1][first] = torch.arange(2 * PAGE * 4.0).view(2, PAGE, 4)
    kept = pages.keys[1][first].clone()
    for _ in range(19):
        pages.take()
    pages.lay_out(layout, torch.float32)
    assert pages.bytes() == 20 * layout.page_bytes(torch.float32)
    assert torch.equal(pages.keys[1][first], kept)
    assert not pages.keys[1][first + 1 :].any()
    pages.copy(first, [5, 7])
    assert torch.equal(pages.keys[1][5], kept) and torch.equal(pages.keys[1][7], kept)
    assert not pages.keys[0].any() and not pages.values[1].any()


def test_a_window_counts_only_where_every_layer_has_it() -> None:
    for changes, expected in [
        ({}, None),
        ({"window": 40}, 40),
        ({"window": 40, "local_layers": [0, 1, 2]}, 40),
        ({"window": 40, "local_layers": [0]}, None),
    ]:
        assert widest_window(DecoderConfig.parse(BASE | changes)) == expected


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_passes_of_any_cut_equal_the_plain_forward(kind: str) -> None:
    """Eight texts, read in pieces of random lengths side by side: chunks, single tokens, pauses."""
    model = model_of(**KINDS[kind])
    rng = random.Random(kind)
    texts = [[rng.randrange(61) for _ in range(n)] for n in (1, 2, 31, 32, 33, 100, 100, 190)]
    pages, runner = Pages(100), TorchRunner(model)
    pages.take()  # so that the empty places of tables name a page of nobody
    tables, stored = [array("i") for _ in texts], [0] * len(texts)
    logits: list[list[torch.Tensor]] = [[] for _ in texts]
    while stored != [len(text) for text in texts]:
        segments, who = [], []
        for i, text in enumerate(texts):
            count = min(len(text) - stored[i], rng.choice([0, 1, 1, 2, 5, 40, 70]))
            if not count:
                continue
            while len(tables[i]) < pages_for(stored[i] + count):
                tables[i].append(pages.take())
            segments.append(Segment(text[stored[i] : stored[i] + count], stored[i], tables[i], count))
            stored[i] += count
            who.append(i)
        if segments:
            made = runner(assemble(segments), pages)
            for i, part in zip(who, made.split([segment.wanted for segment in segments]), strict=True):
                logits[i].append(part)
    for text, parts in zip(texts, logits, strict=True):
        expected = model(torch.tensor([text])).logits[0]
        torch.testing.assert_close(torch.cat(parts), expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_only_wanted_logits_are_computed_and_in_order() -> None:
    model = model_of()
    texts = [[5, 6, 7, 8], [9], [10, 11, 12]]
    tables = [array("i", [i]) for i in range(3)]
    pages = Pages(3)
    for _ in texts:
        pages.take()
    segments = [
        Segment(text, 0, table, wanted) for text, table, wanted in zip(texts, tables, (2, 0, 1), strict=True)
    ]
    made = TorchRunner(model)(assemble(segments), pages)
    first, last = (model(torch.tensor([texts[i]])).logits[0] for i in (0, 2))
    torch.testing.assert_close(made, torch.cat([first[-2:], last[-1:]]), atol=1e-5, rtol=1e-5)
