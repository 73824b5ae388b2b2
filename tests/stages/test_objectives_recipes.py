"""Every objective's recipe, from a file of examples to a folder that transformers reads."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from ingot import recipes
from ingot.artifact import Artifact, verify
from ingot.errors import ConfigError, DataError, IngotError
from ingot.models import encoder_decoder_folder, encoder_folder
from ingot.models.encoder import EncoderConfig
from ingot.models.heads import HeadConfig
from ingot.progress import Progress
from ingot.tokenizer.tokenizer import Tokenizer

GOOD = ("fine", "lovely", "bright", "clever", "warm", "funny")
BAD = ("dull", "awful", "grey", "silly", "cold", "boring")
THINGS = ("film", "story", "play", "book", "scene", "song", "plot", "cast")
TINY = ("width=32", "layers=1", "vocabulary=320", "batch_size=8", "epochs=1", "minutes=1", "context=48")

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "classify": [
        {"text": f"the {thing} was {word} and {word} again", "label": "good" if word in GOOD else "bad"}
        for thing in THINGS
        for word in GOOD + BAD
    ],
    "tag": [
        {"words": ["the", thing, "in", place.title(), "."], "tags": ["O", "O", "O", "B-PLACE", "O"]}
        for thing in THINGS
        for place in ("paris", "rome", "oslo", "lima")
    ],
    "answer": [
        {
            "question": f"Where is the {thing}?",
            "context": f"A {other} is here. The {thing} is in {place}.",
            "answer": place,
        }
        for thing, other in zip(THINGS, reversed(THINGS), strict=True)
        for place in ("Paris", "Rome", "Oslo", "Lima")
    ],
    "embed": [
        {"first": f"{word} {thing}", "second": f"a {thing} that is {word}"}
        for word in GOOD
        for thing in THINGS
    ],
    "translate": [
        {"source": f"{word} {thing}", "target": f"{thing} {word}"} for word in GOOD for thing in THINGS
    ],
}
MEASURES = {
    "classify": "accuracy",
    "tag": "tag accuracy",
    "answer": "exact match",
    "embed": "recall at 1",
    "translate": "word F1",
    "masked": "masked accuracy",
    "denoise": "span accuracy",
}
LAST = {"masked": "encode"}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def carry_out(
    name: str, data: Path, out: Path, *changes: str, tiny: tuple[str, ...] = TINY
) -> dict[str, Artifact]:
    """Runs one of our recipes with the smallest of settings; by stage."""
    stages = [stage for stage in recipes.load(name).stages if stage not in ("prepare", "examples")]
    small = [f"{stage}.{change}" for stage in stages for change in tiny]
    loaded = recipes.load(name, [f"data.path={data}", *small, *changes])
    made = recipes.run(loaded, out, Progress())
    return dict(zip(loaded.stages, made, strict=True))


def figures(made: Artifact) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((made.path / "evaluation.json").read_text())
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Artifact]]:
    """Every recipe, carried out once."""
    folder = tmp_path_factory.mktemp("recipes")
    texts = folder / "texts"
    texts.mkdir()
    random, words = Random(0), [*GOOD, *BAD, *THINGS, "the", "a", "was", "and", "with", "of"]
    for number in range(12):
        lines = (" ".join(random.choices(words, k=9)) + "." for _ in range(60))
        (texts / f"{number}.txt").write_text("\n".join(lines))
    found = {}
    for name in MEASURES:
        data = write(folder / f"{name}.jsonl", EXAMPLES[name]) if name in EXAMPLES else texts
        found[name] = carry_out(name, data, folder / name)
    return found


@pytest.mark.parametrize("name", MEASURES)
def test_a_recipe_makes_a_model_with_figures_beside_simple_ones(
    name: str, made: dict[str, dict[str, Artifact]]
) -> None:
    last = made[name][LAST.get(name, name)]
    assert verify(last.path) == []
    found = figures(last)
    main = found["scores"][MEASURES[name]]
    assert main["baselines"]
    for one in (main, *main["baselines"].values()):
        low, high = one["interval"]
        assert 0 <= low <= one["value"] <= high <= 1
    assert last.record.metrics[MEASURES[name].replace(" ", "_")] == pytest.approx(main["value"], abs=1e-5)
    assert any(MEASURES[name] in note and "held-out" in note for note in last.record.notes)
    assert (last.path / "plan.json").is_file() and (last.path / "metrics.jsonl").is_file()


@pytest.mark.parametrize("name", ["masked", "classify", "tag", "answer", "embed"])
def test_transformers_reads_the_encoders(name: str, made: dict[str, dict[str, Artifact]]) -> None:
    transformers = pytest.importorskip("transformers")
    folder = made[name][LAST.get(name, name)].path
    classes = {
        "masked": "AutoModelForMaskedLM",
        "classify": "AutoModelForSequenceClassification",
        "tag": "AutoModelForTokenClassification",
        "answer": "AutoModelForQuestionAnswering",
        "embed": "AutoModel",
    }
    theirs = getattr(transformers, classes[name]).from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(["the film was fine", "a dull story in Paris"], return_tensors="pt", padding=True)
    head = HeadConfig(task="embedding", pooling="mean") if name == "embed" else None
    ours = encoder_folder.load(folder, head=head)(batch["input_ids"])
    with torch.no_grad():
        out = theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    mask = batch["attention_mask"].bool()
    if name == "embed":
        assert (ours.hidden - out.last_hidden_state)[mask].abs().max() <= 1e-4
        assert ours.logits.norm(dim=-1).tolist() == pytest.approx([1, 1], abs=1e-5)
    elif name == "answer":
        both = torch.stack((out.start_logits, out.end_logits), -1)
        assert (ours.logits - both)[mask].abs().max() <= 1e-4
    else:
        seen = mask if out.logits.dim() == 3 else slice(None)
        assert (ours.logits - out.logits)[seen].abs().max() <= 1e-4


@pytest.mark.parametrize("name", ["translate", "denoise"])
def test_transformers_reads_the_encoder_decoders(name: str, made: dict[str, dict[str, Artifact]]) -> None:
    transformers = pytest.importorskip("transformers")
    folder = made[name][name].path
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    source = torch.tensor(
        [[*tokenizer("fine film", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]]
    )
    start = torch.full((1, 3), theirs.config.decoder_start_token_id)
    with torch.no_grad():
        expected = theirs(input_ids=source, decoder_input_ids=start).logits
    ours = encoder_decoder_folder.load(folder)(source, start).logits
    assert (ours - expected).abs().max() <= 1e-4


def test_labels_are_the_names_in_the_file(made: dict[str, dict[str, Artifact]]) -> None:
    config = json.loads((made["classify"]["classify"].path / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "good"}
    classes = figures(made["classify"]["classify"])["classes"]["classes"]
    assert set(classes) <= {"bad", "good"}


def test_every_held_out_answer_is_kept(made: dict[str, dict[str, Artifact]]) -> None:
    folder = made["classify"]["classify"].path
    lines = [json.loads(line) for line in (folder / "outcomes.jsonl").read_text().splitlines()]
    accuracy = figures(made["classify"]["classify"])["scores"]["accuracy"]
    assert accuracy["texts"] == len(lines)
    assert accuracy["value"] == pytest.approx(sum(one["right"] == one["said"] for one in lines) / len(lines))
    simple = accuracy["baselines"]["TF-IDF with logistic regression"]["value"]
    assert simple == pytest.approx(sum(one["right"] == one["tf_idf"] for one in lines) / len(lines))
    assert all(EXAMPLES["classify"][one["line"] - 1]["label"] == one["right"] for one in lines)


def test_a_second_run_does_nothing_anew(tmp_path: Path) -> None:
    data = write(tmp_path / "pairs.jsonl", EXAMPLES["translate"])
    first = carry_out("translate", data, tmp_path / "run")
    again = carry_out("translate", data, tmp_path / "run")
    assert [one.address for one in again.values()] == ["examples@1", "translator@1"] and first == again
    write(data, EXAMPLES["translate"][:-4])
    changed = carry_out("translate", data, tmp_path / "run")
    assert [one.address for one in changed.values()] == ["examples@2", "translator@2"]


def test_a_classifier_learns_what_words_say(tmp_path: Path) -> None:
    """Each class has its words; held-out texts are other combinations of them."""
    data = write(tmp_path / "texts.jsonl", EXAMPLES["classify"])
    tiny = ("width=32", "layers=1", "vocabulary=320", "batch_size=16", "minutes=1", "context=48", "dropout=0")
    made = carry_out(
        "classify",
        data,
        tmp_path / "run",
        "classify.start=null",
        "classify.epochs=8",
        "encode.epochs=1",
        tiny=tiny,
    )
    accuracy = figures(made["classify"])["scores"]["accuracy"]
    assert accuracy["value"] == 1
    usual = accuracy["baselines"]["most frequent class"]
    assert usual["excludes_zero"] and usual["mcnemar_p"] < 0.1


def test_a_head_is_put_on_somebody_elses_encoder(
    tmp_path: Path, made: dict[str, dict[str, Artifact]]
) -> None:
    data = write(tmp_path / "texts.jsonl", EXAMPLES["classify"])
    base = made["masked"]["encode"].path
    out = carry_out("classify", data, tmp_path / "run", f"classify.start={base}", "encode.epochs=0.1")
    config, _, _ = encoder_folder.read_config(out["classify"].path)
    theirs, _, _ = encoder_folder.read_config(base)
    assert config.vocabulary == theirs.vocabulary
    with pytest.raises(IngotError, match="no model to start from"):
        carry_out("classify", data, tmp_path / "other", "classify.start=nowhere")
    with pytest.raises(IngotError, match="reads 48 tokens, context is 64"):
        carry_out("classify", data, tmp_path / "long", f"classify.start={base}", "classify.context=64")


@pytest.mark.parametrize("name", ["classify", "tag", "answer", "embed"])
def test_a_bert_goes_in_and_comes_out(
    name: str, tmp_path: Path, made: dict[str, dict[str, Artifact]]
) -> None:
    tokenizer = Tokenizer.load(made["masked"]["encode"].path)
    sizes = {"width": 32, "layers": 1, "heads": 2, "feed_forward": 32, "context": 48}
    bert = EncoderConfig(vocabulary=tokenizer.vocab_size, padding=tokenizer.pad_id, **sizes).build(3)
    base = tmp_path / "bert"
    base.mkdir()
    encoder_folder.save(base, bert)
    tokenizer.save(base)
    data = write(tmp_path / f"{name}.jsonl", EXAMPLES[name])
    changes = [f"{name}.start={base}", *(["encode.epochs=0.1"] if name == "classify" else [])]
    out = carry_out(name, data, tmp_path / "run", *changes)[name]
    config, family, _ = encoder_folder.read_config(out.path)
    assert family.__name__.endswith(".bert") and config.segments == 2
    before, after = bert.state_dict(), encoder_folder.load(out.path).state_dict()
    assert before["embedding.weight"].shape == after["embedding.weight"].shape
    assert not torch.equal(before["embedding.weight"], after["embedding.weight"])


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "texts.jsonl", EXAMPLES["classify"])
    with pytest.raises(DataError, match=r"no 'words'"):
        carry_out("tag", data, tmp_path / "a")
    with pytest.raises(DataError, match="the examples are 'classes', this stage learns from 'tags'"):
        carry_out("tag", data, tmp_path / "b", "examples.task=classes")
    with pytest.raises(ConfigError, match="a micro-batch of 4 rows would change the loss"):
        carry_out("embed", data, tmp_path / "c", "embed.micro_batch=4")
    one = [row | {"label": "x"} for row in EXAMPLES["classify"]]
    with pytest.raises(DataError, match="all texts are of one class"):
        carry_out("classify", write(data, one), tmp_path / "d", "classify.start=null", "encode.epochs=0.1")
    with pytest.raises(DataError, match="2 examples are too few"):
        carry_out("classify", write(data, one[:2]), tmp_path / "e")
    with pytest.raises(DataError, match="no such file"):
        carry_out("classify", tmp_path / "absent.csv", tmp_path / "f")


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURES)
def test_quick_recipes_run_on_pythons_own_library(name: str, tmp_path: Path) -> None:
    loaded = recipes.load(name, quick=True)
    made = recipes.run(loaded, tmp_path / "run", Progress())
    assert figures(made[-1])["scores"][MEASURES[name]]["value"] > 0
