"""Is our model theirs? Each published family, weight by weight and token by token, in and out.

```
theirs (random weights) -> folder -> ours:  logits in float32 and bfloat16, greedy tokens
ours -> folder -> theirs:                   every stored number equal, logits equal
ours -> GGUF -> llama.cpp                   greedy tokens;      ours -> ONNX -> ONNX Runtime   logits
```
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from ingot.bench.doors import DOORS, Door
from ingot.bench.published import VOCABULARY, Published, reference, write
from ingot.errors import ArtifactError, IngotError
from ingot.progress import Progress

FP32, BF16 = 1e-4, 2e-2
"""Largest differences of logits that count as equal: of logits that are spread by more than one, in units of
their standard deviation. In bfloat16 with weights as their authors begin with."""

ROUNDING = 1.5
"""Times their own error in bfloat16 that ours may be off where that error is larger than `BF16`."""

ROWS, LENGTH, ANSWER = 2, 60, 40


class Cell(NamedTuple):
    """One result.

    Args:
        met: None where there is nothing to compare with, or no means to do it here.
        words: the figure, or why there is none.
    """

    met: bool | None
    words: str


@dataclass(frozen=True)
class Row:
    """What was found of one family."""

    family: str
    paper: str
    reference: str
    parameters: int
    fp32: Cell
    bf16: Cell
    tokens: Cell
    back: Cell
    gguf: Cell
    onnx: Cell

    def cells(self) -> dict[str, Cell]:
        """Returns the results by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Cell)}

    def met(self) -> bool:
        """Returns whether nothing is wrong."""
        return all(cell.met is not False for cell in self.cells().values())

    def plain(self) -> dict[str, Any]:
        """Returns it for JSON."""
        cells = {name: cell._asdict() for name, cell in self.cells().items()}
        return asdict(self) | cells | {"met": self.met()}


def parity(families: tuple[Published, ...], progress: Progress) -> Iterator[Row]:
    """Yields the results of one family after the other.

    Args:
        families: from `published.PUBLISHED`.
        progress: told of each.

    Raises:
        ResourceError: `transformers` is missing.
    """
    reference().logging.set_verbosity_error()
    reference().logging.disable_progress_bar()
    with progress.task("families", len(families)) as task:
        for one in families:
            task.advance(0, one.name)
            with tempfile.TemporaryDirectory(prefix="ingot-parity-") as work:
                yield check(one, Path(work))
            task.advance(1)


def check(one: Published, work: Path) -> Row:
    """Compares one family.

    Args:
        one: the family.
        work: an empty folder.
    """
    folder, door = work / "theirs", DOORS[one.kind]
    theirs = write(one, folder)
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(3, VOCABULARY, (ROWS, LENGTH), generator=generator)
    cells: dict[str, Callable[[], Cell]] = {
        "fp32": lambda: _logits(door, theirs, folder, tokens),
        "bf16": lambda: _short(door, one, work / "short", tokens),
        "tokens": lambda: _greedy(door, theirs, folder, tokens),
        "back": lambda: _back(door, theirs, folder, work / "ours", tokens),
        "gguf": lambda: _gguf(door, folder, work / "model.gguf", tokens[:1]),
        "onnx": lambda: _onnx(door, folder, work / "onnx"),
    }
    found = {name: _tried(cell) for name, cell in cells.items()}
    parameters = sum(parameter.numel() for parameter in theirs.parameters())
    return Row(one.name, one.paper, one.model, parameters, **found)


def _tried(cell: Callable[[], Cell]) -> Cell:
    """What comes of a comparison; a refusal of ours is an answer, and no success."""
    try:
        return cell()
    except IngotError as error:
        return Cell(False, error.what)


def _logits(door: Door, theirs: Any, folder: Path, tokens: Tensor) -> Cell:
    difference = _difference(door, theirs, door.load(folder, torch.float32), tokens)
    return Cell(difference <= FP32, f"{difference:.1e}")


def _short(door: Door, one: Published, folder: Path, tokens: Tensor) -> Cell:
    """In bfloat16, where larger weights, as the other comparisons have, make rounding look like a fault."""
    whole = write(one, folder, spread=0.0)
    short = type(whole).from_pretrained(folder, dtype=torch.bfloat16).eval()
    difference = _difference(door, short, door.load(folder, torch.bfloat16), tokens)
    if difference <= BF16:
        return Cell(True, f"{difference:.1e}")
    with torch.no_grad():
        exact, rounded = door.their_logits(whole, tokens), door.their_logits(short, tokens).float()
    own = float((rounded - exact).abs().max()) / max(1.0, float(exact.std()))
    return Cell(difference <= ROUNDING * own, f"{difference:.1e}, its own rounding {own:.1e}")


def _difference(door: Door, theirs: Any, ours: Any, tokens: Tensor) -> float:
    with torch.no_grad():
        said, expected = door.logits(ours, tokens).float(), door.their_logits(theirs, tokens).float()
    return float((said - expected).abs().max()) / max(1.0, float(expected.std()))


def _greedy(door: Door, theirs: Any, folder: Path, tokens: Tensor) -> Cell:
    if door.greedy is None or door.their_greedy is None:
        return Cell(None, "does not generate")
    ours = door.load(folder, torch.float32)
    equal = 0
    for prompt in tokens:
        short = prompt[: LENGTH // 3]
        equal += door.greedy(ours, short, ANSWER) == door.their_greedy(theirs, short, ANSWER)
    return Cell(equal == len(tokens), f"{equal} of {len(tokens)} x {ANSWER}")


def _back(door: Door, theirs: Any, folder: Path, out: Path, tokens: Tensor) -> Cell:
    out.mkdir()
    door.save(out, door.load(folder, torch.float32))
    before, after = _stored(folder), _stored(out)
    differ = sorted(name for name in before.keys() | after.keys() if not _same(name, before, after))
    if differ:
        return Cell(False, f"{len(differ)} weights differ: {differ[0]}")
    again = type(theirs).from_pretrained(out, dtype=torch.float32).eval()
    with torch.no_grad():
        difference = (door.their_logits(again, tokens) - door.their_logits(theirs, tokens)).abs().max()
    return Cell(float(difference) <= FP32, f"{len(before)} weights equal, logits {float(difference):.0e}")


def _stored(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    return found


def _same(name: str, one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether both hold a weight alike; one that shares its numbers with another need not be there twice."""
    if name in one and name in other:
        return torch.equal(one[name], other[name])
    there, others = (one[name], other) if name in one else (other[name], one)
    return any(same.shape == there.shape and torch.equal(same, there) for same in others.values())


def _gguf(door: Door, folder: Path, out: Path, tokens: Tensor) -> Cell:
    if not door.gguf:
        return Cell(None, "not for this kind")
    from ingot.export.gguf import export_gguf

    assert door.greedy is not None
    try:
        export_gguf(folder, out, "f32")
    except ArtifactError as error:
        return Cell(None, f"refused: {error.what.rpartition(': ')[2]}")
    prompt = tokens[0, : LENGTH // 3]
    try:
        said = llama_cpp(out, prompt.tolist(), ANSWER)
    except ValueError:  # what its package makes of a file that llama.cpp refuses
        return Cell(False, "llama.cpp does not load it")
    if said is None:
        return Cell(None, "written; no llama-cpp-python here")
    ours = door.greedy(door.load(folder, torch.float32), prompt, ANSWER)
    equal = next((n for n, pair in enumerate(zip(said, ours, strict=True)) if pair[0] != pair[1]), ANSWER)
    return Cell(equal == ANSWER, f"{equal} of {ANSWER} tokens")


def llama_cpp(path: Path, prompt: list[int], count: int) -> list[int] | None:
    """Returns what llama.cpp answers, token for token, or None where its Python package is missing.

    Args:
        path: of a GGUF file.
        prompt: token ids.
        count: tokens to make, whatever they are.
    """
    try:
        package = importlib.import_module("llama_cpp")
    except ImportError:
        return None
    # Keys and values in float32 too: by default llama.cpp keeps them in float16.
    model = package.Llama(
        str(path), n_ctx=256, n_threads=1, verbose=False, logits_all=True,
        type_k=package.GGML_TYPE_F32, type_v=package.GGML_TYPE_F32,
    )  # fmt: skip
    tokens = model.generate(prompt, top_k=1, temp=0.0, repeat_penalty=1.0)
    made = [token for token, _ in zip(tokens, range(count), strict=False)]
    model.close()
    return made


def _onnx(door: Door, folder: Path, out: Path) -> Cell:
    if not door.onnx:
        return Cell(None, "not for this kind")
    from ingot.export.folder import export_folder

    difference = export_folder(folder, out, "onnx")["difference"]
    return Cell(difference <= FP32, f"{difference:.1e}")


def markdown(rows: list[Row]) -> str:
    """Returns the table for `docs/models.md`."""
    header = ["family", "equal to", "fp32", "bf16", "greedy tokens", "out again", "GGUF", "ONNX"]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        family = f"[{row.family}]({row.paper})"
        lines.append([family, f"`{row.reference}`", *(_mark(cell) for cell in row.cells().values())])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _mark(cell: Cell) -> str:
    return {True: "yes: ", False: "**no**: ", None: "- "}[cell.met] + cell.words
