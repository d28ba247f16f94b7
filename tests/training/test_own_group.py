"""A program that has made a process group trains and evaluates in it, and keeps it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
from helpers.processes import run
from helpers.support import TINY_MODEL, write_training

import retinanet
from retinanet.checkpoints.checkpoint import LAST, read_metadata

SCRIPT = Path(__file__).parents[1] / "helpers" / "own_group.py"


@pytest.mark.slow
def test_the_group_of_the_program_is_used_and_kept(tmp_path: Path):
    write_training(
        tmp_path / "tiny.yaml",
        train=4,
        val=3,
        workers=0,
        sections=f"model: {TINY_MODEL[:-1]}, trunk_norm: gn}}\ntrain: {{steps: 1, batch_size: 4, optimizer: sgd}}\n",
    )
    results = run(2, SCRIPT, tmp_path / "tiny.yaml", tmp_path)
    assert [(result.code, result.err) for result in results] == [(0, ""), (0, "")]
    first, second = (json.loads(result.out) for result in results)
    assert first == second
    assert (first["steps"], first["count"], first["announced"]) == (1, 2, False)
    assert read_metadata(tmp_path / "run" / LAST).progress["processes"] == 2
    alone = retinanet.evaluate(tmp_path / "run", overrides=["detect.score_threshold=0.01"])
    assert len(first["results"]) > 20
    np.testing.assert_allclose(first["results"], sorted(alone.results.tolist()), rtol=1e-4, atol=1e-3)


def test_a_group_without_a_backend_for_cpus_is_refused(tmp_path: Path):
    from torch.testing._internal.distributed import fake_pg  # registers the backend `fake`

    dist.init_process_group("cuda:fake", rank=0, world_size=2, store=fake_pg.FakeStore())
    try:
        with pytest.raises(ValueError, match="the process group is cuda:fake, expected one for CPUs too"):
            retinanet.evaluate(tmp_path)
        assert dist.is_initialized()
    finally:
        dist.destroy_process_group()
