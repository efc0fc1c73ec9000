"""Training: a recipe, one loop, what is optimised, and the folder that a run leaves behind."""

from importlib.util import find_spec

from vitrail.errors import VitrailError

for _library in ("accelerate", "pydantic", "tensorboard", "torchmetrics", "yaml"):
    if find_spec(_library) is None:
        raise VitrailError(f"training needs {_library}, which is not installed: pip install 'vitrail[train]'")
