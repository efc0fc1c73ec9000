"""Get the npm packages that Emoji World is made of: exact versions, checked against their digests, never run."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitrail.errors import VitrailError

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many steps of it are done, and how many there are."""


@dataclass(frozen=True)
class Package:
    """An npm package at one version.

    Attributes:
        name: "@iconify-json/noto", say.
        version: exact.
        sha512: the digest of its tarball in base64, as npm writes it after "sha512-".
        licence: an SPDX identifier.
        author: who is to be credited.
        home: where the work itself lives.
        gives: what Emoji World takes from it.
    """

    name: str
    version: str
    sha512: str
    licence: str
    author: str
    home: str
    gives: str

    @property
    def tarball(self) -> str:
        """The file name that `npm pack` gives it."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


STYLES: Mapping[str, str] = {
    "noto": "@iconify-json/noto",
    "twemoji": "@iconify-json/twemoji",
    "fluent-flat": "@iconify-json/fluent-emoji-flat",
    "fluent-3d": "@lobehub/fluent-emoji-3d",
}
"""The art styles of Emoji World, and the package each is drawn in."""

CLDR, CLDR_DERIVED, EMOJIBASE = "cldr-annotations-full", "cldr-annotations-derived-full", "emojibase-data"

PACKAGES = (
    Package(
        STYLES["noto"],
        "1.2.9",
        "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        "Apache-2.0",
        "Google Inc.",
        "https://github.com/googlefonts/noto-emoji",
        "drawings in the style noto",
    ),
    Package(
        STYLES["twemoji"],
        "1.2.5",
        "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
        "CC-BY-4.0",
        "Twitter, Inc. and other contributors",
        "https://github.com/jdecked/twemoji",
        "drawings in the style twemoji",
    ),
    Package(
        STYLES["fluent-flat"],
        "1.2.6",
        "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        "MIT",
        "Microsoft Corporation",
        "https://github.com/microsoft/fluentui-emoji",
        "drawings in the style fluent-flat",
    ),
    Package(
        STYLES["fluent-3d"],
        "1.1.0",
        "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        "MIT",
        "Microsoft Corporation; packaged by LobeHub",
        "https://github.com/lobehub/fluent-emoji",
        "drawings in the style fluent-3d",
    ),
    Package(
        CLDR,
        "48.2.0",
        "DV7A+rEcgUSNTRsVGNGqBZRmAkGfwhGHO5Q1dRwzBoBnVrHWp804JP7/QJdEc66iHmx3+zLWVIMCFLm0lW7PUQ==",
        "Unicode-3.0",
        "Unicode, Inc.",
        "https://github.com/unicode-org/cldr-json",
        "names and keywords, English and Chinese",
    ),
    Package(
        CLDR_DERIVED,
        "48.2.0",
        "log62km+AOzI7n/NEuNNFV0mg9DWnt67EYCh1RwxZq9dyRuyteB586LT83Ke8TchEfnwI9cIk2P31zO4nTvZmw==",
        "Unicode-3.0",
        "Unicode, Inc.",
        "https://github.com/unicode-org/cldr-json",
        "names and keywords of composed emoji",
    ),
    Package(
        EMOJIBASE,
        "17.0.0",
        "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
        "MIT",
        "Miles Johnson",
        "https://emojibase.dev",
        "the list of emoji, their groups and subgroups",
    ),
)
"""Everything Emoji World is made of. Another version of any of them makes another data set."""


def fetch(packages: Sequence[Package], cache: Path, source: Path | None, progress: Progress) -> dict[str, Path]:
    """The tarball of each package, by package name, its digest verified.

    Args:
        packages: what is wanted.
        cache: the folder that tarballs are fetched into with the npm client; one that is whole is not fetched again.
        source: a folder that holds all of them already: then nothing is fetched.
        progress: told of each package.

    Raises:
        VitrailError: a tarball is missing from `source` or is not the one that was published; or there is no npm
            client, or it fails.
    """
    if source is not None:
        missing = [package.tarball for package in packages if not (source / package.tarball).is_file()]
        if missing:
            raise VitrailError(f"the folder {source} lacks {', '.join(missing)}: `npm pack NAME@VERSION` makes each")
    found = {}
    for done, package in enumerate(packages):
        progress(f"fetch {package.name}", done, len(packages))
        path = (source or cache) / package.tarball
        if source is None and not (path.is_file() and _digest(path) == package.sha512):
            _pack(package, cache, packages)
        if _digest(path) != package.sha512:
            raise VitrailError(
                f"{path} is damaged or is not {package.name} {package.version} as published (its sha512 differs): "
                "delete it and fetch it again"
            )
        found[package.name] = path
    progress("fetch", len(packages), len(packages))
    return found


def members(tarball: Path) -> Iterator[tuple[str, bytes]]:
    """Each plain file of a package, as its path within the package and its bytes. Nothing is written to disk.

    Raises:
        VitrailError: the tarball is damaged.
    """
    try:
        with tarfile.open(tarball, "r:gz") as archive:
            for member in archive:
                if member.isfile() and (file := archive.extractfile(member)):
                    yield member.name.removeprefix("package/"), file.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise VitrailError(f"{tarball} is damaged and cannot be unpacked ({error}): fetch it again") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()


def _pack(package: Package, cache: Path, packages: Sequence[Package]) -> None:
    """Fetch one tarball with `npm pack`, which downloads a published package and runs nothing of it."""
    npm = shutil.which("npm")
    if npm is None:
        raise VitrailError(
            "there is no npm client to fetch the drawings with: install Node.js (https://nodejs.org), or give "
            f"--from DIR, a folder with {', '.join(package.tarball for package in packages)}"
        )
    cache.mkdir(parents=True, exist_ok=True)
    wanted = f"{package.name}@{package.version}"
    # Written in place: a download that is cut short fails the comparison of digests, and is fetched again.
    command = [npm, "pack", wanted, "--ignore-scripts", "--pack-destination", str(cache.resolve())]
    run = subprocess.run(command, cwd=cache, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if run.returncode or not (cache / package.tarball).is_file():
        errors = [line.strip() for line in run.stderr.splitlines() if "error" in line.lower()]
        reason = errors[0] if errors else f"it ended with {run.returncode}"
        raise VitrailError(
            f"npm cannot fetch {wanted} ({reason}): look at the network and try again, or give --from DIR, a folder "
            "with the tarballs"
        )
