"""BentoML, Ray Serve, vLLM and KServe: files that load, services that answer as the model does."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

import ingot
from ingot.deploy.answering import answers
from ingot.deploy.folder import deploy_folder
from ingot.deploy.kserve import kserve_files
from ingot.deploy.settings import MODEL_AT, Deployment
from ingot.deploy.vllm import vllm_files
from ingot.errors import ConfigError, RequestError

ASKED = [{"prompt": one, "max_new_tokens": 6, "temperature": 0.0} for one in ("def add(", "Hello", "a + b")]


@pytest.fixture(scope="module")
def alone(tiny: Path) -> list[str]:
    model = ingot.load(tiny, device="cpu")
    return [model.generate(**one) for one in ASKED]


def loaded(path: Path, name: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__file__": str(path), "__name__": name}
    module = ModuleType(name)
    module.__dict__.update(names)
    sys.modules[name] = module  # pydantic looks the module of a class up
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module.__dict__


def test_many_at_once_are_answered_as_alone(tiny: Path, alone: list[str]) -> None:
    model = ingot.load(tiny, device="cpu")
    asked = [
        *ASKED,
        {"prompt": "x" * 4000},
        {"prompt": "x", "temperature": float("nan")},
        {"prompt": "x", "temprature": 1},
        {"prompt": [1, -1]},
    ]
    made = answers(model, asked)
    assert made[:3] == alone
    assert [type(one) for one in made[3:]] == [RequestError, ConfigError, ConfigError, RequestError]
    assert "temperature" in str(made[5])
    assert answers(model, []) == []


def test_bentoml_service_answers(
    tiny: Path, tmp_path: Path, alone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = ModuleType("bentoml")
    settings: dict[str, Any] = {}
    stand_in.service = lambda **given: settings.update(given) or (lambda cls: cls)  # type: ignore[attr-defined]
    stand_in.api = lambda **given: settings.update(given) or (lambda method: method)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bentoml", stand_in)
    deploy_folder(tiny, "bentoml", tmp_path / "out")
    names = loaded(tmp_path / "out" / "service.py", "bento_service_of_a_test")
    made = names["Served"]().generate(
        [names["Ask"](**one) for one in ASKED] + [names["Ask"](prompt="x" * 4000)]
    )
    assert [one.text for one in made[:3]] == alone
    assert "context" in made[3].error and settings["max_batch_size"] == 16
    packed = yaml.safe_load((tmp_path / "out" / "bentofile.yaml").read_text())
    assert packed["service"] == "service:Served"
    assert all((tmp_path / "out" / name).is_file() for name in packed["include"])
    assert (tmp_path / "out" / packed["python"]["requirements_txt"]).is_file()


def test_bentoml_itself_takes_the_service(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("bentoml")
    deploy_folder(tiny, "bentoml", tmp_path / "out")
    program = "import service; print(sorted(service.Served.apis), service.Served.apis['generate'].batchable)"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "out", capture_output=True, text=True, timeout=300
    )
    assert "['generate'] True" in ended.stdout, ended.stderr


@pytest.fixture
def ray_app(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def batch(**given: Any) -> Any:
        def around(method: Any) -> Any:
            async def one(self: Any, asked: Any) -> Any:
                return (await method(self, [asked]))[0]

            return one

        return around

    def deployment(**given: Any) -> Any:
        def around(cls: Any) -> Any:
            cls.bind = classmethod(lambda self: self)
            return cls

        return around

    serve = SimpleNamespace(batch=batch, deployment=deployment)
    ray = ModuleType("ray")
    ray.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    deploy_folder(tiny, "ray", tmp_path / "out")
    return loaded(tmp_path / "out" / "service.py", "ray_service_of_a_test")["app"]()


def posted(app: Any, body: bytes, length: str | None = None) -> tuple[int, Any]:
    from starlette.requests import Request

    headers = [(b"content-length", (length or str(len(body))).encode())]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    response = asyncio.run(app(request))
    return response.status_code, json.loads(response.body)


def test_ray_application_answers(ray_app: Any, alone: list[str]) -> None:
    assert [posted(ray_app, json.dumps(one).encode()) for one in ASKED] == [
        (200, {"text": text}) for text in alone
    ]


@pytest.mark.parametrize(
    "body", [b"{", b"\xff", b"[]", b"{}", b'{"prompt": 1}', b'{"prompt": "a", "top": 1}']
)
def test_ray_application_refuses_with_a_reason(ray_app: Any, body: bytes) -> None:
    status, told = posted(ray_app, body)
    assert status == 400 and told["error"]


def test_ray_application_reads_no_endless_body(ray_app: Any) -> None:
    assert posted(ray_app, b"{}", length=str(2**30))[0] == 413


def test_ray_settings_name_what_the_file_holds(tiny: Path, tmp_path: Path) -> None:
    deploy_folder(tiny, "ray", tmp_path / "out", {"device": "cuda", "max_replicas": 7})
    settings = yaml.safe_load((tmp_path / "out" / "serve.yaml").read_text())
    (application,) = settings["applications"]
    (served,) = application["deployments"]
    module, _, variable = application["import_path"].partition(":")
    text = (tmp_path / "out" / f"{module}.py").read_text()
    assert f"\n{variable} = " in text and f'serve.deployment(name="{served["name"]}")' in text
    assert served["autoscaling_config"]["max_replicas"] == 7
    assert served["ray_actor_options"]["num_gpus"] == 1
    assert served["autoscaling_config"]["target_ongoing_requests"] <= served["max_ongoing_requests"]


def test_vllm_gets_the_folder_as_it_is(deployment: Deployment) -> None:
    files = vllm_files(deployment)
    settings = yaml.safe_load(files["vllm.yaml"])
    assert settings["model"] == "/srv/models/demo" and settings["max-model-len"] == 512
    assert settings["host"] == "127.0.0.1" and settings["served-model-name"] == ["demo"]
    assert "api-key" not in settings and "trust-remote-code" not in settings
    unknown = deployment.model_copy(update={"context": None})
    assert "max-model-len" not in yaml.safe_load(vllm_files(unknown)["vllm.yaml"])


def test_vllm_does_not_start_without_a_key(model: Path, tmp_path: Path) -> None:
    deploy_folder(model, "vllm", tmp_path / "out")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "vllm").write_text('#!/bin/sh\necho "$PWD" "$@"\n')
    (programs / "vllm").chmod(0o755)
    start, path = str(tmp_path / "out" / "start.sh"), f"{programs}:/usr/bin:/bin"
    ended = subprocess.run([start], env={"PATH": path}, capture_output=True, text=True)
    assert ended.returncode != 0 and "VLLM_API_KEY" in ended.stderr
    given = {"PATH": path, "VLLM_API_KEY": "k"}
    ended = subprocess.run([start, "--seed", "1"], env=given, capture_output=True, text=True)
    assert ended.stdout.split() == [str(tmp_path / "out"), *["serve", "--config", "vllm.yaml", "--seed", "1"]]


def test_kserve_runs_our_server_or_its_own_runtime(deployment: Deployment) -> None:
    files = {name: yaml.safe_load(text) for name, text in kserve_files(deployment).items()}
    for manifest in files.values():
        assert (manifest["apiVersion"], manifest["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
        predictor = manifest["spec"]["predictor"]
        assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 20)
        external = predictor["autoScaling"]["metrics"][0]["external"]
        assert 'job="demo-predictor"' in external["metric"]["query"]
    own = files["inferenceservice.yaml"]["spec"]["predictor"]
    (serving,) = own["containers"]
    assert serving["name"] == "kserve-container" and serving["args"] == deployment.arguments(MODEL_AT)
    assert {one["name"] for one in serving["volumeMounts"]} == {one["name"] for one in own["volumes"]}
    runtime = files["inferenceservice-huggingface.yaml"]["spec"]["predictor"]["model"]
    assert runtime["storageUri"] == "pvc://demo-model" and "--max_model_len=512" in runtime["args"]


def test_kserves_pod_fits_kubernetes_schema(deployment: Deployment) -> None:
    """All of a custom predictor but its scaling is a pod's specification."""
    checker = pytest.importorskip("kubernetes_validate")
    predictor = yaml.safe_load(kserve_files(deployment)["inferenceservice.yaml"])["spec"]["predictor"]
    spec = {
        key: value
        for key, value in predictor.items()
        if key not in ("minReplicas", "maxReplicas", "autoScaling")
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "demo"}, "spec": spec}
    checker.validate(pod, checker.latest_version(), strict=True)
