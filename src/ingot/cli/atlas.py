"""`ingot data atlas`: a map of a corpus on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingot.cli.options import Json, show_json
from ingot.cli.terminal import standard_progress


def atlas(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A run folder (runs/demo) or a corpus in one.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("atlas.html"),
    documents: Annotated[int, typer.Option(min=2, help="Documents on the map at most.")] = 10_000,
    clusters: Annotated[
        int | None, typer.Option(min=1, max=60, help="How many.  [default: where they are clearest]")
    ] = None,
    layout: Annotated[str, typer.Option(help="neighbours, pca, or umap (needs umap-learn).")] = "neighbours",
    seed: Annotated[int, typer.Option(help="Another seed, another picture.")] = 0,
    as_json: Json = False,
) -> None:
    """Draw a map of a corpus as one page: what is alike lies together, clusters named by their words.

    \b
    Example: ingot data atlas runs/notes --out notes.html
             ingot data atlas runs/notes --layout pca --clusters 8
    """
    import itertools

    from ingot.atomic import write_atomic
    from ingot.data.atlas.atlas import AtlasConfig, draw
    from ingot.data.atlas.page import render
    from ingot.data.corpus import iterate_documents
    from ingot.data.lineage import corpus_of

    values = {"documents": documents, "clusters": clusters, "layout": layout, "seed": seed}
    config = AtlasConfig.parse(values, where="atlas")
    corpus = corpus_of(folder)
    read = itertools.chain(iterate_documents(corpus, "train"), iterate_documents(corpus, "heldout"))
    drawn = draw(read, config, standard_progress())
    page = render(drawn, folder.absolute().name)
    write_atomic(out, page)
    copies = int((drawn.copies >= 0).sum())
    if as_json:
        show_json(
            {
                "page": str(out),
                "bytes": len(page.encode()),
                "documents": len(drawn.points),
                "of": drawn.documents,
                "left_out": dict(drawn.left_out),
                "copies": copies,
                "clusters": [{"terms": one.terms, "documents": one.size} for one in drawn.clusters],
            }
        )
        return
    print(f"{out}: {len(drawn.points):,} documents in {len(drawn.clusters)} clusters, {copies:,} with copies")
    for why, count in drawn.left_out.items():
        print(f"  {count:,} {why}")
    for one in drawn.clusters:
        print(f"  {one.size:>6,}  {', '.join(one.terms[:6])}")
