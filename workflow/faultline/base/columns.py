"""Columns and words that the tables share."""

RUN = ["dataset", "network", "training"]
PLACE = [*RUN, "seed", "epoch"]
"""What names a checkpoint."""

NAMES = [*RUN, "layer", "attack", "policy", "probe", "images", "ablation", "variant"]
"""Columns of names: text, whatever they look like."""

CLASSES = ("fragile", "robust", "antifragile", "untouched", "undefined")
