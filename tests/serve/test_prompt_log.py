"""The log of prompts: nothing without being asked for, all of them with it, and never a key."""

import json
import logging
import os
import stat
import threading
from pathlib import Path

import httpx
import pytest
from servers import running, slow_down, until

from ingot.errors import ConfigError
from ingot.serve import prompt_log
from ingot.serve.job import Job, Piece
from ingot.serve.keys import Keys
from ingot.serve.limits import Limits
from ingot.serve.prompt_log import PromptLog
from ingot.serve.protocol import ApiError
from ingot.serve.visits import log_to

KEY = "anne-0123456789abcdef"
WITH_KEY = {"authorization": f"Bearer {KEY}"}
SECRET = "a-secret-prompt"


class Letters:
    """A tokenizer whose tokens are letters."""

    def decode(self, tokens) -> str:
        return "".join(map(chr, tokens))


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def ended(log: PromptLog, job: Job, *pieces: Piece | ApiError, number: str = "n") -> None:
    log.follow(job, Letters(), number, "m")  # type: ignore[arg-type]
    for piece in pieces:
        for listener in job.listeners:
            listener(piece)


def job(*prompts: str, answers: int = 1) -> Job:
    made = Job()
    for prompt in prompts:
        tokens = list(map(ord, prompt))
        made.prompts += [tokens] * answers
    return made


def test_what_was_asked_and_answered_is_written_in_every_form(folder, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    with running(folder, keys=Keys({KEY: "anne"}), prompts=path) as server:
        chat = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 4, "temperature": 0}
        headers = {**WITH_KEY, "x-request-id": "my-own-id"}
        said = httpx.post(server.url + "/v1/chat/completions", json=chat, headers=headers).json()
        plain = {"prompt": [SECRET, "other"], "n": 2, "max_tokens": 4}
        both = httpx.post(server.url + "/v1/completions", json=plain, headers=WITH_KEY).json()
        with httpx.stream(
            "POST", server.url + "/v1/completions", json=plain | {"stream": True}, headers=WITH_KEY
        ) as stream:
            stream.read()
        response = {"input": SECRET, "max_output_tokens": 4}
        httpx.post(server.url + "/v1/responses", json=response, headers=WITH_KEY)
        refused = httpx.post(server.url + "/v1/chat/completions", json=chat)
        assert refused.status_code == 401
        read = server.ingot.tokenizer.decode(server.ingot.encode(chat["messages"]))
        until(lambda: len(lines(path)) == 6)
    found = lines(path)
    assert found[0]["id"] == "my-own-id"
    assert found[0]["model"] == said["model"] == "aligned@1"
    assert found[0]["prompt"] == read
    assert found[0]["answers"] == [
        {"text": choice["message"]["content"], "finish_reason": choice["finish_reason"]}
        for choice in said["choices"]
    ]
    assert [one["prompt"].endswith(text) for one, text in zip(found[1:3], plain["prompt"], strict=True)]
    assert [answer["text"] for one in found[1:3] for answer in one["answers"]] == [
        choice["text"] for choice in both["choices"]
    ]
    assert len({one["id"] for one in found}) == 4
    assert KEY not in path.read_text() and "uthorization" not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_without_it_nothing_of_a_prompt_reaches_a_disk_or_a_log(
    folder, tmp_path: Path, monkeypatch, caplog
) -> None:
    monkeypatch.chdir(tmp_path)
    access = tmp_path / "access.jsonl"
    log_to(access)
    try:
        with caplog.at_level(logging.DEBUG), running(folder, keys=Keys({KEY: "anne"})) as server:
            body = {"prompt": SECRET, "max_tokens": 4, "temperature": 0}
            answer = httpx.post(server.url + "/v1/completions", json=body, headers=WITH_KEY).json()
            httpx.post(server.url + "/v1/completions", json=body | {"n": 0}, headers=WITH_KEY)
            until(lambda: access.read_text().count("\n") == 2)
    finally:
        for handler in logging.getLogger("ingot.access").handlers:
            handler.close()
        logging.getLogger("ingot.access").handlers.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["access.jsonl"]
    ours = "".join(record.getMessage() for record in caplog.records if record.name.startswith("ingot"))
    for words in (SECRET, KEY, answer["choices"][0]["text"]):
        assert words not in access.read_text() + ours


def test_an_answer_whose_client_left_is_written_as_far_as_it_came(folder, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    with running(folder, Limits(drain_seconds=1), prompts=path) as server:
        slow_down(server)
        body = {"prompt": SECRET, "max_tokens": 400, "ignore_eos": True, "stream": True}
        with httpx.stream("POST", server.url + "/v1/completions", json=body) as stream:
            next(stream.iter_lines())
        until(lambda: path.stat().st_size > 0)
        assert lines(path)[0]["answers"][0]["finish_reason"] == "cancelled"
        assert SECRET in lines(path)[0]["prompt"]


def test_a_refusal_by_the_engine_is_an_answer_too(tmp_path: Path) -> None:
    log = PromptLog(tmp_path / "log")
    two = job("ab", "cd")
    ended(log, two, Piece(1, "x", [1], [0.0], "stop"), ApiError(503, "over"))
    log.close()
    assert [one["answers"] for one in lines(tmp_path / "log")] == [
        [{"text": "", "finish_reason": "error"}],
        [{"text": "x", "finish_reason": "stop"}],
    ]


def test_one_line_a_prompt_in_the_order_of_requests(tmp_path: Path) -> None:
    log = PromptLog(tmp_path / "log")
    many = job("a\n\u2028b", "ü", answers=2)
    done = [Piece(index, f"{index}\n", [1], [0.0], "length") for index in (3, 0, 2, 1)]
    ended(log, many, *done)
    ended(log, job("z"), Piece(0, "", [], [], "cancelled"), number="last")
    log.close()
    found = [json.loads(line) for line in (tmp_path / "log").read_text(encoding="utf-8").split("\n")[:-1]]
    assert [one["prompt"] for one in found] == ["a\n\u2028b", "ü", "z"]
    assert [[answer["text"] for answer in one["answers"]] for one in found] == [
        ["0\n", "1\n"],
        ["2\n", "3\n"],
        [""],
    ]
    assert [one["id"] for one in found] == ["n", "n", "last"]


def test_a_full_file_is_put_aside_and_no_line_is_lost_before_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = PromptLog(path, limit=1000)
    for number in range(30):
        ended(log, job("p" * 50), Piece(0, str(number), [1], [0.0], "stop"))
    log.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["log", "log.1"]
    for one in tmp_path.iterdir():
        assert stat.S_IMODE(one.stat().st_mode) == 0o600
        assert one.stat().st_size < 1200
    texts = [line["answers"][0]["text"] for name in ("log.1", "log") for line in lines(tmp_path / name)]
    assert texts == [str(number) for number in range(30)][-len(texts) :]
    assert len(texts) > 5


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    path.chmod(0o644)
    PromptLog(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "before\n"


def test_what_is_no_file_is_refused_at_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "no" / "log", tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ConfigError):
            PromptLog(path)


def test_a_disk_that_hangs_costs_bounded_memory(tmp_path: Path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(prompt_log, "WAITING", 3)
    log = PromptLog(tmp_path / "log")
    hangs, write = threading.Event(), log._file.write

    def slow(text: str) -> int:
        hangs.wait(20)
        return write(text)

    log._file.write = slow  # type: ignore[method-assign]
    for number in range(5):
        ended(log, job("p"), Piece(0, str(number), [1], [0.0], "stop"))
    hangs.set()
    log.close()
    assert [one["answers"][0]["text"] for one in lines(tmp_path / "log")] == ["0", "1", "2"]
    assert caplog.text.count("not logged") == 2


def test_a_disk_that_fails_is_told_and_harms_no_answer(tmp_path: Path, caplog) -> None:
    log = PromptLog(tmp_path / "log")
    told = threading.Event()

    def full(text: str) -> int:
        told.set()
        raise OSError(28, "No space left on device")

    log._file.write = full  # type: ignore[method-assign]
    ended(log, job("p"), Piece(0, "x", [1], [0.0], "stop"))
    assert told.wait(10)
    log.close()
    assert "prompts cannot be logged" in caplog.text and "No space" in caplog.text
