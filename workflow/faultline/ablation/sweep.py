"""The engine: evaluates many variants of a network on fixed images, exactly.

What does not depend on the ablated layers is computed once per batch of images, a removed filter
is followed only as far as it changes anything, and what cannot change is not computed at all.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn

from faultline.ablation.facts import Facts
from faultline.ablation.inputs import checked_images, checked_variants
from faultline.ablation.propagation import Batch, Propagation
from faultline.ablation.tracing import CONVOLUTIONS, Traced, Untraceable, holds_tensor, unread
from faultline.ablation.variants import Mask, Variant, is_behind, without
from faultline.attacks.space import Forward
from faultline.base import pace
from faultline.base.errors import UserError
from faultline.base.inputs import check_count, one_of
from faultline.base.memory import halving
from faultline.networks.architectures import body_of
from faultline.networks.evaluation import NOT_FINITE, difference, evaluation, finite, predict, scale
from faultline.networks.layers import filters, kind, own_weight
from faultline.networks.layers import layers as layers_of
from faultline.networks.plain import REMOVE, copied, forget, plain, plain_layer, preserved
from faultline.networks.reach import reached

TOLERANCE = 1e-5
"""Logits that differ by less than this share of the largest one count as equal."""

CHECKED = 32
"""Images on which the trace of a network is compared with the network."""

FEW = 0.5
"""Share of a layer's filters up to which changed weights are followed filter by filter."""

LARGE = 1e6
"""Weights beyond this, or NaN, run in the network as it is: what overflows depends on the order of
its operations, which the graph changes."""

DOMINANT = 1e3
"""Removed filters that give values beyond this share of what the others give are not taken from a
sum that holds both, as the difference of two large numbers: what comes after them is run anew."""

Attack = Callable[..., Tensor]


@halving
@torch.inference_mode(False)
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
    engine = _engine(network, variants, ablated, next(iter(image_sets.values())), say)
    batch_size = _fitting(batch_size, memory, engine.bytes_per_image(bool(crafted)))
    names, n = [*image_sets, *crafted], len(labels)
    records = {name: _Record(len(tops), len(variants), n) for name in names}
    clock = _Clock(len(variants), n * len(names), say)
    times = Counter(variant.key for variant in variants)
    first: dict[object, int] = {}  # equal networks are evaluated once
    for index, variant in enumerate(variants):
        first.setdefault(variant.key, index)

    def begun(name: str, part: slice, logits: Tensor) -> _Judge:
        judge = _Judge(logits, labels[part], tops)
        records[name].put(-1, part, judge.unchanged())
        if None in first:
            put(name, first[None], part, judge.unchanged())
        return judge

    def put(name: str, index: int, part: slice, found) -> None:
        records[name].put(index, part, found)
        clock.tick((part.stop - part.start) * times[variants[index].key])

    distinct = [index for key, index in first.items() if key is not None]
    everything, known = slice(0, n), set()  # variants of which "clean" is known
    with torch.no_grad():
        for name, attack in crafted.items():
            # an attack draws for all images at once, and splits them itself
            evaluate = engine.recrafted(
                image_sets["clean"], labels, partial(attack, batch_size=batch_size), batch_size
            )
            logits, clean = evaluate(None)
            judge = begun(name, everything, logits)
            of_clean = None
            if clean is not None and not known:
                of_clean = begun("clean", everything, clean)
                known.add(None)
            for index in distinct:
                logits, clean = evaluate(variants[index])
                put(name, index, everything, judge(None, logits))
                if of_clean and clean is not None:
                    put("clean", index, everything, of_clean(None, clean))
                    known.add(index)
        for name, images in image_sets.items():
            left = [index for index in distinct if name != "clean" or index not in known]
            if name == "clean" and None in known and not left:
                continue
            for begin in range(0, n, batch_size):
                part = slice(begin, min(begin + batch_size, n))
                evaluate = engine.fixed(images[part])
                logits = evaluate(None)[1]
                if name == "clean" and None in known:
                    judge = _Judge(logits, labels[part], tops)
                else:
                    judge = begun(name, part, logits)
                for index in left:
                    put(name, index, part, judge(*evaluate(variants[index])))
    for index, variant in enumerate(variants):
        for record in records.values():
            record.repeat(index, first[variant.key])
    if ties := sum(record.ties.sum() for record in records.values()):
        say(f"{ties} decisions of {clock.total + n * len(names)} lie within rounding of a tie")
    if broken := sum(record.nonfinite[-1] for record in records.values()):
        say(f"{broken} outputs of {n * len(names)} of the network itself {NOT_FINITE}")
    if broken := sum(record.nonfinite[:-1].sum() for record in records.values()):
        say(f"{broken} outputs of {clock.total} {NOT_FINITE}")
    columns = {key: np.array([v.columns[key] for v in variants]) for key in variants[0].columns}
    sets = {
        name if top == 1 else f"{name}@{top}": (records[name], place)
        for name in names
        for place, top in enumerate(tops)
    }
    return Facts(
        variants=columns,
        base={key: record.correct[place, -1] for key, (record, place) in sets.items()},
        correct={key: record.correct[place, :-1] for key, (record, place) in sets.items()},
        changed={key: record.changed[:-1] for key, (record, _) in sets.items()},
        nonfinite={key: record.nonfinite[:-1] for key, (record, _) in sets.items()},
        chance=labels.unique(return_counts=True)[1].max().item() / n,
    )


def logits_of(
    network: nn.Module, variants: Sequence[Variant], images: Tensor, *, ablated: Sequence[str]
) -> Iterator[Tensor]:
    """Logits [n, classes] of the network, then of every variant, on one batch of images."""
    network = _ready(network, ablated, images)
    with torch.no_grad():
        evaluate = _engine(network, variants, ablated, images, print).fixed(images)
        base = evaluate(None)[1]
        yield base
        for variant in variants:
            rows, logits = evaluate(variant) if variant.key is not None else (None, None)
            whole = base.clone()
            if logits is not None:
                whole[slice(None) if rows is None else rows] = logits
            yield whole


class _Record:
    """What is known of one image set: of every variant, and last of the base network."""

    def __init__(self, tops: int, variants: int, n: int):
        self.correct = np.zeros((tops, variants + 1, n), bool)
        self.changed, self.ties, self.nonfinite = np.zeros((3, variants + 1), int)

    def put(self, index: int, part: slice, found: tuple[np.ndarray, int, int, int]) -> None:
        """found: as a `_Judge` says of some images."""
        self.correct[:, index, part], changed, ties, nonfinite = found
        self.changed[index] += changed
        self.ties[index] += ties
        self.nonfinite[index] += nonfinite

    def repeat(self, index: int, source: int) -> None:
        """What is known of one variant holds of another that is equal to it."""
        self.correct[:, index] = self.correct[:, source]
        for counts in (self.changed, self.ties, self.nonfinite):
            counts[index] = counts[source]


class _Judge:
    """Compares the logits of variants on one batch with labels and with those of the base."""

    def __init__(self, logits: Tensor, labels: Tensor, tops: Sequence[int]):
        self.logits, self.labels, self.tops = logits, labels, tops
        self.tolerance = TOLERANCE * scale(logits)
        self.base = self._hits(logits, labels)
        self.ties = self._tied(logits)
        self.finite = finite(logits)
        whole = bool(logits.isfinite().all())  # then nothing can be infinite twice
        self.difference = (lambda one, other: (one - other).abs()) if whole else difference

    def unchanged(self) -> tuple[np.ndarray, int, int, int]:
        return self.base, 0, self.ties, int((~self.finite).sum())

    def __call__(self, rows: Tensor | None, logits: Tensor | None):
        """(correct [tops, n], images with other logits, ties, images with logits that are not
        finite) from the logits of images `rows`."""
        if logits is None:
            return self.unchanged()
        before, labels = self.logits, self.labels
        if rows is not None:
            before, labels = before[rows], labels[rows]
        moved = int((~(self.difference(logits, before) <= self.tolerance)).any(1).sum())
        hits, numbers = self._hits(logits, labels), finite(logits)
        if rows is not None:
            hits, part = self.base.copy(), hits
            hits[:, rows.cpu().numpy()] = part
            numbers = self.finite.index_copy(0, rows, numbers)
        return hits, moved, self._tied(logits), int((~numbers).sum())

    def _hits(self, logits: Tensor, labels: Tensor) -> np.ndarray:
        """Whether the label is among the best so many classes, bool [tops, n]."""
        hits = [
            logits.argmax(1) == labels
            if top == 1
            else (logits.topk(min(top, logits.shape[1])).indices == labels[:, None]).any(1)
            for top in self.tops
        ]
        return (torch.stack(hits) & finite(logits)).cpu().numpy()

    def _tied(self, logits: Tensor) -> int:
        best, second = logits.topk(2, dim=1).values.unbind(1)
        return int((best - second <= self.tolerance).sum())


def _ready(network: nn.Module, ablated: Sequence[str], images: Tensor) -> nn.Module:
    """`plain` of a network; UserError where weights of layers to be ablated are no parameters."""
    given, network = network, plain(network)
    known = layers_of(network, norms=True)
    for name in ablated:
        if name in known:
            plain_layer(name, known[name])
    if given is not network:
        before, after = (predict(of, images[:2].clone()) for of in (given, network))
        if not torch.allclose(before, after, rtol=1e-3, atol=1e-4, equal_nan=True):
            raise UserError(f"the network's logits do not come of its weights alone; {REMOVE}")
    return network


def _engine(network, variants, ablated, images, say):
    try:
        traced = Traced(network, ablated, images[:CHECKED])
        graph = _Graph(network, traced, variants)
        if traced.keeping:
            _check_fresh(network, ablated, images)
        if graph.large:
            graph.plain = _Loop(network, graph.large.values(), ablated, images[:1])
        return graph
    except Untraceable as reason:
        engine = _Loop(network, variants, ablated, images[:1])
        _check_fresh(network, ablated, images)
        began = time.monotonic()
        with torch.no_grad(), preserved(engine.network):
            engine.network(images[:CHECKED].clone())
        rate = len(images[:CHECKED]) / (time.monotonic() - began)
        say(
            f"this network gets no shortcuts: {reason}. Each variant runs the whole network, at "
            f"about {rate:.0f} images/s"
        )
        return engine


class _Graph:
    """Evaluates variants of a traced network."""

    def __init__(self, network: nn.Module, traced: Traced, variants: Sequence[Variant]):
        self.network, self.traced = network, traced
        self.layers = layers_of(network, norms=True)
        self.propagations: dict[tuple[str, str], Propagation] = {}
        self.large: dict[int, Variant] = {}
        self.shapes = _shapes(self.layers, traced.layers)
        self.odd: dict[str, bool] = {}
        self.plain: _Loop | None = None  # evaluates these
        self.changes: dict[int, Mask | None] = {}
        self.reads = set()
        for variant in variants:
            change = self.changes[id(variant)] = self._change(variant)
            if change is None or not change.filters:
                continue
            propagation = self._propagation(change)
            self.reads |= propagation.plan(change.filters).reads
            self.reads.update(s for place in propagation.places for s in place.all_input_nodes)

    def _propagation(self, mask: Mask) -> Propagation:
        key = mask.layer, mask.at
        if key not in self.propagations:
            self.propagations[key] = Propagation(self.traced, mask.layer, at=mask.at)
        return self.propagations[key]

    def _change(self, variant: Variant) -> Mask | None:
        """The filters that a variant changes, None where it is better computed as a whole."""
        if mask := variant.mask:
            places = self.traced.places(mask.layer, mask.at)
            alone = mask.layer in self.traced.direct and self.traced.apart.issuperset(places)
            return mask if alone else None
        if variant.key is None:
            return None
        made = _replaced(variant, self.shapes)
        if not all(value.abs().max() <= LARGE for value in made.values()):
            self.large[id(variant)] = variant
            return None
        (layer, *others) = {name.rpartition(".")[0] for name in made}
        if others or layer not in self.traced.direct or len(self.traced.nodes[layer]) > 1:
            return None
        module = self.layers[layer]
        rows = isinstance(module, (nn.Linear, *CONVOLUTIONS))
        if not rows or getattr(module, "groups", 1) > 1:
            return None
        if not self.traced.apart.issuperset(self.traced.nodes[layer]):
            return None
        changed = torch.stack(
            [
                (value != getattr(module, name.rpartition(".")[2])).reshape(len(value), -1).any(1)
                for name, value in made.items()
            ]
        ).any(0)
        filters = tuple(changed.nonzero().flatten().tolist())
        return Mask(layer, filters, "weights") if len(filters) <= FEW * len(changed) else None

    def bytes_per_image(self, with_gradients: bool) -> int:
        """What one image of a batch takes at most, by the sizes of the values of all nodes."""
        sizes = {node: _bytes(value, 2) for node, value in self.traced.example.items()}
        most = sorted(sizes.values())[-4:]
        plain = self.plain.bytes_per_image(with_gradients) if self.plain else 0
        if with_gradients:
            return max(3 * sum(sizes.values()), plain)
        kept = sum(sizes[node] for node in self.reads | set(self.traced.boundary))
        return 2 * kept + max(2 * sum(most), plain)

    def fixed(self, images: Tensor):
        """variant -> (rows, logits) as in `Propagation.run`, on these images."""
        traced = self.traced
        boundary, peaks = traced.start(images), _Peaks(self.propagations, traced)
        values = traced.run(
            traced.after,
            boundary,
            keep=[*(self.reads - set(boundary)), traced.result],
            masked=peaks.looks,
        )
        batch = Batch(boundary | values)
        plain = self.plain and self.plain.fixed(images)

        def evaluate(variant: Variant | None):
            if variant is None:
                return None, values[traced.result]
            if id(variant) in self.large:
                return plain(variant)
            change = self.changes[id(variant)]
            if change is not None and not change.filters:
                return None, None
            if change is None or peaks.dominated(change):
                return None, traced.finish(boundary, **self._changes(variant))
            propagation = self._propagation(change)
            if variant.mask:
                new, mask = partial(self._fill, change), partial(self._mask, change)
            else:
                new, mask = partial(self._recomputed, variant, change, batch), None
            return propagation.run(change.filters, batch, new=new, mask=mask)

        return evaluate

    def recrafted(self, images: Tensor, labels: Tensor, attack: Attack, batch_size: int):
        """variant -> (logits on images attacked anew for each, logits on the clean images).

        The latter are those from which the attack took gradients, None where it took none there.
        """
        starts = _Starts(self.traced, images, most=-(-len(images) // batch_size))
        plain = self.plain and self.plain.recrafted(images, labels, attack, batch_size)

        def evaluate(variant: Variant | None):
            if id(variant) in self.large:
                return plain(variant)
            changes, clean = self._changes(variant) if variant else {}, {}

            def run(part: Tensor) -> Tensor:
                boundary, place = starts(part)
                logits = self.traced.finish(boundary, **changes)
                if place is not None:
                    clean[place] = logits.detach()
                return logits

            with torch.enable_grad():
                adversarial = attack(Forward(run, self.network), images, labels)
            logits = [
                self.traced.finish(self.traced.start(part), **changes)
                for part in adversarial.split(batch_size)
            ]
            found = [clean[place] for place in sorted(clean)]
            begins = [0, *accumulate(map(len, found))]
            whole = [*sorted(clean), len(images)] == begins
            return torch.cat(logits), torch.cat(found) if whole else None

        return evaluate

    def _changes(self, variant: Variant) -> dict[str, dict]:
        """What `Traced.finish` is told of a variant."""
        if (mask := variant.mask) and mask.layer in self.traced.direct:
            places = self.traced.places(mask.layer, mask.at)
            changes = {"masked": dict.fromkeys(places, partial(self._mask, mask))}
            if self._is_odd(mask.layer):  # 0 times NaN is NaN, on the way of a gradient, too
                made = without(mask, self.layers[mask.layer])
                changes["replaced"] = self.traced.placed(made)
            return changes
        made = without(mask, self.layers[mask.layer]) if mask else variant.replace()
        return {"replaced": self.traced.placed(made)}

    def _is_odd(self, layer: str) -> bool:
        """Whether some parameter of a layer is large or no number."""
        if layer not in self.odd:
            own = self.layers[layer].parameters()
            self.odd[layer] = not all(parameter.abs().max() <= LARGE for parameter in own)
        return self.odd[layer]

    def _fill(self, mask: Mask, place) -> Tensor:
        """New elements [1, p] of removed filters."""
        silence, value = self._silence(mask), self.traced.example[place]
        each = value[0].numel() // value.shape[self.traced.axis(mask.layer)]
        along = self.traced.axis(mask.layer) == 1
        return (silence.repeat_interleave(each) if along else silence.repeat(each))[None]

    def _mask(self, mask: Mask, value: Tensor) -> Tensor:
        """A copy of a layer's output with filters removed."""
        value = value.clone()
        by_filter = value.movedim(self.traced.axis(mask.layer), -1)
        by_filter[..., list(mask.filters)] = self._silence(mask)
        return value

    def _silence(self, mask: Mask) -> Tensor:
        """What removed filters give instead, [filters]."""
        silent = self.traced.silent(mask.layer)[list(mask.filters)]
        return silent if mask.at == "weights" else torch.zeros_like(silent)

    def _recomputed(self, variant: Variant, change: Mask, batch: Batch, place) -> Tensor:
        """New elements [n, p] of filters whose weights are replaced."""
        chosen, module = list(change.filters), self.traced.modules[place.target]
        made = {name: getattr(module, name) for name in ("weight", "bias")}
        made |= self.traced.placed(variant.replace())[place]
        rows = {name: None if value is None else value[chosen] for name, value in made.items()}
        return self.traced.call(place, batch.values.__getitem__, rows).flatten(1)


def _shapes(layers: dict[str, nn.Module], ablated: Iterable[str]) -> dict[str, torch.Size]:
    """Of the parameters of ablated layers, by their full names."""
    own = {layer: layers[layer].named_parameters() for layer in ablated}
    return {f"{layer}.{name}": p.shape for layer, of in own.items() for name, p in of}


def _replaced(variant: Variant, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """What a variant replaces; UserError where that is no parameter of an ablated layer."""
    made = variant.replace()
    for name, value in made.items():
        if name not in shapes:
            one_of(name, shapes, f"variants: {variant.columns} replaces a parameter")
        if value.shape != shapes[name]:
            raise UserError(
                f"variants: {variant.columns} replaces {name} by {list(value.shape)}; expected "
                f"{list(shapes[name])}"
            )
    return made


class _Peaks:
    """The largest value that each filter of the propagated layers gives, as a batch shows it.

    looks: node -> a function for `Traced.run` that leaves its value as it is.
    """

    def __init__(self, propagations: dict[tuple[str, str], Propagation], traced: Traced):
        self.found: dict[tuple[str, str], Tensor] = {}
        self.listed: dict[tuple[str, str], tuple[list[float], list[int]]] = {}
        self.axes = {key: traced.axis(key[0]) for key in propagations}
        of: dict = {}
        for key, propagation in propagations.items():
            for place in propagation.places:
                of.setdefault(place, []).append(key)
        self.looks = {place: partial(self._look, keys) for place, keys in of.items()}

    def _look(self, keys, value: Tensor) -> Tensor:
        for key in keys:
            axis = self.axes[key] % value.dim()
            peak = value.abs().amax([d for d in range(value.dim()) if d != axis])
            self.found[key] = torch.maximum(self.found.get(key, peak), peak)
        return value

    def dominated(self, change: Mask) -> bool:
        """Whether these filters give values that are not finite, or `DOMINANT` over the others."""
        key = change.layer, change.at
        if key not in self.listed:
            peaks = self.found[key].nan_to_num(torch.inf, torch.inf)
            self.listed[key] = peaks.tolist(), peaks.argsort(descending=True).tolist()
        (peaks, largest_first), chosen = self.listed[key], {*change.filters}
        own = max(peaks[unit] for unit in chosen)
        rest = next((peaks[unit] for unit in largest_first if unit not in chosen), 0.0)
        return own == torch.inf or own > DOMINANT * rest


def _fitting(batch_size: int, memory: float | None, each: int) -> int:
    """How many images may be run at once, each taking so many bytes."""
    return batch_size if memory is None else max(1, min(batch_size, int(memory / each)))


def _bytes(value, images: int) -> int:
    """Of one image's share of what is the value of so many."""
    if isinstance(value, tuple | list):
        return sum(_bytes(part, images) for part in value)
    return value.nbytes // images if holds_tensor(value) else 0


class _Starts:
    """What comes before the ablated layers, for attacks that begin at the same images each time.

    Values of images that come back are kept with their graph, so that a gradient with respect to
    the images can be taken from them again and again. clean: the images that surely do. most: how
    many batches are kept.
    """

    def __init__(self, traced: Traced, clean: Tensor, *, most: int):
        self.traced, self.clean, self.most = traced, clean, most
        self.places: dict[int, dict[bytes, int]] = {}
        self.seen: set[bytes] = set()
        self.kept: dict[bytes, tuple[Tensor, dict]] = {}

    def __call__(self, images: Tensor) -> tuple[dict, int | None]:
        """(values at the boundary, the first image's place among the clean ones, which follow one
        another in batches of this size; None for others and where no gradient is asked for)."""
        if not images.requires_grad:
            return self.traced.start(images), None
        digest = _digest(images)
        place = self._places(len(images)).get(digest)
        if digest not in self.kept:
            again = place is not None or digest in self.seen
            if not again or len(self.kept) >= self.most:
                self.seen.add(digest)
                return self.traced.start(images), place
            leaf = images.detach().clone().requires_grad_()
            self.kept[digest] = leaf, self.traced.start(leaf)
        leaf, boundary = self.kept[digest]
        linked = [n for n, v in boundary.items() if isinstance(v, Tensor) and v.requires_grad]
        values = _Again.apply(images, leaf, *(boundary[node] for node in linked))
        return boundary | dict(zip(linked, values, strict=True)), place

    def _places(self, size: int) -> dict[bytes, int]:
        """Batch of so many clean images -> where it begins; the last one may be a smaller rest."""
        if size not in self.places:
            last = len(self.clean) - size
            begins = [*range(0, last + 1, size), last] if last >= 0 else []
            self.places[size] = {_digest(self.clean[i : i + size]): i for i in begins}
        return self.places[size]


def _digest(images: Tensor) -> bytes:
    return hashlib.sha256(images.detach().cpu().numpy().tobytes()).digest()


class _Again(torch.autograd.Function):
    """Values computed before from equal images: passes gradients on to the images given now."""

    @staticmethod
    def forward(ctx, images, leaf, *values):
        ctx.leaf, ctx.values = leaf, values
        return tuple(value.detach().view_as(value) for value in values)

    @staticmethod
    def backward(ctx, *gradients):
        pairs = [(v, g) for v, g in zip(ctx.values, gradients, strict=True) if g is not None]
        (gradient,) = torch.autograd.grad(
            [v for v, _ in pairs], ctx.leaf, [g for _, g in pairs], retain_graph=True
        )
        return gradient, None, *[None] * len(gradients)


_NO_ACTIVATION = (
    "a network that cannot be traced does not show where its activations are; "
    'remove filters at "weights" (config key nodal_dropout: at)'
)


class _Loop:
    """Evaluates variants of a network without a graph: all of it, for each variant."""

    def __init__(self, network: nn.Module, variants: Sequence[Variant], ablated, image: Tensor):
        self.network = copied(network).requires_grad_(False)
        self.layers = layers_of(self.network, norms=True)
        for layer in ablated:
            if layer not in self.layers:
                raise UserError(
                    f"layer {layer!r} is not in the network; there are: {', '.join(self.layers)}"
                )
        if any(v.mask and is_behind(self.layers[v.mask.layer], v.mask.at) for v in variants):
            raise UserError(_NO_ACTIVATION)
        self.shapes = _shapes(self.layers, ablated)
        self.image = image

    def bytes_per_image(self, with_gradients: bool) -> int:
        """What one image of a batch takes, by the outputs of the modules: no more is known."""
        sizes = [self.image.nbytes]
        hooks = [
            module.register_forward_hook(lambda _, __, output: sizes.append(_bytes(output, 1)))
            for module in self.network.modules()
        ]
        with torch.no_grad(), preserved(self.network):
            self.network(self.image.clone())
        for hook in hooks:
            hook.remove()
        return 3 * sum(sizes) if with_gradients else 4 * max(sizes)

    def fixed(self, images: Tensor):
        def evaluate(variant: Variant | None):
            with self._applied(variant):
                return None, self.network(images.clone())

        return evaluate

    def recrafted(self, images: Tensor, labels: Tensor, attack: Attack, batch_size: int):
        def evaluate(variant: Variant | None):
            with self._applied(variant):
                with torch.enable_grad():
                    adversarial = attack(self.network, images, labels)
                parts = adversarial.split(batch_size)
                return torch.cat([self.network(part.clone()) for part in parts]), None

        return evaluate

    @contextmanager
    def _applied(self, variant: Variant | None) -> Iterator[None]:
        """The variant's parameters in place of the base's, inside the block."""
        made = _replaced(variant, self.shapes) if variant and variant.replace else {}
        if variant and variant.mask:
            made = without(variant.mask, self.layers[variant.mask.layer])
        body = body_of(self.network)
        kept = [(body.get_parameter(name), body.get_parameter(name).data) for name in made]
        try:
            for (parameter, _), value in zip(kept, made.values(), strict=True):
                parameter.data = value
            forget(self.network)  # what it made of other weights
            with preserved(self.network):
                yield
        finally:
            for parameter, data in kept:
                parameter.data = data


def _check_fresh(network: nn.Module, ablated: Sequence[str], images: Tensor) -> None:
    """UserError where a network keeps what it made of its weights, so that others would not do in
    their place what they do in a new network."""
    new, other = (_Loop(network, [], ablated, images[:1]) for _ in range(2))
    weight_of = {name: own_weight(new.layers[name]) for name in ablated}
    made = {f"{name}.{w}": 1 - new.layers[name].get_parameter(w) for name, w in weight_of.items()}
    variant = Variant({}, 1, replace=lambda: made)
    with torch.no_grad():
        expected, again = (new.fixed(images[:2])(variant)[1] for _ in range(2))
    with evaluation(other.network):
        read = reached(other.network, images[:2].clone())
    for name, weight in weight_of.items():
        own = dict(other.layers[name].named_parameters())
        if not read.isdisjoint(map(id, own.values())) and id(own[weight]) not in read:
            raise UserError(unread(name, weight))
    with torch.no_grad():
        _, found = map(other.fixed(images[:2]), [None, variant])
    same = partial(torch.allclose, rtol=1e-4, atol=1e-5, equal_nan=True)
    if same(expected, again) and not same(expected, found[1]):
        raise UserError(
            "the network keeps what it makes of its weights where it is not seen, so others would "
            "have no effect; keep it as an attribute of a module, or let train() forget it"
        )


@halving
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
        outputs = partial(_traced_outputs, traced, layer, at)
        if traced.keeping:
            _check_fresh(network, [layer], images)
    except Untraceable:
        loop = _Loop(network, [], [layer], images[:1])
        _check_fresh(network, [layer], images)
        module = loop.layers[layer]
        if is_behind(module, at):
            raise UserError(_NO_ACTIVATION) from None
        shown = kind(module) in ("conv", "linear", "embedding")
        outputs = partial(_hooked_outputs, loop, layer)
    total = 0
    with torch.no_grad():
        if not shown:
            module = layers_of(network, norms=True)[layer]
            masks = [Mask(layer, (unit,), at) for unit in range(filters(module))]
            removed = [Variant({"filter": mask.filters[0]}, mask, mask=mask) for mask in masks]
            labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
            given = {"ablated": [layer], "batch_size": batch_size, "memory": memory}
            facts = sweep(network, removed, {"": images}, labels, **given, say=lambda _: None)
            return facts.changed[""]
        for found in outputs(images, batch_size, memory):
            seen = [v.flatten(1, -2).any(1) if v.dim() > 2 else v for v in found]
            total = total + torch.stack(seen).any(0).sum(0)
    return total.cpu().numpy()


def _traced_outputs(traced, layer, at, images, batch_size, memory) -> Iterator[list[Tensor]]:
    """Per batch: where each use of a layer gives other than a removed filter does, [n, ..., C]."""
    places, axis = traced.places(layer, at), traced.axis(layer)
    silent = 0 if is_behind(traced.layers[layer], at) else traced.silent(layer)
    each = sum(_bytes(value, 2) for value in traced.example.values())
    for batch in images.split(_fitting(batch_size, memory, each)):
        values = traced.run(traced.after, traced.start(batch), keep=places)
        yield [value.movedim(axis, -1) != silent for value in values.values()]


def _hooked_outputs(loop, layer, images, batch_size, memory) -> Iterator[list[Tensor]]:
    """As `_traced_outputs`, of a network without a graph."""
    module, seen = loop.layers[layer], []
    axis = 1 if kind(module) == "conv" else -1
    module.register_forward_hook(lambda _, __, out: seen.append(out.movedim(axis, -1) != 0))
    for batch in images.split(_fitting(batch_size, memory, loop.bytes_per_image(False))):
        seen.clear()
        with preserved(loop.network):
            loop.network(batch.clone())
        yield seen


class _Clock:
    """Says now and then how far the sweep is."""

    def __init__(self, variants: int, images: int, say, every: float = 10.0):
        self.variants, self.total = variants, variants * images
        self.say, self.every = say, every
        self.done, self.began = 0, time.monotonic()
        self.last = self.began

    def tick(self, amount: int) -> None:
        self.done += amount
        pace.passed(amount)
        now = time.monotonic()
        if now - self.last >= self.every:
            self.last = now
            rate = self.done / (now - self.began)
            done = self.done * self.variants // self.total
            self.say(
                f"{done} of {self.variants} variants done, {rate:.0f} images/s, "
                f"{(self.total - self.done) / rate:.0f} s left"
            )
