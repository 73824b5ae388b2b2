"""The verbs of `ingot data` for instruction data, preferences and the atlas, as a person types them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ingot.cli.atlas import atlas
from ingot.cli.label import agreement, label
from ingot.cli.records import convert, mine
from ingot.data.corpus import write_corpus
from ingot.data.document import Document
from ingot.data.holdout import Split
from ingot.data.preferences.judgements import Judgement, append
from ingot.data.preferences.pairs import read_pairs
from ingot.errors import ConfigError, DataError

app = typer.Typer()
for verb in (atlas, convert, mine, label, agreement):
    app.command()(verb)

PYTHON = 'def area(w, h):\n    """Return the area of room {n}."""\n    return w * h + {n}\n'
PROSE = "# Bread {n}\n\nFlour, water, salt, and most of all time, are what bread number {n} is made of. " * 2


def call(*words: object) -> str:
    outcome = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    code = [Document(f"a{n}.py", f"a{n}.py", PYTHON.format(n=n), "python") for n in range(6)]
    prose = [Document(f"b/{n}.md", f"b/{n}.md", PROSE.format(n=n), "markdown") for n in range(6)]
    write_corpus(folder, Split([*code, *prose[:5]], prose[5:]), [], [], {})
    return folder


def test_mining_a_corpus(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "mined.jsonl"
    told = json.loads(call("mine", corpus, "--out", out, "--json"))
    assert told["documents"] == 11  # what is held out stays apart
    assert told["found"] == {"functions": 6, "explanations": 6, "sections": 5}
    assert told["written"] == len(out.read_text().splitlines()) == 17
    assert "17 conversations from 11 documents" in call("mine", corpus, "--out", out)
    checked = json.loads(call("convert", out, "--json"))
    assert checked == {"format": "messages", "rows": 17, "wrong": 0}
    assert "6 conversations" in call("mine", corpus, "--out", out, "--miner", "functions")
    with pytest.raises(DataError, match="did you mean 'functions'"):
        call("mine", corpus, "--out", out, "--miner", "function")


def test_an_atlas_of_a_corpus(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "atlas.html"
    told = json.loads(call("atlas", corpus, "--out", out, "--clusters", "2", "--json"))
    assert told["documents"] == 12 and told["bytes"] == out.stat().st_size
    assert sorted(one["documents"] for one in told["clusters"]) == [6, 6]
    assert "12 documents in 2 clusters" in call("atlas", corpus, "--out", out, "--clusters", "2")
    with pytest.raises(ConfigError, match="layout"):
        call("atlas", corpus, "--layout", "round")


def test_converting_and_checking(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    good, bad = (
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": "p", "chosen": "a", "rejected": "a"},
    )
    path.write_text(json.dumps([good, bad]))
    with pytest.raises(
        DataError, match=r"1 of 2 rows cannot be used: line 1: 'chosen' and 'rejected' are the same"
    ):
        call("convert", path)
    assert "2 rows of 'preference'" in call("convert", path, "--skip-wrong")
    told = call("convert", path, "--to", "messages", "--skip-wrong")
    assert "rows.messages.jsonl: 1 rows of 'messages'" in told and "left out: line 1" in told
    assert "without 1 rejected answers" in told
    (row,) = [json.loads(line) for line in (tmp_path / "rows.messages.jsonl").read_text().splitlines()]
    assert [one["content"] for one in row["messages"]] == ["p", "a"]


def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"p{n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_agreement_of_annotators(tmp_path: Path) -> None:
    path = pairs(tmp_path)
    into = tmp_path / "pairs.judgements.jsonl"
    with pytest.raises(DataError, match=r"no judgement of these pairs; ingot data label"):
        call("agreement", path)
    for n, pair in enumerate(read_pairs(path)):
        good: Any = "a" if str(pair.a).startswith("good") else "b"
        append(into, Judgement(pair.id, "Ann", good, first="ab"[n % 2]))
        append(into, Judgement(pair.id, "Bo", good if n else "tie", first="ab"[n % 2]))
    append(into, Judgement("elsewhere", "Ann", "a"))
    out = tmp_path / "preferences.jsonl"
    told = json.loads(call("agreement", path, "--out", out, "--json"))
    assert told["of_other_pairs"] == 1 and told["judgements"] == 24
    assert told["fleiss_kappa"]["pairs"] == 12 and 0.7 < told["cohen_kappa"]["Ann, Bo"]["value"] < 1
    assert told["preferences"] == 11 and told["without"] == {"no majority": 1}
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert all(row["chosen"].startswith("good") for row in rows) and len(rows) == 11
    words = call("agreement", path)
    assert "Ann and Bo (Cohen's kappa): 0." in words and "1 more are of pairs" in words


def test_labelling_over_http_and_ctrl_c(tmp_path: Path) -> None:
    path = pairs(tmp_path)
    program = "import typer; from ingot.cli.label import label; typer.run(label)"
    words = [sys.executable, "-c", program, str(path), "--port", "0", "--annotator", "Ann"]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert running.stdout is not None
    try:
        said = running.stdout.readline()
        found = re.search(r"12 pairs at http://127\.0\.0\.1:(\d+)", said)
        assert found is not None, said
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
        connection.request("GET", "/")
        assert b'let annotator = "Ann"' in connection.getresponse().read()
        connection.request("GET", "/api/pair?annotator=Ann")
        state = json.loads(connection.getresponse().read())
        body = json.dumps({"annotator": "Ann", "pair": state["pair"], "choice": "tie"})
        connection.request("POST", "/api/judge", body, {"content-type": "application/json"})
        assert json.loads(connection.getresponse().read())["done"] == 1
        connection.close()
    finally:
        running.send_signal(signal.SIGINT)
        status = running.wait(120)
        running.stdout.close()
    assert status == 0
    (line,) = (tmp_path / "pairs.judgements.jsonl").read_text().splitlines()
    assert json.loads(line)["annotator"] == "Ann" and json.loads(line)["choice"] == "tie"
