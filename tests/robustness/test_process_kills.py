"""Runs of several processes survive kills of any process, or of the launcher, at seeded moments."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.processes import finish, lines_of, run, start
from helpers.support import RETINA, TINY_MODEL, model_weights, same_run, write_training

pytestmark = pytest.mark.slow
OPTIONS = ["train", "killed.yaml", "--set", "train.checkpoint_every=2", "-o"]
TORCHRUN = str(Path(sys.executable).with_name("torchrun"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set of 24 and 8 images, and `killed.yaml`, which trains on it for 48 steps."""
    return write_training(
        tmp_path_factory.mktemp("killed") / "killed.yaml",
        train=24,
        val=8,
        workers=2,
        sections=f"model: {TINY_MODEL[:-1]}, trunk_norm: gn}}\n"
        "train: {epochs: 12, batch_size: 6, log_every: 1, eval_every: 6,\n"
        "        optimizer: adamw, lr: 0.0001, ema: 0.9, clip_norm: 1}\n",
    )


@pytest.fixture(scope="module")
def whole(data: Path) -> Path:
    """The folder of a run of three processes that nothing interrupted."""
    results = run(3, "-m", "retinacli", *OPTIONS, "whole", cwd=data)
    assert [result.code for result in results] == [0, 0, 0], results
    return data / "whole"


def resume(folder: Path) -> list[str]:
    return ["--resume"] if (folder / "config.yaml").exists() else []


def processes_in(folder: Path) -> list[int]:
    """The processes whose working folder is `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd") == str(folder):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def wait_until_gone(folder: Path) -> None:
    for _ in range(300):
        if not processes_in(folder):
            return
        time.sleep(0.1)
    raise AssertionError(f"processes {processes_in(folder)} outlive their run")


def test_a_run_of_three_survives_kills_of_any_process(data: Path, whole: Path):
    rng, made, folder = random.Random(0), 0, data / "ranks"
    while made < 8:
        processes = start(3, "-m", "retinacli", *OPTIONS, "ranks", *resume(folder), cwd=data)
        steps = rng.randint(0, 2)
        for line in lines_of(processes[0]):
            steps -= " step " in line and line.startswith("epoch ")
            if steps < 0 or "; writes to" in line and steps == 0:
                break
        time.sleep(rng.uniform(0, 0.5))
        victim = rng.randrange(3)
        processes[victim].kill()
        codes = [result.code for result in finish(processes, 120)]
        if codes == [0, 0, 0]:  # it had ended before the kill
            break
        assert codes.pop(victim) == -signal.SIGKILL
        assert codes == [1, 1]
        wait_until_gone(data)
        made += 1
    print(f"kills of one of three processes: {made}")
    results = run(3, "-m", "retinacli", *OPTIONS, "ranks", *resume(folder), cwd=data)
    assert [result.code for result in results] == [0, 0, 0], results
    same_run(whole, folder)
    assert made >= 5


def test_a_killed_launcher_leaves_nothing_behind_and_any_number_continues(data: Path, whole: Path):
    rng, folder = random.Random(1), data / "launched"
    for count in (2, 3, 1, 2, 3):
        command = [TORCHRUN, "--standalone", f"--nproc-per-node={count}", "-m", "retinacli", *OPTIONS, "launched"]
        with subprocess.Popen(
            [*command, "--resume"], cwd=data, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as launcher:
            for line in lines_of(launcher):
                if line.startswith("epoch "):
                    break
            time.sleep(rng.uniform(0, 1))
            launcher.kill()
        wait_until_gone(data)
    done = subprocess.run([*command, "--resume"], cwd=data, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(model_weights(folder), model_weights(whole), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_retina_with_devices_stops_all_with_its_exit_code(data: Path, number: int, code: int):
    folder = data / f"devices{code}"
    command = [RETINA, *OPTIONS, folder.name, "--devices", "2"]
    with subprocess.Popen(command, cwd=data, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as launcher:
        for line in lines_of(launcher):
            if line.startswith("epoch "):
                break
        launcher.send_signal(number)
        out, err = launcher.communicate(timeout=120)
    assert launcher.returncode == code
    name = "interrupted" if code == 130 else "terminated"
    told = [line for line in err.splitlines() if not line.startswith("epoch ")]
    notice = f"retina: {name}: finishing the step and saving a checkpoint; a second signal ends the run at once"
    assert out == "" and told[0] == notice
    assert told[1:] and told[1].startswith(f"retina: {name} and saved after step ")
    assert told[1].endswith(f"continue with: retina train killed.yaml --set train.checkpoint_every=2 -o {folder.name} "
                            "--devices 2 --resume")  # fmt: skip
    assert len(told) == 2
    done = subprocess.run([*command, "--resume"], cwd=data, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_torchrun_starts_a_failed_run_again(data: Path):
    arguments = ["--standalone", "--nproc-per-node=2", "--max-restarts=1", "-m", "retinacli", *OPTIONS, "again"]
    with subprocess.Popen([TORCHRUN, *arguments, "--resume"], cwd=data, stderr=subprocess.PIPE, text=True) as launcher:
        for line in lines_of(launcher):
            if " step 4/" in line:
                break
        workers = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        os.kill(int(workers[-1]), signal.SIGKILL)
        _, err = launcher.communicate(timeout=600)
    assert launcher.returncode == 0, err
    assert " step 48/48 " in err
    assert err.count("; writes to again") == 1  # torchrun may end the other process before it notices
