"""A library that is not installed is named, with the command that installs it."""

import importlib
import importlib.util
import sys

import pytest

import vitrail.training
from vitrail.data import hub
from vitrail.errors import VitrailError
from vitrail.evaluation import torchmetrics
from vitrail.training import augment


@pytest.mark.parametrize(
    ("library", "use"),
    [
        ("accelerate", lambda: importlib.reload(vitrail.training)),
        ("pydantic", lambda: importlib.reload(vitrail.training)),
        ("torchmetrics", torchmetrics.import_classification),
        ("kornia", augment._kornia),
        ("datasets", hub._import_datasets),
    ],
)
def test_a_missing_library_is_named(library, use, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(VitrailError, match=rf"{library}.*pip install 'vitrail\[train\]'"):
        use()
