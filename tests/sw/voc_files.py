"""Images with boxes as Pascal VOC has them."""

import numpy as np
from PIL import Image


def annotation(width, height, objects):
    """The XML of an image with ``objects``: (name, left, upper, right, lower) in pixels."""
    boxes = "".join(f"<object><name>{name}</name><difficult>0</difficult><bndbox>" + "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        + "</bndbox></object>" for name, *box in objects)
    return (f"<annotation><filename>x.png</filename><size><width>{width}</width><height>{height}</height>"
            f"<depth>3</depth></size>{boxes}</annotation>")


def write_voc(folder, rng, counts, size=(24, 32)):
    """Images of ``size`` (rows, columns) with one or two bright squares each, on "red" or "blue" ones; ``counts``: how
    many each list (train, val) names. What was written, by list: names and objects."""
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    written, number = {}, 0
    for split, count in counts.items():
        written[split] = {}
        for _ in range(count):
            name, number = f"image_{number}", number + 1
            pixels, objects = np.zeros((*size, 3), np.uint8), []
            for half in rng.permutation(2)[:rng.integers(1, 3)]:
                kind, side = int(rng.integers(2)), int(rng.integers(6, 11))
                left = half * size[1] // 2 + int(rng.integers(0, size[1] // 2 - side))
                upper = int(rng.integers(0, size[0] - side))
                pixels[upper:upper + side, left:left + side, 2 * kind] = 255
                objects.append((("red", "blue")[kind], left, upper, left + side, upper + side))
            Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.png")
            (folder / "Annotations" / f"{name}.xml").write_text(annotation(size[1], size[0], objects))
            written[split][name] = objects
        (folder / f"ImageSets/Main/{split}.txt").write_text("".join(f"{name}\n" for name in written[split]))
    return written
