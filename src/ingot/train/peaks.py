"""What a device can do at best, the measure of how well training uses it (MFU).

A CPU is measured. A GPU is looked up by its exact model, dense: never the figure that data sheets give
"with sparsity", and on consumer cards the one with fp32 sums, since training sums so. A device that is
not in the table has no peak, and its MFU is n/a: another device's peak gave others an MFU of 563 %.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from ingot import device as machine


class Peak(NamedTuple):
    """Dense FLOP/s of matrix products by the precision of a run; None where the device has none."""

    bf16: float | None
    fp16: float | None
    tf32: float | None
    fp32: float | None


def _teraflops(bf16: float, tf32: float, fp32: float) -> Peak:
    return Peak(bf16 * 1e12, bf16 * 1e12, tf32 * 1e12, fp32 * 1e12)


# The makers' data sheets and white papers; names as the driver gives them, checked from the start of
# the name (after "NVIDIA " and the like) to the end of its model.
_PEAKS = (
    (r"A10", _teraflops(125, 62.5, 31.2)),  # A10 data sheet, 2021
    (r"A30", _teraflops(165, 82, 10.3)),  # A30 data sheet, 2021
    (r"A40", _teraflops(149.7, 74.8, 37.4)),  # A40 data sheet, 2021
    (r"A100-(SXM4|PCIE)-[48]0GB|A100 80GB PCIe", _teraflops(312, 156, 19.5)),  # its data sheet, 2021
    (r"H100 PCIe", _teraflops(756, 378, 51)),  # H100 data sheet, 2022
    (r"H100 NVL", _teraflops(835, 417, 60)),  # H100 data sheet, 2024
    (r"H100 80GB HBM3", _teraflops(989, 494.5, 67)),  # H100 data sheet, 2023: SXM
    (r"H200 NVL", _teraflops(835, 417, 60)),  # H200 data sheet, 2024
    (r"H200", _teraflops(989, 494.5, 67)),  # H200 data sheet, 2024: SXM
    (r"GH200 .*", _teraflops(989, 494.5, 67)),  # GH200 data sheet, 2024
    (r"B200", _teraflops(2250, 1125, 75)),  # HGX B200 data sheet, 2024: an eighth of the board's
    (r"L4", _teraflops(121, 60, 30.3)),  # L4 data sheet, 2023
    (r"L40", _teraflops(181, 90.5, 90.5)),  # L40 data sheet, 2023
    (r"L40S", _teraflops(362, 183, 91.6)),  # L40S data sheet, 2023
    (r"RTX A6000", _teraflops(154.8, 77.4, 38.7)),  # GA102 white paper, 2021
    (r"RTX 6000 Ada Generation", _teraflops(364.2, 182.1, 91.1)),  # its data sheet, 2023
    (r"GeForce RTX 3090", _teraflops(71, 35.6, 35.6)),  # GA102 white paper, 2020, table 9
    (r"GeForce RTX 4090", _teraflops(165.2, 82.6, 82.6)),  # Ada white paper, 2022, appendix A
    (r"GeForce RTX 5090", _teraflops(209.5, 104.8, 104.8)),  # Blackwell white paper, 2025, appendix A
    (r"V100-SXM[23]-[0-9]+GB", Peak(None, 125e12, None, 15.7e12)),  # V100 data sheet, 2020
    (r"V100-PCIE-[0-9]+GB", Peak(None, 112e12, None, 14e12)),  # V100 data sheet, 2020
    (r"T4", Peak(None, 65e12, None, 8.1e12)),  # T4 data sheet, 2019
    (r"Instinct MI300X.*", _teraflops(1307.4, 653.7, 163.4)),  # MI300X data sheet, 2023
)


def dense_peak(name: str, precision: str = "bf16") -> float | None:
    """Returns the peak of a GPU by the name that its driver gives it.

    Args:
        name: such as 'NVIDIA H200'. A slice of a device (MIG) and a laptop's are other devices.
        precision: fp32, tf32, bf16 or fp16.

    Returns:
        Dense floating point operations per second, or None for an unknown device or one that has no
        such number type.

    Example:
        >>> dense_peak("NVIDIA H200")
        989000000000000.0
        >>> dense_peak("NVIDIA A100-SXM4-40GB MIG 1g.5gb") is None
        True
    """
    if "MIG" in name:
        return None
    model = re.sub(r"^((NVIDIA|AMD|Tesla) )+", "", name)
    for pattern, peak in _PEAKS:
        if re.fullmatch(pattern, model):
            found: float | None = getattr(peak, precision)
            return found
    return None


@functools.cache
def peak_flops(device: str, precision: str) -> float | None:
    """Returns what one device of this machine can do at best.

    Args:
        device: 'cpu' is measured for half a second (once per process); 'cuda', 'cuda:1' ... are looked up.
        precision: fp32, tf32, bf16 or fp16.

    Returns:
        Floating point operations per second in large matrix products, or None where nobody knows.
    """
    import torch

    if device.startswith("cuda"):
        return dense_peak(torch.cuda.get_device_name(device), precision)
    if device != "cpu":
        return None
    types = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return machine.measure_gemm(types.get(precision, torch.float32))


def utilisation(tokens_per_second: float, flops_per_token: float | None, peak: float | None) -> float | None:
    """Returns the model FLOPs utilisation: the share of the peak that the model's own arithmetic takes.

    Recomputed activations do not count as work (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).

    Args:
        tokens_per_second: of training, all ranks together.
        flops_per_token: of training, forward and backward; None where nobody knows.
        peak: FLOP/s of all devices together; None where nobody knows.
    """
    if not flops_per_token or not peak:
        return None
    return tokens_per_second * flops_per_token / peak
