"""An attack by a server's own OpenAPI document: schemathesis makes up requests that it allows and forbids."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from ingot.bench.attack_cases import Case
from ingot.bench.attack_report import Group
from ingot.bench.wire import Head, Server

DOCUMENT = "/openapi.json"
METHODS = Case("any method", raw=b"")
"""Methods that HTTP does not know are among the requests: 501 is a lawful answer to those."""

PROGRAM = "from schemathesis.cli import schemathesis; schemathesis()"


async def by_document(server: Server, group: Group, examples: int, seed: int, deadline: float) -> None:
    """Sends what schemathesis makes of the document: allowed and forbidden data, and all boundary values.

    Args:
        server: whose document it is.
        group: gets what came of it.
        examples: requests for each operation besides those at boundaries, at most.
        seed: of what is made up.
        deadline: seconds within which each must be answered.
    """
    if importlib.util.find_spec("schemathesis") is None:
        return group.remark("schemathesis is not installed: its part was left out")
    if (await server.get(DOCUMENT)).status != 200:
        return group.remark(f"the server has no {DOCUMENT}: schemathesis was left out")
    scheme, name = "https" if server.secure else "http", f"{server.headers()['Host']}{server.path}"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.ndjson"
        words = [
            *(sys.executable, "-c", PROGRAM, "run", f"{scheme}://{name}{DOCUMENT}"),
            *("--mode", "all", "--phases", "coverage,fuzzing", "--continue-on-failure", "--no-shrink"),
            *("--checks", "not_a_server_error,negative_data_rejection", "--warnings", "off"),
            *("--max-examples", str(examples), "--seed", str(seed), "--request-timeout", f"{deadline:g}"),
            *("--suppress-health-check", "all", "--report-ndjson-path", str(report)),
            *(() if server.key is None else ("--header", f"Authorization: Bearer {server.key}")),
        ]
        process = await asyncio.create_subprocess_exec(
            *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=folder
        )
        said, _ = await process.communicate()
        if process.returncode not in (0, 1) or not report.is_file():
            return group.count("dropped", None, f"schemathesis failed: {said.decode()[-300:]}")
        for line in report.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            if "ScenarioFinished" in event:
                _count(event["ScenarioFinished"]["recorder"], group)
            elif "NonFatalError" in event or "FatalError" in event:
                group.remark(f"schemathesis: {line[:300]}")


def _count(recorder: dict[str, Any], group: Group) -> None:
    """Counts what came of the requests to one operation."""
    for number, exchange in recorder["interactions"].items():
        words = f"{recorder['label']}, made up: {_sent(exchange['request'])}"
        answer = exchange["response"]
        if answer is None:
            group.count("dropped", None, f"{words}: no answer in time")
            continue
        headers = {name.lower(): values[0] for name, values in answer["headers"].items()}
        group.count("answered", Head(answer["status_code"], headers), words, METHODS)
        failed = {
            check["name"] for check in recorder["checks"].get(number, ()) if check["status"] == "failure"
        }
        if "negative_data_rejection" in failed:
            group.outcomes["accepted"] += 1
            group.remark(f"{words}: {answer['status_code']} for what the document forbids")


def _sent(request: dict[str, Any]) -> str:
    body = (request.get("body") or {}).get("$base64", "")
    return f"{request['method']} {request['uri'][-60:]} {base64.b64decode(body)[:200]!r}"
