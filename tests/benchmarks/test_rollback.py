"""The rollback drill: who answers when, what becomes of answers under way, what a bad version looks like."""

import asyncio
import json
import shlex
import sys
from pathlib import Path

import pytest
from fakes import Behaviour, fake

from ingot.bench.load import LoadConfig
from ingot.bench.rollback import rollback
from ingot.bench.switch import switched
from ingot.bench.wire import Server
from ingot.errors import ConfigError, ResourceError
from ingot.progress import Progress

VERSION = '''
"""A version of a server: it takes a while to start, writes down what it is asked, and drains at SIGTERM."""
import signal, sys, threading, time
from http.server import ThreadingHTTPServer
from fakes import Behaviour, Handler

port, notes, loading, broken = int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4:] == ["broken"]

class Version(Behaviour):
    first_seconds = 0.1
    gap_seconds = 0.02
    def before(self, handler, body):
        with self.lock, open(notes, "a") as file:
            file.write(f"{time.monotonic()}\\n")
        return True

class Draining(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 64

time.sleep(loading)
server = Draining(("127.0.0.1", port), type("Bound", (Handler,), {"behaviour": Version()}))
ending = lambda *_: threading.Thread(target=server.shutdown).start()
signal.signal(signal.SIGTERM, ending)
server.serve_forever(poll_interval=0.02)
server.server_close()  # waits for the answers under way
sys.exit(3 if broken else 0)
'''


def version(folder: Path, name: str, loading: float = 0.0, *words: str) -> str:
    script = folder / "version.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + VERSION)
    return shlex.join([sys.executable, str(script), "{port}", str(folder / name), str(loading), *words])


def asked(folder: Path, name: str) -> list[float]:
    return [float(line) for line in (folder / name).read_text().split()]


LOAD = LoadConfig(rate=20, output_tokens=4, warm_up=1)


def test_no_request_is_lost_on_the_way_back(tmp_path: Path) -> None:
    former, present = version(tmp_path, "former", 0.3), version(tmp_path, "present")
    drill = rollback(former, present, LOAD, Progress(), before=0.6, after=0.6, deadline=60)
    assert drill.status == 0
    assert 0.3 <= drill.ready <= drill.switched < drill.ended
    assert drill.report.errors() == {}
    assert drill.passed(limit=drill.ended)
    assert not drill.passed(limit=drill.ended - 0.01)
    old, new = asked(tmp_path, "former"), asked(tmp_path, "present")
    assert max(new) < min(old) + 0.5  # what was on its way when the switch moved
    assert len(old) > 5 and len(new) > 5
    assert len(old) + len(new) == len(drill.report.samples) + 3 + 1  # probes and the warm-up
    json.dumps(drill.plain(), allow_nan=False)


def test_a_version_that_ends_badly_fails_the_drill(tmp_path: Path) -> None:
    former, present = version(tmp_path, "former"), version(tmp_path, "present", 0.0, "broken")
    drill = rollback(former, present, LOAD, Progress(), before=0.2, after=0.1, deadline=60)
    assert drill.status == 3
    assert not drill.passed(limit=1000)


def test_a_former_version_that_does_not_start_is_told_while_the_present_one_answers(tmp_path: Path) -> None:
    dead = shlex.join([sys.executable, "-c", "raise SystemExit(5)", "{port}"])
    with pytest.raises(ResourceError, match="ended at once with 5"):
        rollback(dead, version(tmp_path, "present"), LOAD, Progress(), before=0.1, after=0, deadline=60)
    with pytest.raises(ConfigError, match="port"):
        rollback("true", "true", LOAD, Progress())


def test_a_switch_leaves_connections_where_they_went() -> None:
    """A stream that began before the switch goes on from the server that began it."""

    class Slow(Behaviour):
        gap_seconds = 0.1

    class Deaf(Behaviour):
        tokens = 0

    async def play(first: str, second: str) -> None:
        ask = {
            "model": "fake",
            "messages": [{"role": "user", "content": "a"}],
            "stream": True,
            "max_tokens": 4,
        }
        async with switched(Server.at(first)) as switch:
            running = asyncio.create_task(switch.server.post("/v1/chat/completions", ask))
            await asyncio.sleep(0.15)
            switch.target = Server.at(second)
            after = await switch.server.post("/v1/chat/completions", ask)
            before = await running
            assert before.body.count(b'"content": "x"') == 4
            assert after.body.count(b'"content": "x"') == 0
            assert after.body.endswith(b"data: [DONE]\n\n")

    with fake(Slow()) as first, fake(Deaf()) as second:
        asyncio.run(play(first, second))


@pytest.mark.slow
def test_two_servers_of_ours(tmp_path: Path) -> None:
    import shutil

    from ingot.models import huggingface
    from ingot.models.decoder import DecoderConfig
    from ingot.tokenizer import Tokenizer

    folders = [tmp_path / "model@1", tmp_path / "model@2"]
    folders[0].mkdir()
    tokenizer = Tokenizer.train(["the house on a hill was cold and every door of it stood open " * 20], 300)
    tokenizer.save(folders[0])
    sizes = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "head_width": 8, "feed_forward": 64}
    config = DecoderConfig(vocabulary=tokenizer.vocab_size, context=512, **sizes)
    huggingface.save(folders[0], config.build(seed=0))
    shutil.copytree(folders[0], folders[1])
    former, present = (
        shlex.join([sys.executable, "-m", "ingot", "serve", f"chat={folder}", "--port", "{port}"])
        for folder in folders
    )
    drill = rollback(former, present, LoadConfig(rate=4, output_tokens=8), Progress())
    assert drill.report.errors() == {}
    assert drill.passed(limit=drill.ended)
