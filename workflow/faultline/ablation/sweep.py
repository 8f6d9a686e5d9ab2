"""The sweep: evaluates many variants of a network on fixed images, exactly.

`engines` says how one variant is evaluated.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from faultline.ablation.engines import CHECKED, Engine, engine_of, fitting
from faultline.ablation.facts import Facts
from faultline.ablation.inputs import checked_images, checked_variants
from faultline.ablation.tracing import Traced, Untraceable
from faultline.ablation.variants import Mask, Variant, is_behind
from faultline.ablation.whole import NO_ACTIVATION, Attack, Loop, bytes_of, check_fresh, logits_by
from faultline.base import pace
from faultline.base.errors import UserError
from faultline.base.inputs import check_count
from faultline.base.memory import halving
from faultline.networks.evaluation import (
    NOT_FINITE,
    chance,
    difference,
    exact,
    finite,
    predict,
    scale,
)
from faultline.networks.layers import every_layer, filters, kind
from faultline.networks.plain import REMOVE, plain, plain_layer, preserved

TOLERANCE = 1e-5
"""Logits that differ by less than this share of the largest one count as equal."""


@halving
@torch.inference_mode(False)
@exact()
def sweep(
    network: nn.Module,
    variants: Iterable[Variant],
    image_sets: dict[str, Tensor],
    labels: Tensor,
    *,
    ablated: Sequence[str],
    attacks: dict[str, Attack] | None = None,
    tops: Sequence[int] = (1,),
    batch_size: int = 500,
    memory: float | None = None,
    say: Callable[[str], None] = print,
) -> Facts:
    """Which images every variant classifies correctly.

    image_sets: name -> float32 images [n, ...] in pixel units, the same n images each.
    ablated: names of the layers that the variants change. attacks: name -> function of (network,
    images, labels, *, batch_size) that re-crafts the clean images on each variant (target
    "ablated"); None where the image sets already hold the adversarial images. tops: an image is
    correct if its label is among the best so many classes and its largest logit is a finite number;
    of those above 1 the facts are called "<image set>@<top>". batch_size: images at once; fewer
    where `memory`, the bytes that may be used on top of the images, asks for it. The network itself
    is never changed. One that cannot be traced is run as a whole for each variant. UserError where
    variants, images, labels and network do not fit together.
    """
    crafted = attacks or {}
    check_count(batch_size, "batch_size")
    labels = checked_images(network, image_sets, labels, attacks=crafted, tops=tops)
    network = _ready(network, ablated, next(iter(image_sets.values())))
    variants = checked_variants(variants, network, ablated)
    images = next(iter(image_sets.values()))
    engine = engine_of(network, variants, ablated, images, say, crafted=bool(crafted))
    batch_size = fitting(batch_size, memory, engine.bytes_per_image(bool(crafted)))
    work = dict.fromkeys(image_sets, GIVEN if crafted else 1.0) | dict.fromkeys(crafted, 1.0)
    outcomes = _Outcomes(work, variants, labels, tops=tops, say=say)
    seen: set[int | None] = set()
    with torch.no_grad():
        if crafted:
            seen = _recrafted(outcomes, engine, image_sets["clean"], crafted, batch_size)
        for name, images in image_sets.items():
            _fixed(outcomes, engine, name, images, seen if name == "clean" else set(), batch_size)
    return outcomes.facts()


def _recrafted(
    outcomes: "_Outcomes",
    engine: Engine,
    clean: Tensor,
    attacks: dict[str, Attack],
    batch_size: int,
) -> set[int | None]:
    """Judges every variant on images crafted anew on it. Places of the variants that were judged
    on the clean images, too, as an attack has run these; None stands for the network itself."""
    seen: set[int | None] = set()
    every = slice(0, len(clean))
    for name, attack in attacks.items():
        # an attack draws for all images at once, and splits them itself
        attack = partial(attack, batch_size=batch_size)
        evaluate = engine.recrafted(clean, outcomes.labels, attack, batch_size)
        logits, on_clean = evaluate(None)
        judge, clean_judge = outcomes.begin(name, every, logits), None
        if on_clean is not None and not seen:
            clean_judge = outcomes.begin("clean", every, on_clean)
            seen.add(None)
        # an attack takes the less time the more is removed: in this order the first tell of all
        for index in np.random.default_rng(0).permutation(outcomes.distinct).tolist():
            logits, on_clean = evaluate(outcomes.variants[index])
            outcomes.put(name, index, every, judge(None, logits))
            if clean_judge and on_clean is not None:
                outcomes.put("clean", index, every, clean_judge(None, on_clean))
                seen.add(index)
    outcomes.note()
    return seen


def _fixed(
    outcomes: "_Outcomes",
    engine: Engine,
    name: str,
    images: Tensor,
    seen: set[int | None],
    batch_size: int,
) -> None:
    """Judges the variants that are not in `seen` on one image set, batch by batch."""
    left = [index for index in outcomes.distinct if index not in seen]
    if None in seen and not left:
        return
    for begin in range(0, len(images), batch_size):
        part = slice(begin, min(begin + batch_size, len(images)))
        evaluate = engine.fixed(images[part], batch_size)
        logits = logits_by(evaluate, None)
        new = None not in seen
        judge = outcomes.begin(name, part, logits) if new else outcomes.judge(part, logits)
        found = evaluate([outcomes.variants[index] for index in left])
        for index, (rows, logits_there) in zip(left, found, strict=True):
            outcomes.put(name, index, part, judge(rows, logits_there))
        outcomes.note()


def logits_of(
    network: nn.Module, variants: Sequence[Variant], images: Tensor, *, ablated: Sequence[str]
) -> Iterator[Tensor]:
    """Logits [n, classes] of the network, then of every variant, on one batch of images."""
    network = _ready(network, ablated, images)
    with torch.no_grad():
        evaluate = engine_of(network, variants, ablated, images, print).fixed(images)
        base = logits_by(evaluate, None)
        yield base
        distinct = [variant for variant in variants if variant.key is not None]
        found = evaluate(distinct)
        for variant in variants:
            rows, logits = next(found) if variant.key is not None else (None, None)
            whole = base.clone()
            if logits is not None:
                whole[slice(None) if rows is None else rows] = logits
            yield whole


GIVEN = 0.1
"""What judging images that are given takes of the time of judging those that are crafted (ours)."""

MOVED, TIED, INFINITE = -3, -2, -1
"""Rows of a verdict, see `_Judge`."""

PENDING = 512
"""Verdicts that stay on the device before they are fetched together, as a GPU waits for that."""


class _Outcomes:
    """The verdicts on all variants of a sweep, on each image set, as far as they are known.

    work: image set -> how much of the time it takes, beside the others. distinct: places of the
    variants to be evaluated, one of those that are equal networks.
    """

    def __init__(
        self,
        work: Mapping[str, float],
        variants: Sequence[Variant],
        labels: Tensor,
        *,
        tops: Sequence[int],
        say: Callable[[str], None],
    ):
        self.variants, self.labels, self.tops, self.say = variants, labels, tops, say
        n, self.work = len(labels), work
        self.records = {name: _Record(len(tops), len(variants), n) for name in work}
        self.pending: list[tuple[str, int, slice, Tensor]] = []
        self.total = len(variants) * n * len(work)
        self.clock = _Clock(len(variants), (len(variants) + 1) * n * sum(work.values()), say)
        self.times = Counter(variant.key for variant in variants)
        self.first: dict[object, int] = {}
        for index, variant in enumerate(variants):
            self.first.setdefault(variant.key, index)
        self.distinct = [index for key, index in self.first.items() if key is not None]

    def judge(self, part: slice, logits: Tensor) -> "_Judge":
        """Of some images, by the logits of the network itself."""
        return _Judge(logits, self.labels[part], self.tops)

    def begin(self, name: str, part: slice, logits: Tensor) -> "_Judge":
        """The same, and notes the verdict on the network itself and on all that equal it."""
        judge = self.judge(part, logits)
        self._keep(name, -1, part, judge.base)
        self._tick(name, part)
        if None in self.first:
            self.put(name, self.first[None], part, judge.base)
        return judge

    def put(self, name: str, index: int, part: slice, verdict: Tensor) -> None:
        """Takes the verdict on one variant, see `_Judge`."""
        self._keep(name, index, part, verdict)
        self._tick(name, part, self.times[self.variants[index].key])

    def _tick(self, name: str, part: slice, times: int = 1) -> None:
        images = (part.stop - part.start) * times
        self.clock.tick(images, images * self.work[name])

    def _keep(self, name: str, index: int, part: slice, verdict: Tensor) -> None:
        self.pending.append((name, index, part, verdict))
        if len(self.pending) == PENDING:
            self.note()

    def note(self) -> None:
        """Notes the verdicts that were taken, all on equally many images."""
        if self.pending:
            verdicts = torch.stack([verdict for *_, verdict in self.pending]).cpu().numpy()
            for (name, index, part, _), verdict in zip(self.pending, verdicts, strict=True):
                self.records[name].put(index, part, verdict)
            self.pending.clear()

    def facts(self) -> Facts:
        """All that is known, when every distinct variant was judged."""
        for index, variant in enumerate(self.variants):
            for record in self.records.values():
                record.repeat(index, self.first[variant.key])
        self._warn()
        variants = self.variants
        sets = {
            name if top == 1 else f"{name}@{top}": (record, place)
            for name, record in self.records.items()
            for place, top in enumerate(self.tops)
        }
        return Facts(
            variants={
                key: np.array([v.columns[key] for v in variants]) for key in variants[0].columns
            },
            base={key: record.correct[place, -1] for key, (record, place) in sets.items()},
            correct={key: record.correct[place, :-1] for key, (record, place) in sets.items()},
            changed={key: record.changed[:-1] for key, (record, _) in sets.items()},
            nonfinite={key: record.nonfinite[:-1] for key, (record, _) in sets.items()},
            chance=chance(self.labels),
        )

    def _warn(self) -> None:
        """Says how many outputs lie within rounding of a tie, and how many are not finite."""
        records, own = self.records.values(), len(self.records) * len(self.labels)
        if ties := sum(record.ties.sum() for record in records):
            self.say(f"{ties} decisions of {self.total + own} lie within rounding of a tie")
        if broken := sum(record.nonfinite[-1] for record in records):
            self.say(f"{broken} outputs of {own} of the network itself {NOT_FINITE}")
        if broken := sum(record.nonfinite[:-1].sum() for record in records):
            self.say(f"{broken} outputs of {self.total} {NOT_FINITE}")


class _Record:
    """What is known of one image set: of every variant, and last of the base network."""

    def __init__(self, tops: int, variants: int, n: int):
        self.correct = np.zeros((tops, variants + 1, n), bool)
        self.changed, self.ties, self.nonfinite = np.zeros((3, variants + 1), int)

    def put(self, index: int, part: slice, verdict: np.ndarray) -> None:
        """Notes what a `_Judge` says of some images."""
        self.correct[:, index, part] = verdict[:MOVED]
        self.changed[index] += verdict[MOVED].sum()
        self.ties[index] += verdict[TIED].sum()
        self.nonfinite[index] += verdict[INFINITE].sum()

    def repeat(self, index: int, source: int) -> None:
        """What is known of one variant holds of another that is equal to it."""
        self.correct[:, index] = self.correct[:, source]
        for counts in (self.changed, self.ties, self.nonfinite):
            counts[index] = counts[source]


class _Judge:
    """Compares the logits of variants on one batch with labels and with those of the base.

    A verdict is bool [tops + 3, n] and stays on the device: which images are correct, by each of
    the tops, which have other logits than the network itself has, which lie within rounding of a
    tie, and which have logits that are not finite. base: that on the network itself.
    """

    def __init__(self, logits: Tensor, labels: Tensor, tops: Sequence[int]):
        self.logits, self.labels, self.tops = logits, labels, tops
        self.tolerance = TOLERANCE * scale(logits)
        whole = bool(logits.isfinite().all())  # then nothing can be infinite twice
        self.difference = (lambda one, other: (one - other).abs()) if whole else difference
        self.base = self._verdict(logits, labels, torch.zeros_like(labels, dtype=torch.bool))
        self.left = self.base.clone()  # of images that a variant leaves as they are
        self.left[TIED] = False

    def __call__(self, rows: Tensor | None, logits: Tensor | None) -> Tensor:
        """From the logits of images `rows`."""
        if logits is None:
            return self.base
        before, labels = self.logits, self.labels
        if rows is not None:
            before, labels = before[rows], labels[rows]
        moved = ~(self.difference(logits, before) <= self.tolerance)
        verdict = self._verdict(logits, labels, moved.any(1))
        return verdict if rows is None else self.left.index_copy(1, rows, verdict)

    def _verdict(self, logits: Tensor, labels: Tensor, moved: Tensor) -> Tensor:
        numbers = finite(logits)
        hits = [
            logits.argmax(1) == labels
            if top == 1
            else (logits.topk(min(top, logits.shape[1])).indices == labels[:, None]).any(1)
            for top in self.tops
        ]
        best, second = logits.topk(2, dim=1).values.unbind(1)
        tied = best - second <= self.tolerance
        return torch.stack([*(hit & numbers for hit in hits), moved, tied, ~numbers])


def _ready(network: nn.Module, ablated: Sequence[str], images: Tensor) -> nn.Module:
    """`plain` of a network; UserError where weights of layers to be ablated are no parameters."""
    original, network = network, plain(network)
    layers = every_layer(network)
    for name in ablated:
        if name in layers:
            plain_layer(name, layers[name])
    if original is not network:
        before, after = (predict(of, images[:2].clone()) for of in (original, network))
        if not torch.allclose(before, after, rtol=1e-3, atol=1e-4, equal_nan=True):
            raise UserError(f"the network's logits do not come of its weights alone; {REMOVE}")
    return network


@halving
@exact()
def active_images(
    network: nn.Module,
    layer: str,
    images: Tensor,
    *,
    at: str,
    batch_size: int = 500,
    memory: float | None = None,
) -> np.ndarray:
    """For every filter of a layer, how many images give it any output that its removal changes.

    at: "weights" looks at the layer's own output, "activation" behind normalisation and
    non-linearity. A filter that is zero for every image has nothing to remove. Of units that no
    output shows by itself, such as heads: how many images get other logits. memory: see `sweep`.
    """
    network = _ready(network, [layer], images)
    try:
        traced = Traced(network, [layer], images[:CHECKED])
        places = traced.places(layer, at)
        shown = layer in traced.direct and traced.apart.issuperset(places)
        outputs: Outputs = partial(_traced_outputs, traced, layer, at)
        if traced.keeping:
            check_fresh(network, [layer], images)
    except Untraceable:
        loop = Loop(network, [], [layer], images[:1])
        check_fresh(network, [layer], images)
        module = loop.layers[layer]
        if is_behind(module, at):
            raise UserError(NO_ACTIVATION) from None
        shown = kind(module) in ("conv", "linear", "embedding")
        outputs = partial(_hooked_outputs, loop, layer)
    with torch.no_grad():
        if not shown:
            module = every_layer(network)[layer]
            masks = [Mask(layer, (unit,), at) for unit in range(filters(module))]
            removed = [Variant({"filter": mask.filters[0]}, mask, mask=mask) for mask in masks]
            labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
            facts: Facts = sweep(
                network,
                removed,
                {"": images},
                labels,
                ablated=[layer],
                batch_size=batch_size,
                memory=memory,
                say=lambda _: None,
            )
            return facts.changed[""]
        counts = []
        for values in outputs(images, batch_size, memory):
            active = [v.flatten(1, -2).any(1) if v.dim() > 2 else v for v in values]
            counts.append(torch.stack(active).any(0).sum(0))
    return torch.stack(counts).sum(0).cpu().numpy()


Outputs = Callable[[Tensor, int, float | None], Iterator[list[Tensor]]]
"""(images, batch size, memory) -> per batch, where each use of a layer gives other than a removed
filter does, bool [n, ..., C]."""


def _traced_outputs(
    traced: Traced, layer: str, at: str, images: Tensor, batch_size: int, memory: float | None
) -> Iterator[list[Tensor]]:
    """`Outputs` of a network with a graph."""
    places, axis = traced.places(layer, at), traced.axis(layer)
    silent = 0 if is_behind(traced.layers[layer], at) else traced.silent(layer)
    each = sum(bytes_of(value, 2) for value in traced.example.values())
    for batch in images.split(fitting(batch_size, memory, each)):
        values = traced.run(traced.after, traced.start(batch), keep=places)
        yield [value.movedim(axis, -1) != silent for value in values.values()]


def _hooked_outputs(
    loop: Loop, layer: str, images: Tensor, batch_size: int, memory: float | None
) -> Iterator[list[Tensor]]:
    """`Outputs` of a network without one."""
    module = loop.layers[layer]
    axis, seen = 1 if kind(module) == "conv" else -1, []

    def see(_: nn.Module, __: Any, output: Tensor) -> None:
        seen.append(output.movedim(axis, -1) != 0)

    module.register_forward_hook(see)
    for batch in images.split(fitting(batch_size, memory, loop.bytes_per_image(False))):
        seen.clear()
        with preserved(loop.network):
            loop.network(batch.clone())
        yield seen


class _Clock:
    """Says now and then how far the sweep is, which takes `work` in all."""

    def __init__(self, variants: int, work: float, say: Callable[[str], None]):
        self.variants, self.work, self.say = variants, work, say
        self.images, self.done, self.began = 0, 0.0, time.monotonic()
        self.last = self.began
        pace.share(0.0)

    def tick(self, images: int, work: float) -> None:
        self.images, self.done = self.images + images, self.done + work
        share = min(self.done / self.work, 1.0)
        pace.share(share)
        pace.passed(images)
        now = time.monotonic()
        if not pace.in_a_job() and now - self.last >= pace.EVERY:
            self.last = now
            took = now - self.began
            self.say(
                f"{int(share * self.variants)} of {self.variants} variants done, "
                f"{self.images / took:.0f} images/s, {pace.duration(took / share - took)} left"
            )
