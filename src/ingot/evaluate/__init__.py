"""What a model is worth, in numbers with their doubt: bits per byte, instruction success, speed, samples."""

from ingot.evaluate.folder import evaluate_folder

__all__ = ["evaluate_folder"]
