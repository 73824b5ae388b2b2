"""Triton's repository: configurations that its own format reads, stages that answer as the model does."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ingot
from ingot.deploy.settings import Deployment
from ingot.deploy.triton import triton_files

PROMPTS = ["def add(", "Hello, how", "a", "return a + b\n\nHello"]


def configurations(deployment: Deployment) -> dict[str, str]:
    files = triton_files(deployment)
    return {path.split("/")[1]: text for path, text in files.items() if path.endswith("config.pbtxt")}


def test_brackets_close_and_names_agree(deployment: Deployment) -> None:
    for name, text in configurations(deployment).items():
        bare = re.sub(r'"[^"]*"', "", text)
        assert all(bare.count(one) == bare.count(other) for one, other in ("{}", "[]"))
        assert f'name: "{name}"\n' in text
        assert f"max_batch_size: {deployment.slots}" in text


def test_the_ensemble_joins_what_the_stages_have(deployment: Deployment) -> None:
    found = configurations(deployment)
    text = found["demo"]
    for step in text.split("model_name:")[1:]:
        stage = found[re.search(r'"(\w+)"', step).group(1)]  # type: ignore[union-attr]
        inputs, outputs = stage.split("output [")
        assert sorted(re.findall(r'input_map \{ key: "(\w+)"', step)) == sorted(
            re.findall(r'name: "([A-Z_]+)"', inputs)
        )
        assert re.findall(r'output_map \{ key: "(\w+)"', step) == re.findall(r'\{ name: "([A-Z_]+)"', outputs)


def test_tritons_own_format_reads_it(deployment: Deployment) -> None:
    config = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    for device, kind in (("cpu", "KIND_CPU"), ("cuda", "KIND_GPU")):
        parsed = {
            name: text_format.Parse(text, config.ModelConfig())
            for name, text in configurations(deployment.model_copy(update={"device": device})).items()
        }
        writer = parsed["demo_writer"]
        assert writer.backend == "python" and writer.parameters["MODEL"].string_value == "/model"
        assert writer.dynamic_batching.max_queue_delay_microseconds > 0
        assert writer.input[0].allow_ragged_batch
        assert writer.instance_group[0].kind == writer.instance_group[0].Kind.Value(kind)
        steps = parsed["demo"].ensemble_scheduling.step
        assert [step.model_name for step in steps] == ["demo_tokens", "demo_writer"]


class Tensor:
    def __init__(self, name: str, values: np.ndarray) -> None:
        self.name, self.values = name, values

    def as_numpy(self) -> np.ndarray:
        return self.values


@pytest.fixture
def stages(deployment: Deployment, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Both stages as Triton would start them, between stand-ins for its own types."""
    utils = ModuleType("triton_python_backend_utils")
    utils.Tensor = Tensor  # type: ignore[attr-defined]
    utils.TritonError = str  # type: ignore[attr-defined]
    utils.InferenceResponse = lambda output_tensors=None, error=None: SimpleNamespace(  # type: ignore[attr-defined]
        tensors={one.name: one.values for one in output_tensors or ()}, error=error
    )
    utils.get_input_tensor_by_name = lambda request, name: Tensor(name, request[name])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    started = {}
    for stage in ("tokens", "writer"):
        names: dict[str, Any] = {}
        exec(compile(triton_files(deployment)[f"models/demo_{stage}/1/model.py"], stage, "exec"), names)
        model = names["TritonPythonModel"]()
        settings = json.dumps({"parameters": {"MODEL": {"string_value": str(tiny)}}})
        model.initialize({"model_config": settings, "model_instance_kind": "CPU"})
        started[stage] = model
    return SimpleNamespace(**started)


def column(values: list[Any], kind: Any) -> np.ndarray:
    return np.array(values, dtype=kind).reshape(-1, 1)


def ask(stages: Any, groups: list[list[str]], temperature: float = 0.0) -> list[Any]:
    """Runs requests of several rows each through both stages, one call a stage."""
    asked = [{"PROMPT": column([text.encode() for text in texts], object)} for texts in groups]
    between = stages.tokens.execute(asked)
    requests = [
        {
            "TOKENS": response.tensors["TOKENS"],
            "MAX_TOKENS": column([8] * len(texts), np.int32),
            "TEMPERATURE": column([temperature] * len(texts), np.float32),
            "SEED": column([7] * len(texts), np.int64),
        }
        for response, texts in zip(between, groups, strict=True)
    ]
    return stages.writer.execute(requests)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_answer_of_a_batch_is_the_one_it_gets_alone(
    stages: Any, tiny: Path, temperature: float
) -> None:
    together = ask(stages, [PROMPTS[:1], PROMPTS[1:]], temperature)
    made = [text for response in together for text in response.tensors["ANSWER"].reshape(-1)]
    model = ingot.load(tiny, device="cpu")
    alone = [model.generate(one, max_new_tokens=8, temperature=temperature, seed=7) for one in PROMPTS]
    assert [one.decode() for one in made] == alone
    assert together[1].tensors["ANSWER"].shape == (3, 1)


def test_what_cannot_be_answered_spoils_no_other(stages: Any) -> None:
    response, other = ask(stages, [["a" * 2000], ["a"]])
    assert "context" in response.error and other.error is None
    (bad,) = stages.tokens.execute([{"PROMPT": column([b"\xff"], object)}])
    assert "UTF-8" in bad.error
    wrong = {"TOKENS": np.array([[10**6]]), "MAX_TOKENS": column([1], np.int32)}
    wrong |= {"TEMPERATURE": column([0], np.float32), "SEED": column([1], np.int64)}
    assert "token ids go from 0" in stages.writer.execute([wrong])[0].error
