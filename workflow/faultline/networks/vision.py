"""torchvision, imported only where it is needed and made to import on a CPU-only torch."""

from types import ModuleType

import torch

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

# A torch library lives only as long as something refers to it.
_declared: list[torch.library.Library] = []


def load_torchvision() -> ModuleType:
    """The torchvision package.

    Its compiled part is built for CUDA; on a CPU build of torch it does not load, and the import
    then stops at operators that nobody declared. Declaring them is enough for models and data sets.
    """
    try:
        import torchvision
    except RuntimeError:
        import sys

        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in _OPERATORS:
            library.define(operator)
        _declared.append(library)
        import torchvision
    package: ModuleType = torchvision
    return package
