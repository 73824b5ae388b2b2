"""vLLM: the same folder, which it reads as it is; a file of arguments and the command."""

from __future__ import annotations

from typing import Any

from ingot.config import write_yaml
from ingot.deploy.settings import Deployment

_START = """\
#!/bin/sh
# Serves the model with vLLM, on loopback. Clients send the key in VLLM_API_KEY, which has to be set.
set -eu
: "${VLLM_API_KEY:?set it to the key that clients send}"
export HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1
cd "$(dirname "$0")"
exec vllm serve --config vllm.yaml "$@"
"""


def vllm_files(deployment: Deployment) -> dict[str, str]:
    """Returns the arguments and a script that starts vLLM with them.

    The weights' type, quantization and chat template stand in the model's folder, where vLLM reads them.
    """
    arguments: dict[str, Any] = {
        "model": deployment.source,
        "served-model-name": [deployment.name],
        "host": "127.0.0.1",
        "port": deployment.port,
        "max-num-seqs": deployment.slots,
        "generation-config": "auto",
    }
    if deployment.context is not None:
        arguments["max-model-len"] = deployment.context
    return {"vllm.yaml": write_yaml(arguments), "start.sh": _START}
