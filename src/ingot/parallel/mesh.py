"""The grid: every rank has a place on named axes, and each way of splitting the work is one axis.

```
axes    pipeline x replicate x shard x context x tensor x expert        ranks = product of the sizes

        replicate 2 x shard 2          shard ->
                          replicate    rank 0   rank 1      a row holds one copy of the model,
                              v        rank 2   rank 3      cut over its ranks
```

Ranks that are neighbours on the last axes are neighbours in the machine, where talking is quickest; so
the axes that talk most stand last. Today only the data axes may be longer than 1.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import prod

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from ingot.errors import ConfigError

DATA_AXES = ("replicate", "shard")


@dataclass(frozen=True)
class Grid:
    """How many ranks stand along each axis.

    Args:
        pipeline: stages of layers.
        replicate: whole copies of the model, each with its own part of the batch.
        shard: ranks that one copy's weights, gradients and optimizer state are cut over; each of them has
            its own part of the batch, too.
        context: parts of one sequence.
        tensor: parts of one matrix.
        expert: parts of the experts.

    Raises:
        ConfigError: a length below 1, or an axis longer than 1 that this version does not know.

    Example:
        >>> Grid(replicate=2, shard=2).size
        4
    """

    pipeline: int = 1
    replicate: int = 1
    shard: int = 1
    context: int = 1
    tensor: int = 1
    expert: int = 1

    def __post_init__(self) -> None:
        for axis, length in self.lengths().items():
            if length < 1:
                raise ConfigError(f"{axis} is {length}", where="parallel", fix="use 1 or more")
            if length > 1 and axis not in DATA_AXES:
                what = f"{axis} is {length}, but {axis} parallelism comes later"
                raise ConfigError(what, where="parallel", fix=f"set {axis} to 1")

    def lengths(self) -> dict[str, int]:
        """Returns the length of every axis, in order."""
        return {axis.name: getattr(self, axis.name) for axis in fields(self)}

    @property
    def size(self) -> int:
        """The number of ranks on the grid."""
        return prod(self.lengths().values())

    def mesh(self, kind: str) -> DeviceMesh:
        """Returns the process groups of the axes that are longer than 1 (of `shard`, where none is).

        Every rank has to call this, with the same grid.

        Args:
            kind: 'cpu' or 'cuda'.
        """
        long = {axis: length for axis, length in self.lengths().items() if length > 1} or {"shard": 1}
        return init_device_mesh(kind, tuple(long.values()), mesh_dim_names=tuple(long))
