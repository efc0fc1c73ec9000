"""torch.compile, with its compiled code kept between processes."""

import os
import shutil

import torch
from torch import Tensor

from vitrail.engines.cache import cache_folder
from vitrail.engines.cast import CastEntry
from vitrail.engines.entries import MOST_SIZES, Run
from vitrail.errors import VitrailError, first_line


class CompiledEntry(CastEntry):
    """A method that torch.compile runs, once for each size of pictures, and once more for batches of any length."""

    engine = "compile"
    most_sizes = MOST_SIZES

    def make(self, images: Tensor) -> Run:
        """Compiled when it is first called."""
        weights = str(next(self.model.parameters()).dtype).removeprefix("torch.")
        network = self.model if self.precision == weights else self.copied()
        compiled = torch.compile(getattr(type(network), self.name).__get__(network), fullgraph=True)

        def run(images: Tensor) -> Tensor:
            try:
                return compiled(images)
            except Exception as error:
                if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                    raise
                raise VitrailError(
                    f"torch.compile cannot compile this {self.model.family} here ({first_line(error)})"
                ) from error

        return run


def check_compiler() -> None:
    """See that torch.compile can work here, and that it keeps what it compiles.

    Compiled code lies in `cache_folder()`/inductor, unless TORCHINDUCTOR_CACHE_DIR says where or that folder cannot be
    written; PyTorch's own cache of graphs finds it there.

    Raises:
        VitrailError: there is no C++ compiler.
    """
    named = os.environ.get("CXX")
    if not any(map(shutil.which, [named] if named else ["g++", "clang++"])):
        wanted = f"'{named}', which CXX names, is not there" if named else "neither g++ nor clang++ is there"
        raise VitrailError(f"the engine 'compile' needs a C++ compiler, and {wanted}: install one, or use packed")
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get("TORCHINDUCTOR_CACHE_DIR", default_cache_dir()) == default_cache_dir():  # torch itself sets it so
        folder = cache_folder() / "inductor"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
        except OSError:
            pass  # PyTorch's own place, a temporary folder
