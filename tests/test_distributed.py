"""Processes that torchrun starts connect to one another."""

import pytest
from helpers.processes import run

CONNECT = """
import os
import sys
from datetime import timedelta

import torch

from retinanet import distributed
from retinanet.errors import ProcessError

failures, late = int(sys.argv[1]), sys.argv[2] == "late"
backends = torch.distributed.distributed_c10d
real, attempts = backends.ProcessGroupGloo, 0


def connect(*arguments, **options):
    global attempts
    attempts += 1
    if attempts > failures:
        backends.ProcessGroupGloo = real
    elif os.environ["RANK"] == "1":
        if late:
            real(*arguments, **options)
        raise RuntimeError("no route to host")
    return real(*arguments, **options)


backends.ProcessGroupGloo = connect
distributed.CONNECTION_TIMEOUT = timedelta(seconds=1)
try:
    with distributed.joined() as processes:
        print(processes.sum(torch.tensor(processes.rank + 1)).item(), attempts)
except ProcessError as error:
    print(error)
"""


@pytest.mark.parametrize("moment", ["early", "late"])
def test_all_processes_try_again_if_one_of_them_could_not_connect(moment: str):
    results = run(2, "-c", CONNECT, 1, moment)
    assert [(result.code, result.out) for result in results] == [(0, "3 2\n")] * 2, results


def test_processes_that_cannot_connect_end_with_the_reason():
    results = run(2, "-c", CONNECT, 3, "late")
    reason = "the processes of torchrun cannot reach one another: no route to host\n"
    assert [(result.code, result.out) for result in results] == [(0, reason)] * 2, results
