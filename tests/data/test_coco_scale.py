import json
import random
import subprocess
import sys

import pytest

N_IMAGES, N_BOXES = 118_287, 860_001  # COCO train2017

PROGRAM = """
import json, resource, sys
from pathlib import Path
from retinanet.data.formats.build import build_dataset
from retinanet.data.formats.coco import read_coco

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

before = resident_mb()
dataset = build_dataset(read_coco(Path(sys.argv[1]).parent, Path(sys.argv[1])), None)
growth = resident_mb() - before
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps([len(dataset), len(dataset.boxes), growth, peak]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_file_of_cocos_size_fits(tmp_path):
    path = tmp_path / "instances.json"
    write(path)
    assert path.stat().st_size > 440e6
    result = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True)
    path.unlink()
    n_images, n_boxes, growth, peak = json.loads(result.stdout)
    assert (n_images, n_boxes) == (N_IMAGES, N_BOXES)
    assert growth <= 300
    assert peak < 3000


def write(path):
    """Entries with all of COCO's fields; polygons of 24 points bring the file to the size of the real one."""
    rng = random.Random(0)
    polygons = [", ".join(f"{rng.uniform(0, 640):.2f}" for _ in range(48)) for _ in range(500)]
    with path.open("w") as file:
        file.write('{"info": {}, "licenses": [], "images": [')
        for i in range(1, N_IMAGES + 1):
            file.write(
                f'{{"license": 3, "file_name": "{i:012d}.jpg", "coco_url": "http://images.cocodataset.org/train2017/'
                f'{i:012d}.jpg", "height": 480, "width": 640, "date_captured": "2013-11-14 16:28:13", "flickr_url": '
                f'"http://farm4.staticflickr.com/3153/2970773875_164f0c0b83_z.jpg", "id": {i}}}' + ", " * (i < N_IMAGES)
            )
        file.write('], "annotations": [')
        for i in range(1, N_BOXES + 1):
            file.write(
                f'{{"segmentation": [[{polygons[i % 500]}]], "area": {i % 5000}.5, "iscrowd": 0, "image_id": '
                f'{i * 7 % N_IMAGES + 1}, "bbox": [{i % 600}.5, {i % 400}.25, {i % 39}.73, {i % 79}.5], '
                f'"category_id": {i % 80 + 1}, "id": {i}}}' + ", " * (i < N_BOXES)
            )
        categories = ", ".join(f'{{"supercategory": "s", "id": {i}, "name": "c{i}"}}' for i in range(1, 81))
        file.write(f'], "categories": [{categories}]}}')
