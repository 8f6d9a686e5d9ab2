"""What a sweep found out: the correctness of every image under every variant, in one .npz file.

Later stages judge these facts; nothing here knows about scores or classes. No torch.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from faultline.base.files import load_arrays
from faultline.base.paths import place_of
from faultline.base.sampling import ALIKE, Alike, Strata


def pack(correct: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Flat arrays of named correctness vectors, bool [n] each, packed to bits."""
    arrays = {f"n:{name}": np.array(len(hits)) for name, hits in correct.items()}
    return arrays | {f"bits:{name}": np.packbits(hits) for name, hits in correct.items()}


def unpack(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of `pack`."""
    names = [key.split(":", 1)[1] for key in arrays if key.startswith("bits:")]
    return {
        name: np.unpackbits(arrays[f"bits:{name}"], count=int(arrays[f"n:{name}"])).astype(bool)
        for name in names
    }


def counted(correct: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Rows {images, correct, n, accuracy} of named correctness vectors, bool [n] each."""
    return [
        {"images": name, "correct": hits.sum(), "n": len(hits), "accuracy": hits.mean()}
        for name, hits in correct.items()
    ]


@dataclass(frozen=True)
class Facts:
    """The facts of one sweep over V variants.

    variants: columns that describe the variants, each an array of length V.
    base:     image set -> bool [n], images that the unablated network classifies correctly.
    correct:  image set -> bool [V, n], the same for every variant.
    changed:  image set -> int [V], images whose logits differ from those of the base network.
    nonfinite: image set -> int [V], images whose largest logit is NaN or infinite, which count as
              misclassified. Where there are none, nothing is stored.
    chance:   the accuracy of the best guess without looking: the share of the commonest label.
    strata:   how the images were drawn, where they do not stand for equally many; n images of each
              set. Whatever is told of accuracies goes by `design`.
    part:     int [n], into which of several parts each image was dealt, where variants that are
              drawn at random are drawn anew for each of them (see `dealt`).

    An image set is "clean" or the name of an attack. n may differ between image sets in principle,
    but the rows of all sets of one sweep are the same images in the same order.
    """

    variants: dict[str, np.ndarray]
    base: dict[str, np.ndarray]
    correct: dict[str, np.ndarray]
    changed: dict[str, np.ndarray]
    nonfinite: dict[str, np.ndarray] = field(default_factory=dict)
    chance: float = 0.0
    strata: Strata | None = None
    part: np.ndarray | None = None

    @property
    def design(self) -> Alike | Strata:
        """How the images were drawn."""
        return self.strata or ALIKE

    @property
    def stands_for(self) -> dict[str, int]:
        """A column of tables, beside n: the images that these stand for, where not all alike."""
        return {"stands_for": self.strata.total} if self.strata else {}

    def arrays(self) -> dict[str, np.ndarray]:
        """Flat arrays for np.savez: correctness packed to bits along the images."""
        arrays = {f"variant:{name}": column for name, column in self.variants.items()}
        arrays["chance:"] = np.array(self.chance)
        for images, base in self.base.items():
            arrays[f"n:{images}"] = np.array(len(base))
            arrays[f"base:{images}"] = np.packbits(base)
            arrays[f"correct:{images}"] = np.packbits(self.correct[images], axis=1)
            arrays[f"changed:{images}"] = self.changed[images]
        if self.strata:
            arrays["strata:stratum"] = self.strata.stratum.astype(np.uint8)
            arrays["strata:sizes"] = self.strata.sizes
        if self.part is not None:
            arrays["part:"] = self.part.astype(np.uint8)
        counts = self.nonfinite.items()
        return arrays | {f"nonfinite:{images}": count for images, count in counts if count.any()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Facts":
        """The inverse of `arrays`; takes a mapping such as an opened .npz file."""
        names = ["variant", "chance", "n", "base", "correct", "changed", "nonfinite"]
        names += ["strata", "part"]
        parts: dict[str, dict[str, np.ndarray]] = {part: {} for part in names}
        for key in arrays:
            part, name = key.split(":", 1)
            parts[part][name] = arrays[key]
        n = {images: int(count) for images, count in parts["n"].items()}
        changed = parts["changed"]
        return cls(
            variants=parts["variant"],
            base={
                i: np.unpackbits(bits, count=n[i]).astype(bool) for i, bits in parts["base"].items()
            },
            correct={
                i: np.unpackbits(bits, axis=1, count=n[i]).astype(bool)
                for i, bits in parts["correct"].items()
            },
            changed=changed,
            nonfinite={i: parts["nonfinite"].get(i, 0 * count) for i, count in changed.items()},
            chance=float(parts["chance"][""]),
            strata=Strata(**parts["strata"]) if parts["strata"] else None,
            part=parts["part"].get(""),
        )

    def dealt(self, drawn: list["Facts"], part: np.ndarray) -> "Facts":
        """These, and the variants of `drawn`: of each part of the images the facts of as many
        variants, drawn anew, on the images of that part alone. Variant by variant they are told as
        one; numbers of images are added up."""

        def counts(name: str) -> dict[str, np.ndarray]:
            return {
                images: np.sum([getattr(of, name)[images] for of in drawn], axis=0)
                for images in self.base
            }

        correct = {}
        for images, hits in self.correct.items():
            correct[images] = np.empty((len(drawn[0].correct[images]), hits.shape[1]), bool)
            for index, of in enumerate(drawn):
                correct[images][:, part == index] = of.correct[images]
        whole = replace(
            drawn[0], correct=correct, changed=counts("changed"), nonfinite=counts("nonfinite")
        )
        return replace(Facts.concatenate([self, whole]), part=part)

    @classmethod
    def concatenate(cls, parts: list["Facts"]) -> "Facts":
        """One Facts of the variants of all parts, in order; the base network must be the same."""
        first = parts[0]

        def join(name: str) -> dict[str, np.ndarray]:
            whole = getattr(first, name)
            return {key: np.concatenate([getattr(p, name)[key] for p in parts]) for key in whole}

        joined: dict[str, Any] = {
            name: join(name) for name in ("variants", "correct", "changed", "nonfinite")
        }
        return replace(first, **joined)


def load_facts(*paths: str) -> Facts:
    """The facts of the files of one or more sweeps over the same base network, as one."""
    return Facts.concatenate([Facts.from_arrays(load_arrays(path)) for path in paths])


class StoredFacts(Mapping[str, Facts]):
    """Layer -> its facts, from files in the folders of layers. They are read when they are asked
    for, as those of all layers may not fit into memory."""

    def __init__(self, paths: Iterable[str]):
        self._paths: dict[str, list[str]] = {}
        for path in paths:
            self._paths.setdefault(str(place_of(path)["layer"]), []).append(path)

    def __getitem__(self, layer: str) -> Facts:
        return load_facts(*self._paths[layer])

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


CHANGES = [
    *("images", "correct", "n", "accuracy", "base_accuracy"),
    *("difference", "ci_low", "ci_high", "p_value", "changed_outputs"),
]
