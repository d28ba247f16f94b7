"""Detect objects in the images of a folder with Ray Data, which shares them among the machines of a cluster.

ray_data.py WEIGHTS FOLDER OUTPUT [--actors N] [--gpus] [--batch-size N] [--score S]

OUTPUT gets a line of JSON for each image, as `retina predict --merge` writes them. The weights and the images must be
at the same place on all machines. `pip install 'retina-detector[ray]'` installs Ray.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import retinanet
from retinanet.inference.predict import find_images
from retinanet.inference.results import image_document


class Detect:
    """Detects objects in batches of files; Ray makes one in each of its actors, where it loads the weights once."""

    def __init__(self, weights: str, device: str, score: float):
        self.detector = retinanet.load(weights, device, score)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        files = [str(file) for file in batch["file"]]
        found = retinanet.predict(self.detector, files, batch_size=len(files))
        documents = [image_document(item, self.detector) for item in found]
        positions = batch["position"].tolist()
        lines = [json.dumps({"position": i, **each}) for i, each in zip(positions, documents, strict=True)]
        return {"position": batch["position"], "line": np.array(lines)}


def main() -> None:
    import ray.data  # here, so that Detect can be used without it

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights")
    parser.add_argument("folder")
    parser.add_argument("output", type=Path)
    parser.add_argument("--actors", type=int, default=1, help="number of copies of the detector")
    parser.add_argument("--gpus", action="store_true", help="give each actor a GPU")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--score", type=float, default=0.3, help="score that detections must exceed")
    options = parser.parse_args()

    weights = Path(options.weights).resolve() if Path(options.weights).exists() else options.weights
    files = [str(file.resolve()) for file in find_images([options.folder])]
    rows = ray.data.from_items([{"position": i, "file": file} for i, file in enumerate(files)])
    detected = rows.map_batches(
        Detect,
        fn_constructor_args=(str(weights), "cuda" if options.gpus else "cpu", options.score),
        batch_size=options.batch_size,
        compute=ray.data.ActorPoolStrategy(size=options.actors),
        num_gpus=1 if options.gpus else 0,
    )
    with options.output.open("w", encoding="utf-8") as lines:
        for row in detected.sort("position").iter_rows():
            lines.write(row["line"] + "\n")


if __name__ == "__main__":
    main()
