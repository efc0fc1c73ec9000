"""What starting costs: nothing heavy is imported before it is used."""

import subprocess
import sys

import pytest

import vitrail

HEAVY = (
    "torch",
    "numpy",
    "PIL",
    "rich",
    "safetensors",
    "huggingface_hub",
    "jinja2",
    "pyarrow",
    "lancedb",
    "filelock",
    "transformers",
    "timm",
)


def imported_by(code: str) -> set[str]:
    """The packages a fresh interpreter holds after running this."""
    code += "\nimport sys; print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import vitrail; vitrail.__version__; vitrail.VitrailError; dir(vitrail)",
        "import vitrail.registry",
        "import vitrail.cli",
        *(
            f"""
import sys
from vitrail.cli import main
sys.argv = ['vitrail', {arguments}]
try:
    main()
except SystemExit as leaving:
    assert not leaving.code, leaving.code
"""
            for arguments in ("'--help'", "'--version'", "'classify', '--help'", "'info', '--help'")
        ),
    ],
)
def test_nothing_heavy_is_imported(code):
    assert imported_by(code).isdisjoint(HEAVY)


def test_the_check_sees_what_is_imported():
    assert {"torch", "PIL"} <= imported_by("import vitrail; vitrail.classify")


def test_every_public_name_is_there():
    for name in vitrail.__all__:
        assert getattr(vitrail, name) is not None
        assert name in dir(vitrail)
    with pytest.raises(AttributeError, match="no_such_verb"):
        vitrail.no_such_verb  # noqa: B018
