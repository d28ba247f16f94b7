"""Trains `CASES` one after another: python train_cases.py CONFIG FOLDER, in one process or in several."""

import sys
from pathlib import Path

CASES = {  # (overrides, steps)
    "sgd": (["data.workers=2"], 1),
    "sgd, six steps": ([], 6),
    "adamw, average, clipping": (["train.optimizer=adamw", "train.ema=0.9", "train.clip_norm=0.1"], 1),
    "accumulation of a group of five": (["train.accumulate=8", "train.batch_size=4"], 1),
    "exponential normaliser": (["loss.normalizer=exponential"], 1),
    "varifocal, its normaliser, atss, level scales": (
        [
            "loss.classification=varifocal",
            "loss.normalizer=exponential",
            "anchors.matching=atss",
            "model.level_scales=true",
        ],
        1,
    ),
    "ohem": (["loss.classification=ohem"], 1),
    "sampled": (["loss.classification=sampled"], 1),
    "giou, quality_focal": (["loss.box=giou", "loss.classification=quality_focal", "train.batch_size=4"], 1),
    "bf16": (["train.precision=bf16"], 1),
}


def train_cases(config: Path, folder: Path) -> None:
    from retinanet.config_file import load_config  # here, since each loader worker imports this file
    from retinanet.training.train import train

    for name, (overrides, steps) in CASES.items():
        train(load_config(config, [*overrides, f"train.steps={steps}"]), folder / name)


if __name__ == "__main__":
    from retinanet.distributed import joined

    with joined():
        train_cases(*map(Path, sys.argv[1:]))
