"""What parsing the workflow must know about data sets, without importing torch."""

from dataclasses import replace

from faultline.base.errors import UserError
from faultline.data.sources import SOURCES, Source


def describe(dataset: dict, *, name: str) -> Source:
    """What is known of a data set of the config: it has a source of `SOURCE_NAMES`, perhaps a size.

    Raises UserError where files are missing or do not fit together, and where a size is given to
    what cannot be scaled.
    """
    source, size = dataset["source"], dataset.get("size")
    if source == "image_folder":
        from faultline.data import folders  # with NumPy, which parsing a workflow can do without

        return folders.describe_folder(dataset, name=name)
    if size is not None and (source == "npz" or len(SOURCES[source].shape) == 1):
        what = "arrays, which are taken as they are" if source == "npz" else "vectors"
        raise UserError(f"config key datasets.{name}.size: {source} holds {what}; leave it out")
    if source == "npz":
        from faultline.data import arrays

        return arrays.describe_arrays(dataset, name=name)
    known = SOURCES[source]
    return known if size is None else replace(known, shape=(known.shape[0], size, size))
