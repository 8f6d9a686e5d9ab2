"""What a large data set takes: memory that a job needs to judge on some of its test images.

    pip install -e .    # once
    python benchmarks/memory.py                                            # 120,000 of 32 x 32
    python benchmarks/memory.py --images 1280000 --size 224 --judged 2000    # as large as ImageNet

The prepared data set is a file with holes in it, which says that it is as large and takes no room;
an image of it is black. What a job does before its own work is done: the file is opened and the
first test images are made pixels.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from faultline.data.splits import DataSet, images_of
from faultline.run.loading import load_dataset

TEST = 10_000


def write(path: Path, images: int, size: int) -> None:
    """A data set of so many images, colour, of which TEST are test images."""
    splits = {}
    for split, count in (("train", images - TEST), ("validation", 1), ("test", TEST)):
        shape = (count, 3, size, size)
        length = torch.Size(shape).numel()
        hole = torch.from_file(f"{path}.{split}", shared=True, size=length, dtype=torch.uint8)
        splits[split] = hole.view(shape), torch.zeros(count, dtype=torch.int64)
    data = DataSet("large", 10, (0.0, 1.0), 255, (0.5,) * 3, (0.5,) * 3, splits)
    with torch.serialization.skip_data():
        torch.save(data.to_tensors(), path)


def peak() -> float:
    """Of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=120_000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--judged", type=int, default=10_000)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        before = peak()
        images, _ = images_of(load_dataset(given.read, torch.device("cpu")), "test", given.judged)
        taken = peak() - before
        print(f"{taken:,.0f} MB, of which the {len(images):,} images {images.nbytes / 1e6:,.0f} MB")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.pt"
        write(path, given.images, given.size)
        print(f"{given.images:,} images of 3 x {given.size} x {given.size}, ", end="")
        print(f"a file of {path.stat().st_size / 1e9:,.1f} GB: a job takes ", end="", flush=True)
        command = [sys.executable, __file__, "--read", str(path), "--judged", str(given.judged)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
