"""Processes that torchrun starts connect to one another, also where its store keeps what earlier processes have set."""

from datetime import timedelta

import pytest
import torch.distributed as dist
from helpers.processes import finish, start

JOIN = """
import os
import time

import torch
from torch.distributed import TCPStore

from retinanet.distributed import joined

asked, before = EARLIER
if before and os.environ["RANK"] == "0":  # the other process reads the store before this one sets anything
    store = TCPStore("localhost", int(os.environ["MASTER_PORT"]), is_master=False)
    while store.get(asked).decode() == before:
        time.sleep(0.02)
for _ in range(2):
    with joined() as processes:
        if ANNOUNCE and processes.rank == 0:
            processes.announced(True)
        total = processes.sum(torch.tensor(processes.rank + 1)).item()
        print(processes.announced(False), total, flush=True)
if ANNOUNCE:
    os._exit(1)  # as if it were killed
"""


def test_processes_that_are_started_again_read_nothing_that_the_earlier_ones_have_set(monkeypatch: pytest.MonkeyPatch):
    """torchrun hosts one store and starts all processes again with the same ranks and address."""
    store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    earlier = "", ""  # the key by which process 1 asks to join, and the value that it has set
    for announce in (True, False):
        code = JOIN.replace("ANNOUNCE", str(announce)).replace("EARLIER", repr(earlier))
        results = finish(start(2, "-c", code, port=store.port))
        expected = int(announce), f"{announce} 3\n" * 2
        assert [(result.code, result.out) for result in results] == [expected] * 2, results
        asked = f"{store.get('part').decode()} asked by 1"
        earlier = asked, store.get(asked).decode()


ALONE = """
import os
from datetime import timedelta

from retinanet import distributed
from retinanet.errors import ProcessError

os.environ["WORLD_SIZE"] = "2"
distributed.CONNECTION_TIMEOUT = timedelta(seconds=1)
try:
    with distributed.joined():
        print("joined")
except ProcessError as error:
    print(error)
"""


def test_a_process_that_waits_in_vain_for_the_others_ends_with_the_reason():
    (result,) = finish(start(1, "-c", ALONE))
    assert result.out.startswith("the processes of torchrun cannot reach one another: "), result
    assert result.out.count("\n") == 1
