"""The compiled step: a whole pass of a decoder of the common shape in one call, for CPUs."""

from ingot.inference.computing.native.packing import unsupported
from ingot.inference.computing.native.runner import NativeRunner, runner

__all__ = ["NativeRunner", "runner", "unsupported"]
