"""How fast each recipe trains, against the bound that its forwards and backwards set.

    pip install -e .    # once
    python benchmarks/training.py lsa_mnist small_conv --repetitions 5

A recipe needs a known number of passes over its batch: F, a forward alone; G, a forward and the
backward to the images (parameters frozen); T, a forward and the backward to the parameters; O, the
optimiser's step. Each is timed by itself in the same repetition, written plainly, and the bound is
their sum. The share is bound / time of a whole step of
`faultline.training.recipes`, above 1 by noise only.
"""

import argparse
import statistics
import time

import torch
from torch.nn.functional import cross_entropy

from faultline.networks.layers import layers
from faultline.networks.registry import build
from faultline.training.recipes import loss_of
from faultline.training.registry import base_of

SHAPES = {"lsa_moons": (2,), "small_conv": (1, 8, 8), "lsa_mnist": (1, 28, 28)}
STEPS, BATCH = 5, 100
RECIPES = ("standard", "at-fgsm", "at-fast", "at-pgd", "at-apgd", "at-trades")


def passes(recipe: str) -> dict[str, int]:
    """How many of each pass a step of the recipe needs."""
    base = base_of(recipe)
    gradients = {"standard": 0, "at-fgsm": 1, "at-fast": 1}.get(base, STEPS)
    forwards = int(base in ("at-apgd", "at-trades"))  # the last point; the divergence's target
    both = 2 if recipe.endswith("-lr") or base == "at-trades" else 1
    return {"F": forwards, "G": gradients, "T": both, "O": 1}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(SHAPES)}; all by default")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="training steps per repetition")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(
        f"torch {torch.__version__}, {chosen.threads} thread(s), CPU; batch {BATCH}, {STEPS} steps"
    )
    for name in chosen.networks or SHAPES:
        print(f"{name}: images/s and share of the bound, median (lowest to highest)")
        for recipe, (speeds, shares) in measure(name, chosen.repetitions, chosen.steps).items():
            print(f"  {recipe:13} {spread(speeds, 0):24} {spread(shares, 2)}", flush=True)


def measure(name: str, repetitions: int, steps: int) -> dict[str, tuple[list, list]]:
    """recipe -> (images per second, share of the bound) of every repetition."""
    shape = SHAPES[name]
    torch.manual_seed(0)
    images, labels = torch.rand(BATCH, *shape), torch.randint(0, 2, (BATCH,))
    network = build(
        name, shape=shape, classes=2 if len(shape) == 1 else 10, mean=0.5, std=0.3, seed=0
    )
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    regularised = dict.fromkeys(list(layers(network))[:-1][-2:], 0.3)

    def forward():
        with torch.no_grad():
            network(images)

    def to_images():
        x = images.clone().requires_grad_()
        torch.autograd.grad(cross_entropy(network(x), labels, reduction="sum"), x)

    def to_parameters():
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(network(images), labels).backward()

    def step(recipe):
        settings = {
            "recipe": recipe,
            "adversarial": {
                **{"eps": 0.1, "norm": "linf", "steps": STEPS, "step_size": None, "beta": 6.0}
            },
            "regularisation": {"at": "activation"},
        }
        given = {"settings": settings, "bounds": (0.0, 1.0), "seed": 0}
        given["regularised"] = regularised if recipe.endswith("-lr") else None
        loss = loss_of(network, images, labels, **given).total
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    recipes = [*RECIPES, *(f"{recipe}-lr" for recipe in RECIPES[1:])]
    found = {recipe: ([], []) for recipe in recipes}
    for _ in range(repetitions):
        for recipe in recipes:  # the parts beside each recipe, as a machine's speed drifts
            network.eval().requires_grad_(False)
            costs = {"F": seconds(forward, steps), "G": seconds(to_images, steps)}
            network.train().requires_grad_(True)
            costs |= {"T": seconds(to_parameters, steps), "O": seconds(optimizer.step, steps)}
            taken = seconds(lambda recipe=recipe: step(recipe), steps)
            bound = sum(count * costs[part] for part, count in passes(recipe).items())
            found[recipe][0].append(BATCH / taken)
            found[recipe][1].append(bound / taken)
    return found


def seconds(function, times: int) -> float:
    """The median time of a call, in seconds of the CPU: other load counts little."""
    function()
    taken = []
    for _ in range(times):
        began = time.process_time()
        function()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


def spread(values: list[float], digits: int) -> str:
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    main()
