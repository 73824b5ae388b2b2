"""Graphs for other runtimes: the model's logits at every size of batch, new and past; the same text."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from small_models import TEXT, greedy, trained
from torch import Tensor

from ingot.artifact import verify, write_record
from ingot.compress import quantize_folder
from ingot.errors import ArtifactError, ConfigError
from ingot.export import folder as folders
from ingot.export.folder import export_folder
from ingot.export.graph import Graph, Step, check, first_step, names, next_step
from ingot.models import huggingface
from ingot.models.decoder import Decoder
from ingot.record import read
from ingot.tokenizer.tokenizer import Tokenizer

Make = Callable[..., Path]
Run = Callable[[Step], Sequence[Tensor]]


def continued(run: Run, model: Decoder, prompt: list[int], count: int) -> list[int]:
    """Greedy tokens through the cache."""
    said: list[int] = []
    step = first_step(model.config, torch.tensor([prompt]))
    for _ in range(count):
        logits, *past = run(step)
        said.append(int(logits[0, -1].argmax()))
        step = next_step(torch.tensor([said[-1:]]), list(past))
    return said


def compared(run: Run, model: Decoder, prompt: list[int]) -> None:
    """Every way of cutting a batch into calls gives what the model gives at once, and 50 tokens are equal."""
    generator = torch.Generator().manual_seed(4)
    for b, t in ((1, 1), (1, 9), (4, 2), (3, 20)):
        tokens = torch.randint(0, model.config.vocabulary, (b, t), generator=generator)
        with torch.no_grad():
            want = model(tokens).logits
        assert want is not None
        whole = run(first_step(model.config, tokens))[0]
        assert (whole - want).abs().max() <= 1e-4, (b, t)
        half = t // 2
        if half:
            first, *past = run(first_step(model.config, tokens[:, :half]))
            second, *past = run(next_step(tokens[:, half:], list(past)))
            assert (torch.cat([first, second], 1) - want).abs().max() <= 1e-4, (b, t)
            assert past[0].shape == (b, model.config.kv_heads, t, model.config.head_width)
    assert continued(run, model, prompt, 50) == greedy(model, prompt, 50)


@pytest.mark.parametrize("changes", [{}, {"kv_heads": 4, "tied": True}, {"kv_heads": 1}])
def test_the_function_is_the_model(changes: dict[str, object]) -> None:
    model = trained(**changes).requires_grad_(False)
    compared(lambda step: Graph(model)(*step), model, [5, 6, 7])


def test_padding_before_a_prompt_changes_nothing() -> None:
    model = trained().requires_grad_(False)
    tokens = torch.randint(0, 320, (2, 8), generator=torch.Generator().manual_seed(4))
    mask = torch.ones(2, 8, dtype=torch.int64)
    mask[1, :3] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits, *past = Graph(model)(tokens, mask, positions, first_step(model.config, tokens)[3])
    alone = model(tokens[1:, 3:]).logits
    assert alone is not None
    assert (logits[1, 3:] - alone[0]).abs().max() <= 1e-5
    assert torch.isfinite(logits).all()
    more = torch.tensor([[9], [9]])
    mask = torch.cat([mask, torch.ones(2, 1, dtype=torch.int64)], 1)
    last = Graph(model)(more, mask, torch.tensor([[8], [5]]), past)[0]
    alone = model(torch.cat([tokens[1:, 3:], more[1:]], 1)).logits
    assert alone is not None
    assert (last[1, 0] - alone[0, -1]).abs().max() <= 1e-5


def test_a_graph_that_computes_something_else_is_refused(
    made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained().requires_grad_(False)

    def wrong(step: Step) -> Sequence[Tensor]:
        logits, *past = Graph(model)(*step)
        return [logits + (0.01 if past[0].shape[2] > 11 else 0.0), *past]

    with pytest.raises(ArtifactError, match=r"logits are 0\.01\d* off"):
        check(Graph(model), wrong, "here")
    nothing = [torch.full((1, 11, 320), float("nan"))]
    with pytest.raises(ArtifactError, match="off"):
        check(Graph(model), lambda step: nothing, "here")

    def broken(graph: Graph, folder: Path) -> dict[str, float]:
        (folder / "model.onnx").write_text("half")
        raise ArtifactError("broken", where=folder)

    monkeypatch.setitem(folders.FORMS, "onnx", broken)
    with pytest.raises(ArtifactError, match="broken"):
        export_folder(made(), tmp_path / "out", "onnx")
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_torchscript_is_the_model_and_knows_its_origin(made: Make, tmp_path: Path) -> None:
    folder = made()
    record = write_record(folder, kind="model", name="base")
    told = export_folder(folder, tmp_path / "out", "torchscript")
    assert told["difference"] <= 1e-4
    loaded = torch.jit.load(str(tmp_path / "out" / "model.ts"))
    tokenizer = Tokenizer.load(tmp_path / "out")
    compared(lambda step: loaded(*step), huggingface.load(folder), tokenizer.encode(TEXT)[:20])
    made_of = read(tmp_path / "out").record
    assert made_of.kind == "export"
    assert made_of.parents["model"]["fingerprint"] == record.fingerprint
    assert made_of.config["origin"]["weights_sha256"] == record.files["model.safetensors"]
    assert verify(tmp_path / "out") == []


def test_what_cannot_be_exported_is_refused(made: Make, tmp_path: Path) -> None:
    folder = made()
    with pytest.raises(ConfigError, match="unknown format 'onx'") as wrong:
        export_folder(folder, tmp_path / "out", "onx")
    assert "onnx" in str(wrong.value)
    quantize_folder(folder, tmp_path / "int8")
    with pytest.raises(ArtifactError, match="quantized"):
        export_folder(tmp_path / "int8", tmp_path / "out", "torchscript")
    with pytest.raises(ArtifactError, match="exists already"):
        export_folder(folder, tmp_path / "int8", "torchscript")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_onnx_is_the_model(made: Make, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    from ingot.export.onnx import Session

    folder = made()
    told = export_folder(folder, tmp_path / "out", "onnx")
    assert told["difference"] <= 1e-4
    session = Session(tmp_path / "out" / "model.onnx", threads=1)
    model = huggingface.load(folder)
    compared(session.run, model, Tokenizer.load(folder).encode(TEXT)[:20])
    import onnx

    graph = onnx.load(tmp_path / "out" / "model.onnx").graph
    onnx.checker.check_model(str(tmp_path / "out" / "model.onnx"))
    inputs, outputs = names(model.config)
    assert [one.name for one in graph.input] == inputs
    assert [one.name for one in graph.output] == outputs
    assert verify(tmp_path / "out") == []


RUNNER = """
import sys

class Blocked:
    def find_spec(self, name, *rest):
        if name == "ingot" or name.startswith("ingot."):
            raise ImportError("ingot is not here")

sys.meta_path.insert(0, Blocked())
try:
    import ingot
except ImportError:
    pass
else:
    raise SystemExit("ingot is here after all")
import json, torch

torch.set_num_threads(1)
run = torch._inductor.aoti_load_package(sys.argv[1])
prompt, layers, k, e = json.loads(sys.argv[2])
past, said, new, place = [torch.zeros(1, k, 0, e)] * (2 * layers), [], prompt, 0
for _ in range(50):
    stop = place + len(new)
    logits, *past = run(
        torch.tensor([new]), torch.ones(1, stop, dtype=torch.int64), torch.arange(place, stop)[None], past
    )
    place, new = stop, [int(logits[0, -1].argmax())]
    said += new
print(json.dumps(said))
"""


@pytest.fixture
def compiled_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled code goes to the test's own folder."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_elsewhere")
def test_aot_is_the_model_where_our_code_is_not(made: Make, tmp_path: Path) -> None:
    folder = made()
    told = export_folder(folder, tmp_path / "out", "aot")
    assert told["difference"] <= 1e-4
    model = huggingface.load(folder)
    prompt = Tokenizer.load(folder).encode(TEXT)[:20]
    package = torch._inductor.aoti_load_package(str(tmp_path / "out" / "model.pt2"))
    compared(lambda step: package(*step), model, prompt)  # type: ignore[operator]
    given = json.dumps([prompt, model.config.layers, model.config.kv_heads, model.config.head_width])
    command = [sys.executable, "-c", RUNNER, str(tmp_path / "out" / "model.pt2"), given]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == greedy(model, prompt, 50)
