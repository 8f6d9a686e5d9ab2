"""tell which units of a network change most of its own predictions when they are removed, from
images without labels, in minutes; the exit status is 1 where one changes more than --limit"""

import argparse
import sys
from pathlib import Path

from faultline.base.errors import UserError

CLASSES = 1000


def take(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add = parser.add_argument
    add("network", help="file.py:function, torchvision:NAME, or a built-in network")
    add("--images", type=Path, required=True, help="a folder of images, or a .npy or .npz of them")
    add("--weights", type=Path, help="its state dict (default: as the function gives them)")
    add("--key", help="the name of the state dict in that file, where it holds several")
    add("--minutes", type=float, default=1.0, help="that it may take (default: 1)")
    add("--limit", type=float, default=0.05, help="share that a unit may change (default: 0.05)")
    add("--classes", type=int, help=f"(default: those of the weights' last layer, else {CLASSES})")
    add("--size", type=int, default=224, help="images of a folder are made size x size")
    add("--grey", action="store_true", help="with one channel")
    add("--mean", type=float, nargs="+", help="per channel, in 0..1, to normalise with, and --std")
    add("--std", type=float, nargs="+")
    add("--most", type=int, default=200, help="images that are looked at (default: 200)")
    add("--threads", type=int, default=1, help="of torch, and to read images (default: 1)")
    add("--out", type=Path, default=Path("check"), help="folder of check.html and check.json")


def main(given: argparse.Namespace) -> None:
    """Print the table, write the page and the numbers, and end with what they say."""
    if (given.mean is None) != (given.std is None):
        raise UserError("--mean and --std go together; give both")
    import json

    import torch

    from faultline.base import plugins
    from faultline.base.files import load_state_dict, save_text
    from faultline.base.memory import keep_freed
    from faultline.data.unlabelled import load_images
    from faultline.networks.registry import build
    from faultline.networks.weights import load_weights
    from faultline.studies.check import Check, check

    keep_freed()
    torch.set_num_threads(given.threads)
    images = load_images(
        given.images,
        size=given.size,
        channels=1 if given.grey else 3,
        most=given.most,
        threads=given.threads,
    )
    state = load_state_dict(given.weights, given.key) if given.weights else None
    matrices = [value for value in (state or {}).values() if value.dim() >= 2]
    name = given.network
    if plugins.is_own(name) or plugins.of_torchvision(name):
        if plugins.is_own(name):
            plugins.check("NETWORK", name)
        plugins.NETWORKS[name] = {"function": name, "normalise": given.mean is not None}
    network = build(
        name,
        shape=tuple(images.shape[1:]),
        classes=given.classes or (len(matrices[-1]) if matrices else CLASSES),
        mean=given.mean or 0.0,
        std=given.std or 1.0,
        seed=0,
    )
    if state is not None:
        for line in load_weights(network, state, origin=f"{given.weights}, for {name}"):
            print(line)
    shown: list[Check] = []

    def tell(found: Check) -> None:
        if not shown:
            print(f"{found}\n", flush=True)
        shown.append(found)

    found = check(network, images, minutes=given.minutes, limit=given.limit, tell=tell)
    if len(shown) > 1:
        print(found)
    given.out.mkdir(parents=True, exist_ok=True)
    page = given.out / "check.html"
    save_text(found.page(f"{Path(name).name}: {len(images)} images"), page)
    save_text(json.dumps(found.facts()), page.with_suffix(".json"))
    print(f"\n{page}, and its numbers in {page.with_suffix('.json')}")
    sys.exit(bool(len(found.fragile)))
