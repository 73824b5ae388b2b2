"""The models of a server: what is loaded, what each name means, and what one request talks to.

```
name -> [ split: weighted, sticky ] -> [ alias ] -> model or adapter -> Served -> its worker (-> its shadow)
```
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ingot.errors import ArtifactError, ConfigError
from ingot.inference.ingot import Ingot
from ingot.record import file_hash, read
from ingot.serve.idle import Idle
from ingot.serve.job import Job
from ingot.serve.limits import Limits
from ingot.serve.prompt_log import PromptLog
from ingot.serve.protocol import ApiError
from ingot.serve.routing import Routing, Split, check_names
from ingot.serve.visits import LONGEST, Visit
from ingot.serve.worker import SHADOW_NICENESS, Worker
from ingot.tokenizer import Tokenizer

if TYPE_CHECKING:
    from fastapi import Request

    from ingot.inference.embedding import Embedder
    from ingot.serve.metrics import Metrics

T = TypeVar("T")


@dataclass(eq=False)
class Loaded:
    """A model in memory, with the thread that owns it.

    Args:
        name: what clients call it.
        folder: where it came from.
        kind: 'decoder', 'linear-decoder', 'encoder-decoder' or 'encoder'.
        tokenizer: of the same folder.
        worker: owns the engine, or only the thread where nothing is written.
        ingot: writes; None where the model cannot.
        embedder: makes vectors; None where the model does not.
        card: what `/v1/models` says of it.
    """

    name: str
    folder: Path
    kind: str
    tokenizer: Tokenizer
    worker: Worker
    ingot: Ingot | None = None
    embedder: Embedder | None = None
    card: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Served:
    """What one request talks to.

    Args:
        name: what answers say as 'model'.
        loaded: the model.
        adapter: that answers in its place; None is the model itself.
        visit: the request that asks; None outside of one.
        shadow: also gets a share of its jobs; None gets none.
        share: of the jobs, from 0 to 1.
        prompts: where its jobs are written down; None where nobody wants that.
    """

    name: str
    loaded: Loaded
    adapter: str | None = None
    visit: Visit | None = None
    shadow: Loaded | None = None
    share: float = 0.0
    prompts: PromptLog | None = None

    @property
    def kind(self) -> str:
        """'decoder', 'linear-decoder', 'encoder-decoder' or 'encoder'."""
        return self.loaded.kind

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        return self.loaded.tokenizer

    @property
    def ingot(self) -> Ingot | None:
        """The model as it writes; None where it cannot."""
        return self.loaded.ingot

    @property
    def embedder(self) -> Embedder | None:
        """The model as it makes vectors; None where it does not. To be used through `call` only."""
        return self.loaded.embedder

    @property
    def worker(self) -> Worker | None:
        """Whose jobs answers are; None where the model does not write."""
        return self.loaded.worker if self.loaded.ingot is not None else None

    def submit(self, job: Job) -> None:
        """Hands over a job, and a copy of it to the shadow where it is its turn.

        Raises:
            ApiError: 429, too much is waiting already.
        """
        if self.visit is not None:
            job.listeners.append(self.visit.hear)
        if self.prompts is not None:
            number = None if self.visit is None else self.visit.number
            self.prompts.follow(job, self.tokenizer, number, self.name)
        self.loaded.worker.submit(job)
        self._count(sum({id(prompt): len(prompt) for prompt in job.prompts}.values()))
        if self.shadow is not None and random.random() < self.share:
            _overhear(job, self.shadow.worker)

    def cancel(self, job: Job) -> None:
        """Ends a job, if it has not ended by itself."""
        self.loaded.worker.cancel(job)

    async def call(self, work: Callable[..., T], *arguments: Any, tokens: int = 0) -> T:
        """Runs something in the thread that owns the model, between two steps.

        Args:
            work: the function.
            arguments: its arguments.
            tokens: that it reads, for quotas and the log.

        Raises:
            ApiError: 429, too much is waiting already.
        """
        self._count(tokens)
        return await self.loaded.worker.call(work, *arguments)

    def _count(self, tokens: int) -> None:
        if self.visit is not None:
            self.visit.model = self.name
            self.visit.read(tokens)


class Models:
    """All models of a server, by name. Filled first, used afterwards.

    Args:
        routing: what other names mean.
        prompts: where prompts and answers are written down; None writes none.
    """

    def __init__(self, routing: Routing | None = None, prompts: PromptLog | None = None) -> None:
        self.loaded: dict[str, Loaded] = {}  # the first one is meant where none is named
        self._routing = routing or Routing()
        self._prompts = prompts
        self._adapters: dict[str, tuple[Loaded, dict[str, Any]]] = {}

    def add(self, loaded: Loaded) -> None:
        """Adds a model.

        Raises:
            ConfigError: another one has its name.
        """
        if loaded.name in self.loaded:
            what = f"two models are called '{loaded.name}'"
            raise ConfigError(what, where=loaded.folder, fix="give one another name: NAME=DIR")
        self.loaded[loaded.name] = loaded

    def add_adapter(self, name: str, folder: Path, base: str | None = None) -> None:
        """Loads an adapter onto a model, to be asked for by a name of its own.

        Args:
            name: what clients call it.
            folder: as PEFT writes it.
            base: the model; None is the first.

        Raises:
            ConfigError: no such model, one that takes no adapters, or a name that is taken.
            ArtifactError: no adapter there, or none of this model.
        """
        loaded = self.loaded[self._model(base, "--adapter")]
        if name in self.loaded or name in self._adapters:
            raise ConfigError(
                f"'{name}' is the name of something else", where="--adapter", fix="choose another"
            )
        engine = None if loaded.ingot is None else loaded.ingot.engine
        load = getattr(engine, "load_adapter", None)
        if load is None:
            raise ConfigError(f"'{loaded.name}' takes no adapters", where="--adapter", fix="name a decoder")
        load(name, folder)
        weights = folder / "adapter_model.safetensors"
        fingerprint = file_hash(weights) if weights.exists() else None
        card = {**loaded.card, "id": name, "parent": loaded.name, "fingerprint": fingerprint}
        self._adapters[name] = (loaded, card)

    def check(self) -> None:
        """Looks whether every name leads to a model, and every shadow reads the tokens of whom it follows.

        Raises:
            ConfigError: otherwise.
        """
        check_names(self._routing, self.loaded.keys() | self._adapters.keys())
        for name, (target, _) in self._routing.shadows.items():
            pair = [self._found(one)[0].folder / "tokenizer.json" for one in (name, target)]
            if len({file_hash(path) for path in pair if path.exists()}) != 1:
                what = (
                    f"'{target}' has another tokenizer than '{name}', so it cannot read what that one reads"
                )
                raise ConfigError(what, where=f"--shadow {name}={target}", fix="shadow models that share one")

    @property
    def first(self) -> Loaded:
        """The model that is meant where none is named."""
        return next(iter(self.loaded.values()))

    def start(self) -> None:
        """Starts all threads; called in the event loop."""
        for loaded in self.loaded.values():
            loaded.worker.start()

    def fail(self, error: ApiError) -> None:
        """Ends all answers with an error."""
        for loaded in self.loaded.values():
            loaded.worker.fail(error)

    def stop(self) -> None:
        """Ends all threads."""
        for loaded in self.loaded.values():
            loaded.worker.stop()
        if self._prompts is not None:
            self._prompts.close()

    def find(self, wanted: str | None, request: Request | None = None, user: str | None = None) -> Served:
        """Returns what a request talks to.

        Args:
            wanted: the name that it asks for; None is the first model.
            request: of HTTP, with its visit.
            user: whom it says that it is for; with the key it decides about splits, so that the same user
                always gets the same model.

        Raises:
            ApiError: 404, no such model.
        """
        visit: Visit | None = getattr(request.state, "visit", None) if request is not None else None
        name = self.first.name if wanted is None else wanted
        if (weights := self._routing.splits.get(name)) is not None:
            split = Split(name, tuple(weights), tuple(weights.values()))
            name = split.pick(visit.caller(user) if visit is not None else user)
        name = self._routing.aliases.get(name, name)
        loaded, adapter = self._found(name)
        shadow = self._routing.shadows.get(adapter or loaded.name)
        return Served(
            name=adapter or loaded.name,
            loaded=loaded,
            adapter=adapter,
            visit=visit,
            shadow=None if shadow is None else self._found(shadow[0])[0],
            share=0.0 if shadow is None else shadow[1],
            prompts=self._prompts,
        )

    def cards(self) -> list[dict[str, Any]]:
        """Returns what `/v1/models` says of everything that can be asked for, models first."""
        cards = [loaded.card for loaded in self.loaded.values()]
        cards += [card for _, card in self._adapters.values()]
        by_name = {card["id"]: card for card in cards}
        for name, model in self._routing.aliases.items():
            cards.append({**by_name[model], "id": name, "root": model})
        for name, weights in self._routing.splits.items():
            below = [by_name[self._routing.aliases.get(model, model)] for model in weights]
            kept = {key: below[0][key] for key in ("object", "created", "owned_by", "kind")}
            context = {"context": min(card["context"] for card in below)}
            cards.append({"id": name, **kept, **context, "weights": weights})
        return cards

    def card(self, name: str) -> dict[str, Any]:
        """Returns what `/v1/models/NAME` says.

        Raises:
            ApiError: 404, no such model.
        """
        if name not in self._routing.aliases and name not in self._routing.splits:
            loaded, adapter = self._found(name)
            return loaded.card if adapter is None else self._adapters[adapter][1]
        return next(card for card in self.cards() if card["id"] == name)

    def _found(self, name: str) -> tuple[Loaded, str | None]:
        """The model and adapter that a name means; a model's version may be left out."""
        if name in self._adapters:
            return self._adapters[name][0], name
        if name in self.loaded:
            return self.loaded[name], None
        short = [loaded for loaded in self.loaded.values() if loaded.name.partition("@")[0] == name]
        if len(short) == 1:
            return short[0], None
        known = ", ".join(f"'{one}'" for one in (*self._routing.splits, *self._routing.aliases, *self.loaded))
        what = f"the model '{name[:LONGEST]}' is not served here: use {known[:500]}"
        raise ApiError(404, what, param="model", code="model_not_found")

    def _model(self, name: str | None, where: str) -> str:
        if name is None:
            return self.first.name
        if name not in self.loaded:
            known = ", ".join(self.loaded)
            raise ConfigError(f"no model '{name}' is served", where=where, fix=f"known: {known}")
        return name


def serve_model(
    model: Ingot | Embedder,
    limits: Limits,
    metrics: Metrics,
    name: str | None = None,
    pooling: str | None = None,
    overheard: bool = False,
) -> Loaded:
    """Gives a loaded model a name and a thread.

    Args:
        model: as `ingot.load` returns it; its engine is taken over.
        limits: how much may wait.
        metrics: what its worker reports to.
        name: what clients call it; None takes the model's own.
        pooling: how a model that was not made for it makes vectors; None lets it make none.
        overheard: whether only shadow traffic comes, which has to give way to everything else.
    """
    name = name or model.name
    worker = Worker(
        engine=model.engine if isinstance(model, Ingot) else Idle(),
        stop_ids=model.stop_ids if isinstance(model, Ingot) else frozenset(),
        waiting=limits.waiting,
        waiting_tokens=limits.waiting_tokens,
        niceness=SHADOW_NICENESS if overheard else 0,
    )
    worker.meter = metrics.of(name, worker.usage)
    kind = _kind(model.folder)
    return Loaded(
        name=name,
        folder=model.folder,
        kind=kind,
        tokenizer=model.tokenizer,
        worker=worker,
        ingot=model if isinstance(model, Ingot) else None,
        embedder=_embedder(model, pooling),
        card={
            "id": name,
            "object": "model",
            "owned_by": "ingot",
            "kind": kind,
            "context": model.context,
            "max_model_len": model.context,
            "parameters": model.parameters,
            **_lineage(model.folder),
        },
    )


def _kind(folder: Path) -> str:
    from ingot.models.kinds import kind_of

    artifact = kind_of(folder)[0].artifact
    return "decoder" if artifact == "model" else artifact.replace("_", "-")


def _embedder(model: Ingot | Embedder, pooling: str | None) -> Embedder | None:
    """What makes vectors: the model itself, or one that writes where its folder or its owner says how."""
    from ingot.inference.embedding import Embedder

    if not isinstance(model, Ingot):
        return model
    try:
        return Embedder(model.folder, pooling=pooling, loaded=(model.model, model.tokenizer))
    except (ConfigError, ArtifactError):
        if pooling is not None:
            raise
        return None


def _lineage(folder: Path) -> Mapping[str, Any]:
    """What the artifact's record says of where the model came from; nulls where there is none."""
    try:
        record = read(folder).record
    except ArtifactError:
        return {"created": int(time.time()), "fingerprint": None, "parents": {}}
    try:
        created = int(datetime.fromisoformat(record.created).timestamp())
    except ValueError:
        created = int(time.time())
    return {"created": created, "fingerprint": record.fingerprint, "parents": record.parents}


def _overhear(job: Job, worker: Worker) -> None:
    """Gives a worker a copy of a job whose answers nobody waits for; what does not fit is dropped."""
    copy = Job(streamed=False, prompts=job.prompts, sampling=job.sampling)
    copy.options = [{} for _ in job.prompts]
    try:
        worker.submit(copy)
    except ApiError:
        return
