"""Triton: a repository of two stages and the ensemble that joins them, batched as requests come."""

from __future__ import annotations

from importlib import resources

from ingot.deploy.settings import MODEL_AT, Deployment

DELAY_MICROSECONDS = 5000
"""How long the first request of a batch waits for company."""

_ASKED = (("MAX_TOKENS", "TYPE_INT32"), ("TEMPERATURE", "TYPE_FP32"), ("SEED", "TYPE_INT64"))
"""What comes with each prompt, one number each."""


def template(name: str) -> str:
    """Returns a file of `templates/` as it stands."""
    return resources.files("ingot.deploy").joinpath("templates", f"{name}.py.txt").read_text(encoding="utf-8")


def triton_files(deployment: Deployment) -> dict[str, str]:
    """Returns a model repository for `tritonserver --model-repository`, the model mounted at /model.

    `NAME_tokens` and `NAME_writer` are Python models, `NAME` the ensemble that clients call with
    PROMPT, MAX_TOKENS, TEMPERATURE and SEED; the answer is ANSWER.
    """
    name = deployment.name
    tokens, writer = f"{name}_tokens", f"{name}_writer"
    kind = "KIND_GPU" if deployment.device == "cuda" else "KIND_CPU"
    asked = [_tensor(one, data, "1") for one, data in _ASKED]
    first = _python(
        tokens,
        deployment.slots,
        [_tensor("PROMPT", "TYPE_STRING", "1")],
        [_tensor("TOKENS", "TYPE_INT32", "-1")],
        "KIND_CPU",
    )
    second = _python(
        writer,
        deployment.slots,
        [_tensor("TOKENS", "TYPE_INT32", "-1", ragged=True), *asked],
        [_tensor("ANSWER", "TYPE_STRING", "1")],
        kind,
    )
    return {
        f"models/{tokens}/config.pbtxt": first,
        f"models/{tokens}/1/model.py": template("triton_tokens"),
        f"models/{writer}/config.pbtxt": second,
        f"models/{writer}/1/model.py": template("triton_writer"),
        f"models/{name}/config.pbtxt": _ensemble(deployment, tokens, writer, asked),
        # Triton wants a version's folder of an ensemble too; a file keeps it where folders alone get lost.
        f"models/{name}/1/README.txt": "An ensemble has no file of its own.\n",
    }


def _tensor(name: str, data: str, dims: str, ragged: bool = False) -> str:
    more = " allow_ragged_batch: true" if ragged else ""
    return f'{{ name: "{name}" data_type: {data} dims: [ {dims} ]{more} }}'


def _listed(field: str, messages: list[str]) -> str:
    return f"{field} [\n  " + ",\n  ".join(messages) + "\n]\n"


def _python(name: str, most: int, inputs: list[str], outputs: list[str], kind: str) -> str:
    return (
        f'name: "{name}"\nbackend: "python"\nmax_batch_size: {most}\n'
        + _listed("input", inputs)
        + _listed("output", outputs)
        + f"instance_group [ {{ count: 1 kind: {kind} }} ]\n"
        + f"dynamic_batching {{ max_queue_delay_microseconds: {DELAY_MICROSECONDS} "
        + f"default_queue_policy {{ max_queue_size: {4 * most} }} }}\n"
        + f'parameters {{ key: "MODEL" value {{ string_value: "{MODEL_AT}" }} }}\n'
        + "version_policy { latest { num_versions: 1 } }\n"
    )


def _ensemble(deployment: Deployment, tokens: str, writer: str, asked: list[str]) -> str:
    def maps(way: str, names: list[str]) -> str:
        return "".join(f'      {way} {{ key: "{one}" value: "{one}" }}\n' for one in names)

    names = [name for name, _ in _ASKED]
    steps = (
        f'    {{\n      model_name: "{tokens}"\n      model_version: -1\n'
        + maps("input_map", ["PROMPT"])
        + maps("output_map", ["TOKENS"])
        + f'    }},\n    {{\n      model_name: "{writer}"\n      model_version: -1\n'
        + maps("input_map", ["TOKENS", *names])
        + maps("output_map", ["ANSWER"])
        + "    }\n"
    )
    return (
        f'name: "{deployment.name}"\nplatform: "ensemble"\nmax_batch_size: {deployment.slots}\n'
        + _listed("input", [_tensor("PROMPT", "TYPE_STRING", "1"), *asked])
        + _listed("output", [_tensor("ANSWER", "TYPE_STRING", "1")])
        + "ensemble_scheduling {\n  step [\n"
        + steps
        + "  ]\n}\n"
    )
