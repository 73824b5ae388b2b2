"""Word vectors: gradients against autograd, planted analogies, GloVe's optimum, and files both ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import logsigmoid

from ingot.errors import ArtifactError, DataError
from ingot.models import fasttext, glove, neighbours, word2vec
from ingot.models.lexicon import Lexicon
from ingot.models.vectors import Vectors

PAIRS = 10


def planted(sentences: int) -> list[list[str]]:
    """Sentences about lands and towns: what is said tells which pair it is, marks tell which of the two."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(sentences):
        pair, role = int(random.integers(PAIRS)), int(random.integers(2))
        near = []
        for number in random.integers(3, size=3):
            topic = pair if random.random() > 0.2 else int(random.integers(PAIRS))
            near.append(f"about{topic}x{number}")
        for number in random.integers(4, size=3):
            mark = role if random.random() > 0.2 else 1 - role
            near.append(f"{('land', 'town')[mark]}mark{number}")
        random.shuffle(near)
        found.append([*near[:3], f"{('land', 'town')[role]}{pair}", *near[3:]])
    return found


QUESTIONS = [
    (f"land{i}", f"town{i}", f"land{j}", f"town{j}") for i in range(PAIRS) for j in range(PAIRS) if i != j
]
SMALL = {"width": 16, "window": 6, "epochs": 8, "share": 0, "batch": 512}


@pytest.mark.parametrize("model", ["skip_gram", "cbow"])
def test_word2vec_solves_planted_analogies(model: str) -> None:
    config = word2vec.Word2VecConfig.parse({**SMALL, "model": model})
    losses: list[float] = []
    found = word2vec.train(planted(4000), config, lambda done, loss: losses.append(loss))
    assert found.solved(QUESTIONS) >= 0.9
    assert losses[-1] < losses[0] < 6 * np.log(2)
    still = config.model_copy(update={"rate": 1e-12, "epochs": 1})
    word2vec.train(planted(300), still, lambda done, loss: losses.append(loss))
    assert losses[-1] == pytest.approx(6 * np.log(2))  # of one pair and 5 negatives, all vectors at zero


def test_fasttext_solves_them_and_knows_unknown_words() -> None:
    text = [[f"{word}ly" if word.startswith("about") else word for word in line] for line in planted(4000)]
    model = fasttext.train(text, fasttext.FastTextConfig.parse({**SMALL, "buckets": 5000}))
    vectors = model.vectors()
    assert vectors.solved(QUESTIONS) >= 0.9
    assert "landmark9" not in vectors
    near = [word for word, _ in vectors.nearest(model["landmark9"], 4)]
    assert set(near) == {"landmark0", "landmark1", "landmark2", "landmark3"}
    with pytest.raises(DataError, match="no vector for ''"):
        model[""]


def test_glove_solves_them() -> None:
    config = glove.GloVeConfig(width=32, window=6, epochs=400, batch=512)
    assert glove.train(planted(8000), config).solved(QUESTIONS) >= 0.9


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([word2vec._skip_gram, word2vec._cbow]), st.integers(0, 2**31))
def test_gradients_are_those_of_the_written_out_loss(update: object, seed: int) -> None:
    assert callable(update)
    random = torch.Generator().manual_seed(seed)
    m, blocks, side, weight = 7, 2, 2, 0.6
    v, u = (torch.randn(m, 5, generator=random, dtype=torch.float64) for _ in range(2))
    at = torch.randint(0, m, (blocks, neighbours.BLOCK + 2 * side), generator=random)
    negatives = torch.randint(0, m, (3,), generator=random)
    near = torch.zeros(blocks, neighbours.BLOCK, neighbours.BLOCK + 2 * side, dtype=torch.float64)
    for place in range(neighbours.BLOCK):
        for apart in (-2, -1, 1, 2):
            near[:, place, place + side + apart] = torch.rand(blocks, generator=random).round()
    loss, _, dv, du = update(v, u, at, negatives, near, weight)
    a, b = v.clone().requires_grad_(), u.clone().requires_grad_()
    expected = written_out(a, b, at, negatives, near, weight, update is word2vec._cbow)
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-9)
    assert torch.allclose(dv, a.grad) and torch.allclose(du, b.grad)


def written_out(
    v: Tensor, u: Tensor, at: Tensor, negatives: Tensor, near: Tensor, k: float, cbow: bool
) -> Tensor:
    """The loss pair by pair."""
    total = v.new_zeros(())
    for block in range(len(at)):
        for place in range(neighbours.BLOCK):
            others = near[block, place].nonzero().flatten()
            word = at[block, place + 2]
            if cbow and len(others):
                pairs = [(v[at[block, others]].mean(0), word)]
            else:
                pairs = [(v[word], at[block, other]) for other in others]
            for inner, outer in pairs:
                total = total - logsigmoid(inner @ u[outer])
                for negative in negatives:
                    total = total - k * logsigmoid(-inner @ u[negative])
    return total


def test_neighbours_are_of_the_same_sentence_and_near_enough() -> None:
    random = np.random.default_rng(1)
    lines = [[str(w) for w in random.integers(0, 50, size=size)] for size in random.integers(1, 30, size=60)]
    lexicon = Lexicon.count(lines, 1)
    config = word2vec.Word2VecConfig(window=3, share=0, epochs=15, batch=64, least=1)
    seen: Counter[tuple[int, int]] = Counter()
    for _, batch in neighbours.batches(lexicon, lexicon.read(lines), config):
        for g, i, c in batch.near.nonzero().tolist():
            seen[int(batch.places[g, i + 3]), int(batch.places[g, c])] += 1
    expected: Counter[tuple[int, int]] = Counter()
    for line in lines:
        for i, j in ((i, j) for i in range(len(line)) for j in range(len(line)) if 0 < abs(i - j) <= 3):
            expected[lexicon.index[line[i]], lexicon.index[line[j]]] += (4 - abs(i - j)) / 3 * 15
    assert set(seen) <= set(expected)
    assert sum(seen.values()) == pytest.approx(sum(expected.values()), rel=0.03)


def test_the_same_seed_gives_the_same_vectors() -> None:
    def made(seed: int) -> np.ndarray:
        config = word2vec.Word2VecConfig.parse({**SMALL, "epochs": 1, "seed": seed})
        return word2vec.train(planted(300), config).matrix

    assert np.array_equal(made(1), made(1)) and not np.array_equal(made(1), made(2))


def test_frequent_words_are_thinned_as_the_formula_says() -> None:
    lines = [["the"] * 90 + ["owl"] * 10] * 100
    lexicon = Lexicon.count(lines, 1)
    kept = lexicon.read(lines).thinned(lexicon.counts, 0.01, np.random.default_rng(0)).words
    for word, share in ((0, 0.9), (1, 0.1)):
        chance = np.sqrt(0.01 / share) + 0.01 / share
        assert (kept == word).sum() == pytest.approx(10_000 * share * chance, rel=0.1)


def test_glove_comes_down_to_the_optimum_in_closed_form() -> None:
    """With equal weights the best fit is the singular value decomposition of log X without its means."""
    random = np.random.default_rng(0)
    n, d = 12, 3
    counts = np.exp(random.normal(size=(n, n)))
    rows, columns = (index.ravel() for index in np.indices((n, n)))
    together = glove.Together(rows, columns, counts.ravel())
    config = glove.GloVeConfig(width=d, epochs=2500, rate=0.1, top=1e-9, batch=n * n)
    losses = glove.fit(together, n, config).losses
    centre = np.eye(n) - 1 / n
    best = (np.linalg.svd(centre @ np.log(counts) @ centre, compute_uv=False)[d:] ** 2).sum()
    assert losses[0] > 2 * best
    assert best - 1e-3 <= losses[-1] <= 1.01 * best


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=8), min_size=1, max_size=5), st.integers(1, 4)
)
def test_words_together_are_counted_by_distance(lines: list[list[int]], window: int) -> None:
    expected: Counter[tuple[int, int]] = Counter()
    for line in lines:
        for i, j in ((i, j) for i in range(len(line)) for j in range(len(line))):
            if 0 < abs(i - j) <= window:
                expected[line[i], line[j]] += 1 / abs(i - j)  # type: ignore[assignment]
    text = Lexicon([str(i) for i in range(6)], np.ones(6, dtype=np.int64)).read(
        [[str(w) for w in o] for o in lines]
    )
    if not expected:
        with pytest.raises(DataError, match="no two words"):
            glove.count_together(text, 6, window)
        return
    found = glove.count_together(text, 6, window)
    pairs = dict(
        zip(zip(found.words.tolist(), found.others.tolist(), strict=True), found.counts, strict=True)
    )
    assert pairs == pytest.approx(dict(expected))


def test_pieces_and_hashes_are_the_published_ones() -> None:
    config = fasttext.FastTextConfig(shortest=3, longest=3)
    assert fasttext.pieces("where", config) == ["<wh", "whe", "her", "ere", "re>"]  # the paper's example
    assert [fasttext.hashed(word) for word in ("", "a", "foobar")] == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]


def some(words: Sequence[str] = ("king", "queen", "man", "woman", "tree")) -> Vectors:
    rows = [[1, 1, 0], [1, 0, 0.1], [0, 1, 0], [0, 0, 0.1], [0.5, 0.5, 3]]
    return Vectors(words, np.array(rows, dtype=np.float32))


def test_nearest_and_analogy_are_cosines() -> None:
    vectors = some()
    units = {word: vectors[word] / np.linalg.norm(vectors[word]) for word in vectors.words}
    ranked = sorted((w for w in units if w != "king"), key=lambda w: -float(units[w] @ units["king"]))
    assert [word for word, _ in vectors.nearest("king")] == ranked
    assert vectors.nearest("king", 1)[0][1] == pytest.approx(vectors.similarity("king", ranked[0]))
    target = units["king"] - units["man"] + units["woman"]
    left = {word: float(unit @ target) for word, unit in units.items() if word in ("queen", "tree")}
    assert vectors.analogy("man", "king", "woman", 9)[0][0] == max(left, key=left.__getitem__)
    assert len(vectors.analogy("man", "king", "woman", 9)) == 2
    with pytest.raises(DataError, match="no vector for 'duck'"):
        vectors.nearest("duck")


def test_files_come_back_exactly(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    matrix = (random.normal(size=(4, 6)) * 10.0 ** random.integers(-30, 30, size=(4, 6))).astype(np.float32)
    vectors = Vectors(["a", "ünï", "3", '"'], matrix)
    vectors.write_text(tmp_path / "v.txt")
    vectors.save(tmp_path / "v")
    for again in (Vectors.read_text(tmp_path / "v.txt"), Vectors.load(tmp_path / "v")):
        assert again.words == vectors.words and np.array_equal(again.matrix, matrix)
    assert (tmp_path / "v.txt").read_text(encoding="utf-8").splitlines()[0] == "4 6"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not word2vec's"),
        ("2 2\na 1 2\n", "1 words, the first line promises 2"),
        ("1 2\na 1\n", "line 2 has 1 numbers"),
        ("1 2\na 1 2\nb 1 2\n", "line 3"),
        ("1 2\na 1 x\n", "not word2vec's"),
        ("2 1\na 1\na 2\n", "twice"),
        ("1 1\na nan\n", "not finite"),
        ("99999999999 99999999\na 1\n", "line 2"),
        ("-1 2\na 1 2\n", "not word2vec's"),
    ],
)
def test_text_that_is_not_the_format_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "v.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        Vectors.read_text(tmp_path / "v.txt")


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        Vectors.read_text(tmp_path / "none.txt")
    with pytest.raises(ArtifactError):
        Vectors.load(tmp_path)
    with pytest.raises(DataError, match="cannot be written"):
        some(("a b", "c", "d", "e", "f")).write_text(tmp_path / "v.txt")
    with pytest.raises(DataError, match="5 words for an array"):
        Vectors(["a"] * 5, np.zeros((4, 2), dtype=np.float32))
    with pytest.raises(DataError, match="none of 2 words stands there 5 times"):
        word2vec.train([["a", "b"]])
