"""Several models: names, cards with lineage, splits that stick, shadows that nobody hears, adapters."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import save_file
from servers import Running, running, until

from ingot.artifact import write_record
from ingot.errors import ConfigError
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.ingot import load
from ingot.models import huggingface
from ingot.serve.limits import Limits
from ingot.serve.metrics import Metrics
from ingot.serve.models import Models, serve_model
from ingot.serve.protocol import ApiError
from ingot.serve.routing import Routing
from ingot.serve.serving import AdapterSource, Source, read_adapter, read_source

CHAT = "/v1/chat/completions"
ASK = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0}


@pytest.fixture(scope="module")
def second(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first model with other weights, and a record."""
    path = tmp_path_factory.mktemp("other") / "base@3"
    shutil.copytree(folder, path)
    model = huggingface.load(path, dtype=torch.float32)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    huggingface.save(path, model)
    write_record(path, kind="model", name="base", version=3, stage="pretrain")
    return path


ROUTING = Routing(
    aliases={"chat": "base@3"},
    splits={"ab": {"aligned@1": 0.5, "chat": 0.5}},
    shadows={"aligned@1": ("base@3", 1.0)},
)


@pytest.fixture(scope="module")
def two(folder: Path, second: Path) -> Iterator[Running]:
    with running(folder, others=[Source(second), Source(folder, "named")], routing=ROUTING) as started:
        yield started


def ask(server: Running, **change: object) -> dict:
    response = httpx.post(server.url + CHAT, json=ASK | change)
    assert response.status_code == 200, response.text
    return response.json()


def said(answer: dict) -> str:
    return answer["choices"][0]["message"]["content"]


def test_each_name_is_its_model(two: Running, folder: Path, second: Path) -> None:
    messages = ASK["messages"]
    texts = [load(path).chat(messages, max_new_tokens=8, temperature=0) for path in (folder, second)]
    assert texts[0] != texts[1]
    for name, model, text in (
        (None, "aligned@1", texts[0]),
        ("aligned@1", "aligned@1", texts[0]),
        ("aligned", "aligned@1", texts[0]),
        ("named", "named", texts[0]),
        ("base@3", "base@3", texts[1]),
        ("base", "base@3", texts[1]),
        ("chat", "base@3", texts[1]),
    ):
        answer = ask(two, model=name)
        assert (answer["model"], said(answer)) == (model, text), name


def test_unknown_models_are_404_with_those_that_there_are(two: Running) -> None:
    for name in ("nothing", "aligned@2", "", "x" * 5000, "../base@3"):
        response = httpx.post(two.url + CHAT, json=ASK | {"model": name})
        assert response.status_code == 404 and len(response.text) < 1000
        error = response.json()["error"]
        assert error["code"] == "model_not_found" and "'base@3'" in error["message"]
    assert httpx.get(two.url + "/v1/models/nothing").status_code == 404


def test_cards_tell_lineage_context_and_kind(two: Running, second: Path) -> None:
    cards = httpx.get(two.url + "/v1/models").json()["data"]
    assert [card["id"] for card in cards] == ["aligned@1", "base@3", "named", "chat", "ab"]
    record = json.loads((second / "artifact.json").read_text())
    by_name = {card["id"]: card for card in cards}
    assert by_name["base@3"]["fingerprint"] == by_name["chat"]["fingerprint"] == record["fingerprint"]
    assert by_name["aligned@1"]["fingerprint"] is None  # this folder has no record
    assert by_name["chat"]["root"] == "base@3"
    assert by_name["ab"]["weights"] == {"aligned@1": 0.5, "chat": 0.5}
    for card in cards:
        assert card["object"] == "model" and isinstance(card["created"], int) and card["owned_by"]
        assert card["context"] == 512 and card["kind"] == "decoder"
        assert httpx.get(f"{two.url}/v1/models/{card['id']}").json() == card


def test_a_split_sticks_to_its_user_and_says_who_answered(two: Running) -> None:
    models = [ask(two, model="ab", user=f"user{number}", max_tokens=1)["model"] for number in range(24)]
    assert set(models) == {"aligned@1", "base@3"}
    again = [ask(two, model="ab", user=f"user{number}", max_tokens=1)["model"] for number in range(24)]
    assert again == models


def test_a_shadow_answers_too_and_nobody_hears_it(folder: Path, second: Path) -> None:
    routing = Routing(shadows={"aligned@1": ("base@3", 1.0)})
    with running(folder) as alone:
        expected = [said(ask(alone, temperature=1, seed=seed)) for seed in range(4)]
    with running(folder, others=[Source(second)], routing=routing) as server:
        shadow = server.models.loaded["base@3"]
        seen: list[list[int]] = []
        submit = shadow.ingot.engine.submit
        shadow.ingot.engine.submit = lambda prompt, *rest, **more: (
            seen.append(prompt) or submit(prompt, *rest, **more)
        )
        assert [said(ask(server, temperature=1, seed=seed)) for seed in range(4)] == expected
        until(lambda: len(seen) == 4 and shadow.worker.taken == 0)
        assert seen[0] == server.ingot.encode(ASK["messages"])
        shadow.worker.capacity = (
            0  # full: what does not fit is dropped, and the main answer comes all the same
        )
        assert said(ask(server, temperature=1, seed=0)) == expected[0]
        shadow.worker.capacity = 100
        stuck = threading.Event()
        shadow.ingot.engine.step = lambda: stuck.wait(5) and []
        assert said(ask(server, temperature=1, seed=1)) == expected[1]  # nor does a shadow that hangs
        stuck.set()


def test_a_shadow_with_another_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text + " ")
    routing = Routing(shadows={"aligned@1": ("other", 0.5)})
    with (
        pytest.raises(ConfigError, match="another tokenizer"),
        running(folder, others=[Source(other)], routing=routing),
    ):
        pass


def test_two_models_of_one_name_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="NAME=DIR"), running(folder, others=[Source(folder)]):
        pass


def test_sources_are_read(folder: Path, tmp_path: Path) -> None:
    assert read_source(str(folder)) == Source(folder)
    assert read_source(f"mine={folder}") == Source(folder, "mine")
    odd = tmp_path / "a=b"
    shutil.copytree(folder, odd)
    assert read_source(str(odd)) == Source(odd)
    assert read_adapter("law=adapters/law")[::2] == ("law", None)
    assert read_adapter("base@3:law=adapters/law").base == "base@3"
    for text in ("law", "law=", "=dir", "base:=dir"):
        with pytest.raises(ConfigError):
            read_adapter(text)


def test_an_adapter_is_a_model_of_its_own(folder: Path, tmp_path: Path) -> None:
    loaded: list[tuple[str, Path]] = []
    model = load(folder)
    model.engine.load_adapter = lambda name, path: loaded.append((name, path))
    models = Models(Routing(aliases={"lawyer": "law"}))
    models.add(serve_model(model, Limits(), Metrics()))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    models.add_adapter("law", tmp_path)
    models.check()
    assert loaded == [("law", tmp_path)]
    for name in ("law", "lawyer"):
        served = models.find(name)
        assert (served.name, served.adapter, served.ingot) == ("law", "law", model)
    assert models.find(None).adapter is None
    card = models.card("law")
    assert card["parent"] == "aligned@1" and len(card["fingerprint"]) == 64
    assert models.card("lawyer")["root"] == "law"
    with pytest.raises(ConfigError, match="something else"):
        models.add_adapter("law", tmp_path)
    with pytest.raises(ConfigError, match="no model"):
        models.add_adapter("tax", tmp_path, "nothing")
    with pytest.raises(ApiError):
        models.find("tax")


def test_an_adapter_answers_as_the_engine_with_it_does(second: Path, tmp_path: Path) -> None:
    base = load(second)
    generator = torch.Generator().manual_seed(3)
    factors = {}
    names = huggingface.weight_names(base.model.config)
    for name, weight in base.model.named_parameters():
        theirs = names.get(name, "").removesuffix(".weight")
        if theirs.endswith(("q_proj", "down_proj")):
            for side, shape in (("A", (4, weight.shape[1])), ("B", (weight.shape[0], 4))):
                key = f"base_model.model.{theirs}.lora_{side}.weight"
                factors[key] = torch.randn(shape, generator=generator) * 1.5
    save_file(factors, tmp_path / "adapter_model.safetensors")
    keys = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(keys))
    base.engine.load_adapter("law", tmp_path)
    prompt = base.encode(ASK["messages"])
    expected = []
    for adapter in (None, "law"):
        request = base.engine.submit(
            prompt, Sampling(max_new_tokens=24, temperature=1, seed=5), base.stop_ids, adapter=adapter
        )
        expected.append("".join(base.engine.follow(request)))
    assert expected[0] != expected[1]
    with running(second, adapters=[AdapterSource("law", tmp_path)]) as server:
        settings = {"max_tokens": 24, "temperature": 1, "seed": 5}
        answers = [ask(server, model=name, **settings) for name in ("base@3", "law")]
        assert [said(answer) for answer in answers] == expected
        assert [answer["model"] for answer in answers] == ["base@3", "law"]
        assert "law" in [card["id"] for card in httpx.get(server.url + "/v1/models").json()["data"]]
