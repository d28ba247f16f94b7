"""Write the first test images of the embedded data set as enlarged PNG files: save_shapes.py FOLDER COUNT"""

import sys
from pathlib import Path

from PIL import Image

from retinanet.data.shapes import SIDE, open_shapes

folder, count = Path(sys.argv[1]), int(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
dataset = open_shapes("test")
for index in range(count):
    picture = Image.fromarray(dataset.image(index)).resize((3 * SIDE, 3 * SIDE), Image.Resampling.BILINEAR)
    picture.save(folder / dataset.files[index])
