"""A run that is resumed after SIGKILL at seeded moments, also while writing a checkpoint, gives the same result."""

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.support import RETINA, same_run

SCRIPT = Path(__file__).parents[1] / "helpers" / "signalled_at.py"
KINDS = {  # eight epochs of four steps
    "sgd": ("train.optimizer=sgd", "train.ema=null"),
    "two loader workers, averaged weights": ("data.workers=2", "train.augment.jitter=0.5"),
    "accumulation, exponential normaliser": ("train.accumulate=2", "train.batch_size=1", "loss.normalizer=exponential"),
    "statistics that are learned, clipped": ("model.trunk_norm=bn", "train.clip_norm=1", "train.optimizer=sgd"),
}
PLACES = (  # a kill comes before or after the n-th call of this function; the highest n
    ("os:fsync", "before", 9),
    ("os:fsync", "after", 9),
    ("os:replace", "before", 6),
    ("os:replace", "after", 6),
    ("retinanet.checkpoints.checkpoint:save_file", "before", 2),
    ("retinanet.checkpoints.checkpoint:save_file", "after", 2),
    ("retinanet.inference.torch_model:detect_stages", "before", 4),
    ("retinanet.training.step:lr_factor", "after", 4),
)


def after_lines(command: list[str], cwd: Path, lines: int, seconds: float) -> int:
    """Start a command and kill it after so many lines of progress and so many seconds. Returns: the exit code."""
    with subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines -= line.startswith("epoch ")
            if lines < 0 or "; writes " in line and lines == 0:
                break
        time.sleep(seconds)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        workers = [int(pid) for pid in children.read_text().split()] if children.exists() else []
        process.kill()
        code = process.wait()
    for _ in range(100):
        workers = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
        if not workers:
            return code
        time.sleep(0.1)
    raise AssertionError(f"processes {workers} outlived their run")


def kills(tiny: Path, kind: str, seed: int) -> int:
    """Returns: how many kills a run survived, after which it equals a run without any."""
    rng = random.Random(seed)
    settings = [
        part for text in ("train.batch_size=2", "train.checkpoint_every=3", *KINDS[kind]) for part in ("--set", text)
    ]
    arguments = ["train", "tiny.yaml", "--epochs", "8", *settings, "-o"]
    assert subprocess.run([RETINA, *arguments, f"whole{seed}"], cwd=tiny, capture_output=True).returncode == 0
    run, made = f"killed{seed}", 0
    places = [place for i, place in enumerate(PLACES) if i % len(KINDS) == seed] + [rng.choice(PLACES)]
    for place in rng.sample([*places, *[None] * 4], len(places) + 4):
        resume = ["--resume"] if (tiny / run / "config.yaml").exists() else []
        if place is None:
            code = after_lines([RETINA, *arguments, run, *resume], tiny, rng.randrange(4), rng.uniform(0, 0.5))
        else:
            name, when, most = place
            command = [
                sys.executable,
                str(SCRIPT),
                name,
                str(rng.randint(1, most)),
                when,
                "SIGKILL",
                *arguments,
                run,
                *resume,
            ]
            code = subprocess.run(command, cwd=tiny, capture_output=True).returncode
        assert code == -signal.SIGKILL, (kind, place, code)
        made += 1
    done = subprocess.run([RETINA, *arguments, run, "--resume"], cwd=tiny, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    same_run(tiny / f"whole{seed}", tiny / run)
    assert not [path.name for path in (tiny / run).iterdir() if path.name.startswith(".")]
    return made


@pytest.mark.slow
def test_a_run_survives_every_kill(tiny: Path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with ThreadPoolExecutor(min(len(KINDS), os.cpu_count() or 1)) as pool:
        made = list(pool.map(kills, [tiny] * len(KINDS), KINDS, range(len(KINDS))))
    print(f"kills survived with equal weights and log: {sum(made)} of {sum(made)}")
    assert sum(made) >= 25
