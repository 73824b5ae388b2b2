"""Making a model smaller: int8 weights with one scale per row, in a folder that others load too."""

from ingot.compress.files import load_int8, quantize_folder, save_int8, write_int8
from ingot.compress.quantize import dequantized, is_quantized, quantize
from ingot.compress.quantized import QuantizedEmbedding, QuantizedLinear

__all__ = [
    "QuantizedEmbedding",
    "QuantizedLinear",
    "dequantized",
    "is_quantized",
    "load_int8",
    "quantize",
    "quantize_folder",
    "save_int8",
    "write_int8",
]
