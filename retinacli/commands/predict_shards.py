"""`retina predict --shard` and `--merge`."""

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from retinacli.failure import check_writable, fail
from retinacli.stop_signals import stoppable

if TYPE_CHECKING:
    from retinanet.inference.detector import Detector
    from retinanet.inference.shards import Shard

RANKS = (("RANK", "WORLD_SIZE"), ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"))  # of torchrun, of SLURM's arrays


def check_precision(shard: str | None, precision: str | None) -> None:
    """Fail if the shards, which several machines may detect, would differ in precision."""
    if shard is not None and precision == "auto":
        fail("--precision auto may differ from shard to shard; with --shard, name fp32, bf16 or fp16", 2)


def parse_shard(text: str, environment: Mapping[str, str] = os.environ) -> "Shard":
    """The shard I/N, or that which torchrun or a SLURM array gives this process, for `env`."""
    from retinanet.inference.shards import Shard

    if text == "env":
        for index, count in RANKS:
            if index in environment and count in environment:
                lowest = int(environment.get("SLURM_ARRAY_TASK_MIN", 0)) if index.startswith("SLURM") else 0
                return parse_shard(f"{int(environment[index]) - lowest}/{environment[count]}")
        wanted = " or ".join("/".join(pair) for pair in RANKS)
        fail(f"--shard env: the environment has no {wanted}", 2)
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        fail(f"--shard: {text!r} is no shard; expected I/N with I from 0 to N - 1, such as 0/4, or env", 2)
    return Shard(int(index), int(count))


def predict_shard(
    detector: "Detector",
    names: Sequence[str] | Path,
    shard: "Shard",
    folder: Path,
    settings: dict[str, Any],
    batch_size: int,
    labels: Sequence[int] | None,
) -> None:
    """Write the parts of a shard. names: of the images, or the file that lists them."""
    from retinacli.console import counter, message
    from retinanet.inference.predict import predict
    from retinanet.inference.shards import Names, write_shard

    check_writable(shard.file(folder, 0))
    started = time.perf_counter()
    with stoppable() as stop, counter("images") as progress:
        try:
            faults = write_shard(
                Names(names),
                shard,
                folder,
                settings,
                lambda files: predict(detector, files, batch_size, labels),
                detector,
                progress,
            )
        except KeyboardInterrupt:
            fail(f"{stop.name}; whole parts are kept, and the same command continues", stop.code)
    if faults:
        message(f"warning: number of images that cannot be read: {faults:,}; the parts say which")
    merge = shlex.join(["retina", "predict", str(folder), "--merge", "-o", "RESULTS.jsonl"])
    seconds = time.perf_counter() - started
    message(f"shard {shard.index}/{shard.count} is whole after {seconds:.0f} s; merge all with: {merge}")


def merge(sources: Sequence[str], output: Path | None) -> None:
    """Merge the parts of all shards."""
    from retinacli.console import message
    from retinanet.inference.shards import merge_shards

    if len(sources) != 1 or output is None:
        fail("--merge takes one folder of parts, and writes the file that -o names", 2)
    check_writable(output)
    images, faults = merge_shards(Path(sources[0]), output)
    message(f"wrote {output}: {images:,} images, each once; {faults:,} cannot be read")
    if faults:
        raise typer.Exit(1)
