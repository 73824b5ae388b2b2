"""Counts that are made in parts are those of the whole, wherever the borders are."""

from __future__ import annotations

import json
from collections import Counter
from itertools import groupby, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data.document import Document, Dropped
from ingot.data.tables import document_row
from ingot.data.tally import SIDES, SplitName, Tally

kinds = st.sampled_from(["text", "python"])
found = st.tuples(
    st.sampled_from("abc"), st.sampled_from(SIDES), kinds, st.sampled_from([None, "MIT"]), st.text(max_size=9)
)
gone = st.tuples(st.sampled_from(["empty", "short"]), st.sampled_from([None, 3.0]), st.text(max_size=5))


@settings(max_examples=60, deadline=None)
@given(
    documents=st.lists(found, max_size=25),
    dropped=st.lists(gone, max_size=10),
    borders=st.lists(st.integers(0, 25), max_size=4),
)
def test_parts_add_up(
    documents: list[tuple[str, SplitName, str, str | None, str]],
    dropped: list[tuple[str, float | None, str]],
    borders: list[int],
) -> None:
    documents.sort(key=lambda one: one[0])  # those of a source come one after another
    cuts = [0, *sorted(borders), 25]
    whole = Tally()
    for start, end in pairwise(cuts):
        part = Tally()
        for source, side, kind, licence, text in documents[start:end]:
            part.add_row(document_row(Document("id", source, text, kind, licence), b"0" * 16), side)
        for reason, threshold, text in dropped[start:end]:
            part.drop(Dropped("id", reason, "", None, threshold, text))
        whole.append(Tally.of_plain(json.loads(json.dumps(part.plain()))))
    counts = whole.counts()
    for side in SIDES:
        own = [one for one in documents if one[1] == side]
        assert counts["documents"][side] == len(own)
        assert counts["bytes"][side] == sum(len(one[4].encode()) for one in own)
        assert counts["sources"][side] == len(list(groupby(own, key=lambda one: one[0])))
    assert counts["kinds"] == Counter(one[2] for one in documents)
    assert counts["licences"] == Counter(one[3] or "unknown" for one in documents)
    assert counts["dropped"] == Counter(one[0] for one in dropped)
    for reason, told in counts["rules"].items():
        own_thresholds = [one[1] for one in dropped if one[0] == reason and one[1] is not None]
        assert told["threshold"] == (own_thresholds[0] if own_thresholds else None)
        assert told["bytes"] == sum(len(one[2].encode()) for one in dropped if one[0] == reason)
