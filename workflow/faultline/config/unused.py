"""Keys of the config that mean nothing beside what else is given. No torch."""

from collections.abc import Iterator

from faultline.attacks.methods import method_of
from faultline.base.errors import UserError


def _source(*names: str):
    return f"source {', '.join(names)}", lambda dataset: dataset["source"] in names


def _recipe(*names: str):
    base = lambda training: training["recipe"].removesuffix("-lr")  # noqa: E731
    return f"recipe {', '.join(names)}", lambda training: base(training) in names


def _schedule(*kinds: str):
    return f"schedule.kind {', '.join(kinds)}", lambda t: t["schedule"]["kind"] in kinds


def _takes(key: str):
    return lambda attack: key in method_of(attack["method"]).takes


_ON_DISK = ("fashion_mnist", "mnist", "cifar10", "tiny_imagenet", "image_folder")

BELONGS = {
    "datasets.*.folder": _source(*_ON_DISK),
    "datasets.*.download": _source("fashion_mnist", "mnist", "cifar10"),
    "datasets.*.samples": _source("moons"),
    "datasets.*.noise": _source("moons"),
    "datasets.*.channels": _source("image_folder"),
    "datasets.*.on_bad_image": _source("image_folder"),
    "datasets.*.file": _source("npz"),
    "datasets.*.classes": _source("npz"),
    "trainings.*.momentum": ("optimizer sgd", lambda t: t["optimizer"] == "sgd"),
    "trainings.*.schedule.epochs": _schedule("step", "cosine"),
    "trainings.*.schedule.factor": _schedule("step"),
    "trainings.*.adversarial.steps": _recipe("at-pgd", "at-trades", "at-apgd"),
    "trainings.*.adversarial.step_size": _recipe("at-pgd", "at-trades", "at-fast"),
    "trainings.*.adversarial.beta": _recipe("at-trades"),
    "trainings.*.regularisation.on_empty": (
        "layers mvl",
        lambda training: training["regularisation"]["layers"] == "mvl",
    ),
    "attacks.*.steps": ("methods of several steps", _takes("steps")),
    "attacks.*.step_size": ("method pgd or one of your own", _takes("step_size")),
    "attacks.*.options": ("a method of your own", _takes("options")),
    "synaptic_filtering.global_range": ("global: true", lambda section: section["global"]),
    "perturbations.shares": ("kinds but gaussian", lambda p: {*p["kinds"]} - {"gaussian"}),
    "perturbations.sigmas": ("kind gaussian", lambda p: "gaussian" in p["kinds"]),
    "perturbations.parameters": (
        "kinds but node_knockout",
        lambda p: {*p["kinds"]} - {"node_knockout"},
    ),
    "retraining.filter": ("by: layer", lambda section: section["by"] == "layer"),
}
"""Key, with * for each name -> (what it is for, whether a section, or what is named, is such)."""


def entries(config: dict, pattern: str) -> Iterator[tuple[str, dict | list, str | int]]:
    """(key, the mapping or list that holds it, its last part) for what a config holds of a pattern
    such as "datasets.*.file"."""
    found = [("", {"": config}, "")]
    for part in pattern.split("."):
        inside = [(key, holder[last]) for key, holder, last in found]
        found = [
            (f"{key}.{name}".lstrip("."), holder, name)
            for key, holder in inside
            for name in _named(holder, part)
        ]
    yield from found


def _named(holder, part: str):
    if isinstance(holder, dict):
        return [*holder] if part == "*" else {part} & holder.keys()
    return range(len(holder)) if part == "*" and isinstance(holder, list) else ()


def check_unused(config: dict, schema: dict) -> None:
    """UserError for a key that says something else than its default where nothing asks for it."""
    for pattern, (owner, is_such) in BELONGS.items():
        default = _default(pattern, schema)
        for key, holder, last in entries(config, pattern):
            section, name, *_ = key.split(".")
            whole = config[section][name] if ".*" in pattern else config[section]
            if holder[last] != default and not is_such(whole):
                raise UserError(f"config key {key}: is for {owner} only; leave it out")


def _default(pattern: str, schema: dict):
    part = schema
    for name in pattern.split("."):
        part = part["additionalProperties"] if name == "*" else part["properties"][name]
    return part["default"]
