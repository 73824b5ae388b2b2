"""Data parallelism with a whole model on every rank: PyTorch's DDP, gradients summed, names kept.

Source: Li et al. 2020, arXiv 2006.15704.
"""

# No `from __future__ import annotations` here: DDP looks at the hook's annotations and wants types.

from typing import Any

from torch import Tensor, futures, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel


class Replicated(DistributedDataParallel):
    """DDP that shows the attributes of the model inside: an objective may ask it for its `head`.

    Gradients are the sum over the ranks, where DDP by itself would take the mean.

    Args:
        model: the same on all ranks, each on its rank's device.
    """

    def __init__(self, model: nn.Module) -> None:
        device = next(model.parameters()).device
        super().__init__(
            model,
            device_ids=None if device.type == "cpu" else [device],
            gradient_as_bucket_view=True,
            init_sync=False,
        )
        self.broadcast_buffers = False  # rotation tables and masks are the same on all ranks, for good
        self.register_comm_hook(None, _sum)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)

    def get_submodule(self, target: str) -> nn.Module:
        """Returns a module by the name that it has in the model."""
        inner: nn.Module = self.module.get_submodule(target)
        return inner


def _sum(_: None, bucket: dist.GradBucket) -> futures.Future[Tensor]:
    """Sums a bucket of gradients over the ranks while the backward pass goes on."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda done: done.value()[0])
