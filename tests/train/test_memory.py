"""The memory formula against what a process really takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ingot.train.memory import resident, rows_that_fit, update_memory
from ingot.train.planner import parameter_count, shape

MEASURE = """
    import sys, torch
    from ingot import device
    from ingot.objectives.causal import CausalLM
    from ingot.optim.joint import OptimizerConfig
    from ingot.train.memory import resident
    from ingot.train.planner import shape
    from ingot.train.step import Accumulate, loss_function

    device.prepare_threads(1)
    dtype = torch.bfloat16 if sys.argv[2] == "bf16" else torch.float32

    def train(config, rows):
        model = config.build()
        forward = loss_function(model, CausalLM(), dtype, False, "cpu")
        program = Accumulate(CausalLM(), forward, OptimizerConfig().build(model, dtype), None, 1.0)
        for _ in range(2):
            text = torch.randint(0, config.vocabulary, (rows, config.context + 1))
            batch = {"inputs": text[:, :-1].contiguous(), "targets": text[:, 1:].contiguous()}
            program.update(batch, 1.0)

    train(shape(1, 256, 64), 2)  # what the libraries themselves take
    before = resident()
    train(shape(int(sys.argv[1]), 4096, 256), int(sys.argv[3]))
    print(device.peak_memory() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the peak of the process is known")
@pytest.mark.parametrize(("depth", "precision", "rows"), [(3, "bf16", 16), (4, "fp32", 4)])
def test_a_real_update_takes_what_the_formula_says(depth: int, precision: str, rows: int) -> None:
    code = "\n".join(line[4:] for line in MEASURE.splitlines())
    command = [sys.executable, "-c", code, str(depth), precision, str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = update_memory(shape(depth, 4096, 256), rows, precision)
    assert said.total == pytest.approx(int(done.stdout), rel=0.25), said


def test_parts_grow_with_what_they_are_made_of() -> None:
    model = shape(4, 1024, 128)
    small, large = update_memory(model, 2), update_memory(model, 8)
    assert small.weights == 4 * parameter_count(model) == small.gradients
    assert (small.weights, small.optimizer) == (large.weights, large.optimizer)
    assert large.activations == 4 * small.activations and large.loss == 4 * small.loss
    assert small.weights < small.optimizer < 2 * small.weights  # one number per matrix weight, else two
    adam = update_memory(model, 2, matrices_to_muon=False)
    assert adam.optimizer == 2 * adam.weights and adam.work == 0
    shared = update_memory(model, 2, ranks=4)
    assert shared.weights == small.weights // 4 and shared.activations == small.activations


def test_the_rows_that_fit_divide_the_batch_and_no_more_would_fit() -> None:
    model = shape(8, 4096, 512)
    room = update_memory(model, 10, "bf16").total / 0.8
    assert rows_that_fit(model, 24, room) == 8
    assert rows_that_fit(model, 24, 1e6) is None
    assert rows_that_fit(model, 24, 1e15) == 24


def test_what_this_process_holds_is_known() -> None:
    assert 10**7 < resident() < 10**12
