"""`serve`: from folders to a server that listens, until it is told to end."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ingot.allocator import share_heaps
from ingot.errors import ArtifactError, ConfigError
from ingot.inference.locate import locate
from ingot.record import read
from ingot.serve.keys import KEY_VARIABLE, Keys
from ingot.serve.life import Life
from ingot.serve.limits import Limits
from ingot.serve.listen import LOOPBACK, listen, make_server, url_of
from ingot.serve.routing import Routing, check_names

if TYPE_CHECKING:
    from ingot.serve.metrics import Metrics
    from ingot.serve.models import Models


COMPILE_SECONDS = 1.0
"""How long a start may wait for the compiled step; when it takes longer, it is taken up while serving."""


class Source(NamedTuple):
    """A model to be served: its folder, and the name that it gets; None is the model's own."""

    folder: Path
    name: str | None = None


class AdapterSource(NamedTuple):
    """An adapter to be served: its name, its folder, and the model below it; None is the first."""

    name: str
    folder: Path
    base: str | None = None


def read_source(text: str, model: str | None = None) -> Source:
    """Reads `DIR` or `NAME=DIR`; a run folder stands for its best model.

    Raises:
        ArtifactError: nothing there that can be served.
    """
    name, equals, folder = text.partition("=")
    if equals and not Path(text).exists() and re.fullmatch(r"[\w.@/-]{1,100}", name):
        return Source(locate(folder, model), name)
    return Source(locate(text, model))


def read_adapter(text: str) -> AdapterSource:
    """Reads `NAME=DIR` or `MODEL:NAME=DIR`.

    Raises:
        ConfigError: a text of another form.
    """
    name, equals, folder = text.partition("=")
    base, colon, own = name.rpartition(":")
    if not (equals and folder and own):
        raise ConfigError(f"'{text}' cannot be read", where="--adapter", fix="write NAME=DIR")
    return AdapterSource(own, Path(folder), base if colon else None)


def serve(
    sources: Sequence[Source],
    *,
    routing: Routing | None = None,
    adapters: Sequence[AdapterSource] = (),
    keys: Keys | None = None,
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str | None = None,
    pooling: str | None = None,
    engine: Mapping[str, Any] | None = None,
    prompts: Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Serves models until it is told to end (Ctrl-C or SIGTERM).

    It listens at once and loads then: until that is done it says that it is not ready.

    Args:
        sources: folders; the first model is meant where a request names none.
        routing: what other names mean.
        adapters: on the models.
        keys: who may ask; None lets everyone in.
        limits: how much to take on.
        host: address to listen on.
        port: 0 takes a free one.
        device: where to compute; None takes CUDA where there is one.
        pooling: 'mean', 'first' or 'last', for vectors of models that were not made for them.
        engine: settings of `Engine` that decoders get.
        prompts: a file that gets all prompts and answers; None writes none down.
        say: told the address, and what is worth knowing about it.

    Raises:
        ArtifactError: nothing there that can be served.
        ConfigError: names that lead nowhere, or prompts that cannot be written down.
        BusyError: the port is in use.
        RequestError: an address that cannot be listened on.
    """
    share_heaps()
    limits, keys, routing, life = limits or Limits(), keys or Keys(), routing or Routing(), Life()
    with listen(host, port) as socket:
        from ingot.serve.app import create_app
        from ingot.serve.metrics import Metrics
        from ingot.serve.models import Models
        from ingot.serve.prompt_log import PromptLog

        local = host in LOOPBACK
        url = url_of(socket, host)
        models = Models(routing, None if prompts is None else PromptLog(prompts))
        metrics = Metrics()

        def load() -> None:
            fill(models, metrics, sources, adapters, limits, routing, device, pooling, engine)
            names = ", ".join(models.loaded)
            say(f"serving {names}: chat at {url}, OpenAI's API at {url}/v1 (Ctrl-C ends it)")
            if not local and not len(keys):
                say(f"anyone who reaches this machine can use it: set {KEY_VARIABLE} to ask for a key")
            if prompts is not None:
                say(f"prompts and answers are written to {prompts}")

        app = create_app(models, metrics=metrics, limits=limits, keys=keys, life=life, load=load, local=local)
        make_server(app, limits, life).run(sockets=[socket])
    if life.failure is not None:
        raise life.failure


def fill(
    models: Models,
    metrics: Metrics,
    sources: Sequence[Source],
    adapters: Sequence[AdapterSource] = (),
    limits: Limits | None = None,
    routing: Routing | None = None,
    device: str | None = None,
    pooling: str | None = None,
    engine: Mapping[str, Any] | None = None,
) -> None:
    """Loads what is to be served.

    Raises:
        ArtifactError: a folder that cannot be loaded.
        ConfigError: names that lead nowhere, or two models of one name.
    """
    from ingot.inference.ingot import load
    from ingot.serve.models import serve_model

    routing = routing or Routing()
    names = [source.name or _name_of(source.folder) for source in sources]
    check_names(routing, [*names, *(adapter.name for adapter in adapters)])  # before anything is loaded
    heard = {*routing.aliases.values(), *(name for split in routing.splits.values() for name in split)}
    overheard = {target for target, _ in routing.shadows.values()} - heard
    settings = {"wait": COMPILE_SECONDS, **(engine or {})}
    for number, (source, name) in enumerate(zip(sources, names, strict=True)):
        model = load(source.folder, device=device, **settings)
        quiet = number > 0 and name in overheard
        models.add(serve_model(model, limits or Limits(), metrics, name, pooling, quiet))
    for adapter in adapters:
        models.add_adapter(adapter.name, adapter.folder, adapter.base)
    models.check()


def _name_of(folder: Path) -> str:
    """A model's own name, as `Ingot.name` and `Embedder.name` tell it."""
    try:
        return read(folder).address
    except ArtifactError:
        return folder.resolve().name
