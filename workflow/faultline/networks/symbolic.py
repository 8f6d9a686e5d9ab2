"""Networks of one input, traced by torch.fx."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import fx


class Tracer(fx.Tracer):
    """The first input of the forward is traced; what else it takes has its default, as it has where
    the network is called with one input."""

    def create_args_for_root(
        self,
        root_fn: Callable[..., Any],
        is_module: bool,
        concrete_args: dict[str, Any] | tuple[Any, ...] | None = None,
    ) -> tuple[Any, list[Any]]:
        """(the forward, the network and its input), as torch.fx asks for them."""
        code = inspect.unwrap(root_fn).__code__
        if code.co_argcount < 2:  # *args
            return super().create_args_for_root(root_fn, is_module, concrete_args)
        return root_fn, [self.root, self.create_proxy("placeholder", code.co_varnames[1], (), {})]
