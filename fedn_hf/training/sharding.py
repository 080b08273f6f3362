"""Weights that are shared out among processes (FSDP2), for backbones that train and are too large for one GPU.

Each process keeps a part of every weight, of its gradient and of its moments. A block of the backbone is gathered when
it is needed, and let go. Checkpoints hold whole tensors, the same as without.
"""

import warnings

import torch
from torch import nn

from ..modeling_fedn import FednForFacialExpressionDetection


def shard(model: FednForFacialExpressionDetection, device: torch.device, num_processes: int) -> None:
    """Share a network on its device out, in place: the blocks of its backbone one by one, and the rest as one."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard  # takes seconds to import, and few need it

    # The network's outputs are views of one another, and nothing here changes them in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (num_processes,))
    encoder = model.fedn.frame_encoder
    for module in () if encoder is None else [*encoder.modules()]:
        for block in module if isinstance(module, nn.ModuleList) else ():
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor. Of one that is shared out, every process must ask at the same time."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def shared_as(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """A whole tensor on the device of another one, and shared out as that is."""
    tensor = tensor.to(other.device)
    if not hasattr(other, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, other.device_mesh, other.placements, src_data_rank=None)


__all__ = ["shard", "shared_as", "whole"]
