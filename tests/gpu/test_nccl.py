"""One GPU in a process group of its own: as much of several processes as it can show."""

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from helpers.gpu import on_gpu
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from retinanet import distributed
from retinanet.distributed import Processes, average_gradients


@pytest.fixture(params=["gloo", pytest.param("cpu:gloo,cuda:nccl", marks=on_gpu)])
def group(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A group of one process that takes itself for one of two. Its device."""
    dist.init_process_group(request.param, store=dist.HashStore(), rank=0, world_size=1)
    monkeypatch.setattr(distributed, "_current", Processes(rank=0, world=2))
    yield torch.device("cuda" if "nccl" in request.param else "cpu")
    dist.destroy_process_group()


def small_network(norm: nn.Module, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 2, 1)).to(device)


def gradients(network: nn.Module, device: torch.device) -> list[torch.Tensor]:
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)).to(device)
    network(images).square().sum().backward()
    return [parameter.grad for parameter in network.parameters()]


def test_gradients_through_the_group_are_those_without_it(group: torch.device):
    alone = gradients(small_network(nn.GroupNorm(2, 8), group), group)
    shared = average_gradients(small_network(nn.GroupNorm(2, 8), group))
    assert isinstance(shared, DistributedDataParallel)
    for ours, expected in zip(gradients(shared, group), alone, strict=True):
        torch.testing.assert_close(ours, expected)
    processes = distributed.current_processes()
    assert processes.largest(3, 5) == [3, 5]
    assert processes.sum(torch.ones(2, device=group)).tolist() == [1, 1]


@on_gpu
@pytest.mark.parametrize("group", ["cpu:gloo,cuda:nccl"], indirect=True)
def test_trained_batch_normalisation_shares_its_statistics(group: torch.device):
    alone = gradients(small_network(nn.BatchNorm2d(8), group), group)
    network = small_network(nn.BatchNorm2d(8), group)
    scale = network[1].weight
    shared = average_gradients(network)
    assert type(network[1]) is nn.SyncBatchNorm and network[1].weight is scale
    for ours, expected in zip(gradients(shared, group), alone, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
