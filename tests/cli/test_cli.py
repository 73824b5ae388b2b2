"""The command line: quick to answer, one clear line for every mistake, the right exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import ingot
from ingot import cli
from ingot.artifact import publish, write_record

HEAVY = ("torch", "transformers", "pyarrow", "matplotlib", "tokenizers", "fastapi", "scipy", "numpy")
VERBS = tuple(cli.VERBS)


def test_the_command_line_imports_nothing_heavy() -> None:
    program = f"import sys, ingot.cli; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_the_package_imports_nothing_heavy_until_asked() -> None:
    program = f"import sys, ingot; print([name for name in {HEAVY} if name in sys.modules], ingot.__all__)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "[] ['CausalLM', '__version__', 'load']\n"
    assert callable(ingot.load)
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = ingot.laod


def test_python_m_and_version() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "ingot", "--version"], capture_output=True, text=True, check=True
    )
    assert found.stdout == f"ingot {ingot.__version__}\n"


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_names_every_verb(run, words: tuple[str, ...]) -> None:
    outcome = run(*words)
    assert outcome.status == 0
    assert all(verb in outcome.out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(run, verb: str) -> None:
    if verb == "artifacts":
        for one in ("list", "show", "verify", "prune"):
            assert f"Example: ingot artifacts {one}" in run(verb, one, "--help").out
        return
    outcome = run(verb, "--help")
    assert outcome.status == 0
    assert f"Example: ingot {verb}" in outcome.out


def recipe(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


MISTAKES = {
    "unknown verb": (["frobnicate"], ["frobnicate", "ingot --help"]),
    "unknown option": (["demo", "--mintes", "3"], ["--mintes", "ingot demo --help"]),
    "missing argument": (["run"], ["RECIPE"]),
    "value of the wrong type": (["demo", "--minutes", "soon"], ["--minutes"]),
    "unknown recipe": (["run", "dmeo"], ["no recipe 'dmeo'", "did you mean 'demo'"]),
    "missing recipe file": (["run", "{tmp}/absent.yaml"], ["{tmp}/absent.yaml", "no such file"]),
    "recipe that is no YAML": (["run", "{tmp}/broken.yaml"], ["broken.yaml", "not readable as YAML"]),
    "unknown key": (["run", "demo", "minuts=3"], ["minuts", "did you mean 'minutes'"]),
    "unknown stage": (["run", "demo", "pretrian.context=3"], ["did you mean 'pretrain'"]),
    "unknown setting": (["run", "pretrain", "pretrain.contxt=3"], ["contxt", "did you mean 'context'"]),
    "setting of the wrong type": (
        ["run", "pretrain", "pretrain.context=wide"],
        ["pretrain", "context", "'wide'"],
    ),
    "minutes that are none": (["demo", "--minutes", "0"], ["minutes", "greater than 0"]),
    "unknown device": (["run", "pretrain", "--device", "gpu"], ["unknown device 'gpu'"]),
    "missing data": (["run", "pretrain", "data={tmp}/absent", "--out", "{tmp}/run"], ["{tmp}/absent"]),
    "empty data": (["run", "pretrain", "data={tmp}/empty", "--out", "{tmp}/run"], ["{tmp}/empty"]),
    "binary data": (["run", "pretrain", "data={tmp}/binary", "--out", "{tmp}/run"], ["{tmp}/binary"]),
    "too little data": (
        ["run", "pretrain", "data={tmp}/little", "--out", "{tmp}/run"],
        ["{tmp}/little", "too few"],
    ),
    "a file as run folder": (["run", "pretrain", "--quick", "--out", "{tmp}/file"], ["{tmp}/file", "folder"]),
    "no run to list": (["artifacts", "list", "{tmp}/absent"], ["{tmp}/absent", "holds no artifacts"]),
    "no artifact to show": (["artifacts", "show", "{tmp}"], ["{tmp}", "artifact.json"]),
    "nothing to verify": (["artifacts", "verify", "{tmp}"], ["{tmp}", "holds no artifacts"]),
    "no model folder": (["generate", "{tmp}/absent", "x"], ["{tmp}/absent", "no such folder"]),
    "no model in it": (["chat", "{tmp}/empty"], ["{tmp}/empty", "holds no model"]),
    "nothing to serve": (["serve", "{tmp}/empty", "--port", "0"], ["{tmp}/empty", "holds no model"]),
    "nothing to quantize": (["quantize", "{tmp}/empty"], ["{tmp}/empty", "holds no model"]),
    "nothing to evaluate": (["evaluate", "{tmp}/empty"], ["{tmp}/empty"]),
    "a port that is none": (["serve", "{tmp}", "--port", "99999"], ["--port"]),
    "a stage that the recipe lacks": (["train", "pretrain", "--until", "align"], ["has no stage 'align'"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_line_and_exit_2(run, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("a file")
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "x.txt").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "little").mkdir()
    (tmp_path / "little" / "x.txt").write_text("Only one short sentence is in here, and then it ends.")
    arguments, expected = MISTAKES[name]
    outcome = run(*[one.format(tmp=tmp_path) for one in arguments])
    assert outcome.status == 2
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert all(word.format(tmp=tmp_path) in last for word in expected), last
    assert "Traceback" not in outcome.err
    assert outcome.err.count("error:") == 1
    assert not list(tmp_path.rglob("*@*"))


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ingot", "artifacts", "list", str(tmp_path), "--debug"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode != 0
    assert "Traceback" in found.stderr
    assert "ArtifactError" in found.stderr


@pytest.fixture
def small_run(tmp_path: Path) -> Path:
    """A run folder with two artifacts, made without any machine learning."""
    out = tmp_path / "run"
    with publish(out / "corpus@1") as folder:
        (folder / "text.txt").write_text("text")
        corpus = write_record(folder, kind="corpus", name="corpus", stage="prepare", seconds=61)
    assert corpus.left_out is None
    with publish(out / "aligned@1") as folder:
        write_record(folder, kind="model", name="aligned", stage="align", left_out="no pairs")
    return out


def test_artifacts(run, small_run: Path) -> None:
    outcome = run("artifacts", "list", small_run)
    assert outcome.status == 0
    assert "1 min 01 s" in outcome.out
    assert "left out: no pairs" in outcome.out
    listed = json.loads(run("artifacts", "list", small_run, "--json").out)
    assert {one["address"] for one in listed} == {"corpus@1", "aligned@1"}
    assert json.loads(run("artifacts", "show", small_run / "corpus@1", "--json").out)["stage"] == "prepare"
    assert "stage: prepare" in run("artifacts", "show", small_run / "corpus@1").out
    silent = run("artifacts", "verify", small_run)
    assert (silent.status, silent.out, silent.err) == (0, "", "")
    (small_run / "corpus@1" / "text.txt").write_text("Text")
    loud = run("artifacts", "verify", small_run)
    assert (loud.status, loud.out) == (1, "prepare: corpus@1: text.txt: changed since it was made\n")
    assert json.loads(run("artifacts", "verify", small_run, "--json").out)[0]["path"] == "text.txt"
    assert json.loads(run("artifacts", "prune", small_run, "--json").out) == []


def test_a_reader_that_leaves_early_is_no_error(small_run: Path) -> None:
    command = (
        f"{sys.executable} -m ingot artifacts list {small_run} --json | head -c 1; exit ${{PIPESTATUS[0]}}"
    )
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in found.stderr


@pytest.mark.usefixtures("known_pace")
def test_plan_as_json(run, tmp_path: Path, tiny_corpus: Path) -> None:
    outcome = run("plan", "pretrain", "--quick", f"data={tiny_corpus}", "--out", tmp_path / "run", "--json")
    assert outcome.status == 0
    plan = json.loads(outcome.out)
    assert [one["stage"] for one in plan["stages"]] == ["prepare", "tokenizer", "pretrain"]
    assert all(one["does"] == "make" for one in plan["stages"])
    assert plan["model"]["parameters"] > 1000
    assert not (tmp_path / "run").exists()


def test_doctor(run, monkeypatch: pytest.MonkeyPatch) -> None:
    from ingot import device

    monkeypatch.setattr(device, "measure_gemm", lambda dtype, device: 1e12)
    monkeypatch.setattr(device, "measure_bandwidth", lambda device: 2e10)
    facts = json.loads(run("doctor", "--json").out)
    assert facts["machine"]["cores"] == device.cores()
    assert facts["measured"]["bf16 products"] == 1e12
    out = run("doctor").out
    assert "1,000.0 GFLOP/s" in out
    assert "20.0 GB/s" in out
    monkeypatch.setattr(device, "compiler", lambda: None)
    monkeypatch.setattr(device, "version_of", lambda name: None)
    out = run("doctor").out
    assert "g++ python3-dev" in out
    assert "pip install 'ingot[hf]'" in out


INTERRUPTED = """
    import sys, time
    from ingot import cli, recipes

    def slow(*arguments):
        print("working", flush=True)
        time.sleep(60)

    recipes.run = slow
    cli.main(["run", "pretrain", "--out", sys.argv[1]])
"""


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_signals(tmp_path: Path, number: signal.Signals, status: int, word: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(INTERRUPTED), str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=os.environ | {"NO_COLOR": "1"}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == status
    assert errors.strip() == f"{word}; the same command goes on from here"
