"""`ingot bench architectures`: entrants differ in what is studied alone; the table says what it may."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from ingot.bench import architectures as studies
from ingot.bench.entrants import STUDIES, Entrant, fitted, parameters, study_of
from ingot.bench.material import CONTEXT, MODEL
from ingot.cli import app
from ingot.errors import ConfigError


def test_positions_differ_in_nothing_else() -> None:
    first, *others = STUDIES["positions"]
    for one in others:
        changed = {key for key, value in one.config.plain().items() if first.config.plain()[key] != value}
        assert changed == {"positions"}
        table = 2 * CONTEXT * one.config.width if one.name == "learned" else 0
        assert one.parameters == first.parameters + table


@pytest.mark.parametrize("study", ["parts", "sizes"])
def test_families_are_compared_at_equal_parameters(study: str) -> None:
    entrants = STUDIES[study]
    if study == "parts":
        assert all(one.parameters == pytest.approx(entrants[0].parameters, rel=2e-3) for one in entrants)
        return
    pairs = list(zip(entrants[::2], entrants[1::2], strict=True))
    assert len(pairs) == 4
    for llama, gpt2 in pairs:
        assert llama.parameters == pytest.approx(gpt2.parameters, rel=0.02)
    assert pairs[0][0].parameters < 12_000 and pairs[-1][0].parameters > 700_000


def test_fitted_is_the_nearest_width() -> None:
    for wanted in (150_000, 200_001):
        made = fitted(MODEL, wanted)
        for width in (made.feed_forward - 1, made.feed_forward + 1):
            other = parameters(made.model_copy(update={"feed_forward": width}))
            assert abs(parameters(made) - wanted) <= abs(other - wanted)


def test_a_difference_is_only_said_where_it_leaves_the_noise() -> None:
    entrants = [Entrant(name, MODEL) for name in ("a", "b", "c")]
    scores = [
        studies.Scores(entrants[0], [2.00, 2.10, 2.05], [2.0] * 3),
        studies.Scores(entrants[1], [2.30, 2.40, 2.36], [2.0] * 3),
        studies.Scores(entrants[2], [2.10, 2.05, 2.04], [2.0] * 3),
    ]
    verdicts = [row[-1] for row in studies.rows(scores)]
    assert verdicts[0] == "compared with"
    assert verdicts[1].startswith("worse by 0.2")
    assert verdicts[2] == "no difference beyond the noise"


def test_further_on_counts_the_later_bytes_only() -> None:
    from ingot.bench.material import Material

    model = MODEL.build(0).eval()
    tokens = torch.randint(0, 256, (3, 9), generator=torch.Generator().manual_seed(0))
    text = Material("t", tokens.numpy().astype("uint8").ravel(), tokens[:, :-1], tokens[:, 1:])
    with torch.no_grad():
        chances = model(text.inputs).logits.log_softmax(-1).gather(2, text.targets[..., None])[..., 0]
    expected = -float(chances[:, 5:].mean()) / torch.tensor(2.0).log().item()
    assert studies.bits_per_byte(model, text, 5, "cpu") == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("study", "length"),
    [
        pytest.param("sizes", ["--quick"], marks=pytest.mark.slow),
        ("positions", ["--steps", "10", "--seeds", "2"]),
    ],
)
def test_the_command_runs_and_a_wrong_study_is_named(study: str, length: list[str]) -> None:
    done = CliRunner().invoke(app, ["bench", "architectures", study, "--json", *length])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert len(told["results"]) == len(STUDIES[study]) and all(
        len(one["bits_per_byte"]) == 2 for one in told["results"]
    )
    with pytest.raises(ConfigError, match="unknown study 'position'"):
        study_of("position")
