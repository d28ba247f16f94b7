"""Prints what `auto` becomes in training and evaluation: python chosen_precision.py FOLDER, in several processes.

bf16 is faster in the first process, fp32 in the others.
"""

import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace


def main(folder: Path) -> None:
    from retinanet.config_file import load_config
    from retinanet.distributed import joined
    from retinanet.evaluation.eval_input import open_in_all
    from retinanet.training.setup import start_run

    with joined() as processes:
        own = "fp32" if processes.rank else "bf16"
        times = (1, 2) if processes.rank else (2, 1)
        run = start_run(load_config(folder / "tiny.yaml"), folder / "run", False, False, times=lambda passes: times)
        with closing(run.folder):
            trained = run.config.train.precision

        def open_(precision: str) -> SimpleNamespace:
            return SimpleNamespace(model=SimpleNamespace(precision=own if precision == "auto" else precision))

        evaluated = open_in_all(processes, open_, "auto").model.precision
        print(trained, evaluated)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
