"""Our steps as steps of datatrove, whose executors run them past one machine: locally, on Slurm, with Ray.

    LocalPipelineExecutor([JsonlReader(...), CleaningStep(Cleaning(preset="own")), JsonlWriter(...)])

datatrove is an optional package, and this module stands on its classes: importing it without datatrove fails
with a line that says so. What a datatrove document knows beside its text and id is in its metadata: "source",
"kind", "licence" and "language" are read from there, and written back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ingot.data.cleaning import Cleaner, Cleaning
from ingot.data.document import Document, Dropped
from ingot.errors import ResourceError

try:
    from datatrove.data import Document as TroveDocument
    from datatrove.pipeline.base import PipelineStep
    from datatrove.utils.typeshelper import StatHints
except ImportError:
    raise ResourceError(
        "the package 'datatrove' is missing", where="ingot.data.trove", fix="pip install 'ingot[data]'"
    ) from None

Result = Document | Dropped | Iterable[Document | Dropped]


class DocumentStep(PipelineStep):
    """Any function of one document as a step of datatrove.

    Args:
        function: returns a document, or why it was dropped, or several of these. It must be picklable.
        name: as datatrove's statistics show it.
        kind: of documents whose metadata names none.
        exclusion_writer: one of datatrove's writers, which is given what was dropped, with the reason.
    """

    type = "ingot"

    def __init__(
        self,
        function: Callable[[Document], Result],
        name: str,
        kind: str = "web",
        exclusion_writer: Any = None,
    ) -> None:
        self.name = name  # the statistics' title, which the base class takes
        super().__init__()
        self.function = function
        self.kind = kind
        self.exclusion_writer = exclusion_writer

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Called by an executor: documents in, documents out; the dropped ones are counted by reason."""
        if self.exclusion_writer is None:
            yield from self._run(data, None, rank)
        else:
            with self.exclusion_writer as writer:
                yield from self._run(data, writer, rank)

    def _run(self, data: Any, writer: Any, rank: int) -> Iterator[Any]:
        for given in data or ():
            self.stat_update(StatHints.total)
            with self.track_time():
                results = self._results(given)
            for result in results:
                if isinstance(result, Dropped):
                    self._drop(given, result, writer, rank)
                    continue
                made = to_trove(result, given)
                self.stat_update(StatHints.forwarded)
                self.update_doc_stats(made)
                yield made

    def _results(self, given: Any) -> list[Document | Dropped]:
        result = self.function(from_trove(given, self.kind))
        return [result] if isinstance(result, Document | Dropped) else list(result)

    def _drop(self, given: Any, dropped: Dropped, writer: Any, rank: int) -> None:
        self.stat_update(StatHints.dropped, f"dropped_{dropped.reason}")
        if writer is not None:
            numbers = (dropped.value, dropped.threshold)
            value, threshold = ("" if number is None else f"{number:.6g}" for number in numbers)
            why = {"filter_reason": dropped.reason, "filter_detail": dropped.detail}
            measured = {"filter_value": value, "filter_threshold": threshold}
            metadata = {**given.metadata, **why, **measured}
            writer.write(TroveDocument(text=dropped.text, id=dropped.path, metadata=metadata), rank)


class CleaningStep(DocumentStep):
    """The cleaning of documents as a step of datatrove.

    Args:
        cleaning: what to do.
        kind: of documents whose metadata names none.
        exclusion_writer: one of datatrove's writers, which is given what was dropped, with the reason.
    """

    def __init__(self, cleaning: Cleaning, kind: str = "web", exclusion_writer: Any = None) -> None:
        super().__init__(Cleaner(cleaning).clean, "cleaning", kind, exclusion_writer)


def from_trove(given: Any, kind: str = "web") -> Document:
    """Returns datatrove's document as one of ours.

    Args:
        given: with text, id and metadata.
        kind: where the metadata names none.
    """
    known: Mapping[str, Any] = given.metadata
    source = known.get("source") or known.get("file_path") or known.get("url") or given.id
    return Document(
        id=str(given.id),
        source=str(source),
        text=given.text,
        kind=known.get("kind") or kind,
        licence=known.get("licence") or None,
        language=known.get("language") or None,
    )


def to_trove(document: Document, given: Any) -> Any:
    """Returns one of our documents as datatrove's.

    What is unknown becomes an empty text: datatrove's writer of parquet wants all metadata of one shape.

    Args:
        document: ours.
        given: the one that it was made of, whose metadata and media it keeps.
    """
    ours = {"source": document.source, "kind": document.kind}
    ours |= {"licence": document.licence or "", "language": document.language or ""}
    return TroveDocument(
        text=document.text, id=document.id, media=given.media, metadata={**given.metadata, **ours}
    )
