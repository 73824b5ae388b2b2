"""`ingot model`: what a model is made of and costs, and what happens inside while it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingot.cli.options import Changes, Folder, Json, Model, show_json

app = typer.Typer(
    help="Show what a model is made of, and look inside.\n\nExample: ingot model show depth-12",
    rich_markup_mode=None,
)

NameOrFolder = Annotated[
    str,
    typer.Argument(metavar="NAME|DIR", help="A preset (depth-12, llama-3-8b), a run's or a model's folder."),
]


@app.command()
def show(
    name: NameOrFolder,
    changes: Changes = None,
    draw: Annotated[Path | None, typer.Option(help="Draw the architecture into this .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Show the parts with shapes and parameters, FLOPs and cache per token, memory for training.

    Nothing is loaded or allocated, however large the model is. A preset takes changes of its sizes.

    \b
    Example: ingot model show runs/demo --draw architecture.svg
             ingot model show depth-32 vocabulary=100000 context=8192 --json
    """
    from ingot.artifact import write_atomic
    from ingot.report.sizes import describe_model, lines

    described = describe_model(name, list(changes or ()))
    if draw is not None:
        write_atomic(draw, described.drawing())
    if as_json:
        show_json(described.plain())
        return
    print("\n".join(lines(described)))
    if draw is not None:
        print(f"drawn: {draw}")


@app.command()
def look(
    folder: Folder,
    text: Annotated[str, typer.Option(help="What the model reads.")],
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("look.html"),
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Write a page with attention maps, what each layer would say next, and one pass step by step.

    Example: ingot model look runs/demo --text "def add(a, b): return a + b" --out look.html
    """
    import torch

    from ingot.artifact import write_atomic
    from ingot.inference.load import load_model
    from ingot.inference.locate import locate
    from ingot.report.look import look as look_into
    from ingot.report.looking import read_text, render

    place = locate(folder, model)
    loaded, tokenizer = load_model(place, dtype=torch.float32)
    tokens, left_out = read_text(tokenizer, text, loaded.config.context)
    page = render(look_into(loaded, tokens), tokenizer, str(place))
    write_atomic(out, page)
    if as_json:
        show_json(
            {"page": str(out), "bytes": len(page.encode()), "tokens": len(tokens), "left_out": left_out}
        )
        return
    if left_out:
        print(f"the first {left_out} tokens were left out: the model's context is {loaded.config.context}")
    print(f"{out} is ready: {len(tokens)} tokens, {len(page.encode()) / 1e6:.2g} MB; open it in a browser")
