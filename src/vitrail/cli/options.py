"""The options that verbs share, so that each is called the same and means the same everywhere."""

from typing import Annotated

import typer

Inputs = Annotated[
    list[str],
    typer.Argument(metavar="INPUT", help="Pictures: files, folders, patterns, URLs, or - for standard input."),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="A name in the box, a folder, a file or a hub id.  [default: efficientnet-lite0]"
    ),
]
Architecture = Annotated[
    str | None, typer.Option(help="The network of a bare state dict, by timm's name: vit_base_patch16_224, say.")
]
Top = Annotated[int, typer.Option("--top", "-k", help="How many labels to give.")]
BatchSize = Annotated[int, typer.Option(help="The most pictures that go through the network at once.")]
Engine = Annotated[str, typer.Option(help="How the network runs.")]
Device = Annotated[str | None, typer.Option(help="Where it runs: cpu, cuda, cuda:1, mps, …  [default: cpu]")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line and nothing else.")]
AllowPrivate = Annotated[
    bool, typer.Option("--allow-private", help="Fetch URLs from addresses that are not public, too.")
]
