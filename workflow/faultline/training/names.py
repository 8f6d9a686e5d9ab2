"""The recipes of training by their names in the config. No torch."""

RECIPES = ("standard", "at-fgsm", "at-pgd", "at-fast", "at-trades", "at-apgd")
"""Without their regularisation, see `training.recipes`."""


def with_regularisation(recipe: str) -> str:
    """The same recipe with the layers under `regularisation` regularised."""
    return f"{recipe}-lr"
