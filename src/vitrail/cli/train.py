"""The verbs that learn: train, evaluate, finetune."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vitrail.cli import options
from vitrail.cli.report import print_json, progress_bar, show_whole


class Method(StrEnum):
    """What is trained."""

    PROBE = "probe"
    LORA = "lora"
    FULL = "full"


def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe: a YAML file, as those in recipes/.")],
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Keys to change: steps=200, model.depth=4, …")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The run's folder.  [default: runs/NAME of the recipe]")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard what a run left in the folder, instead of going on with it.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Train what a recipe says, or go on where a run of it was interrupted."""
    from vitrail.training.loop import train
    from vitrail.training.recipe import load_recipe

    run = train(load_recipe(recipe, changes or ()), output=output, resume=not restart)
    from accelerate import PartialState

    if not PartialState().is_main_process:  # under accelerate launch one process speaks for all
        return
    if as_json:
        print_json(run.to_dict())
    else:
        print(run)


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    as_json: options.Json = False,
) -> None:
    """Score a finished run's network anew."""
    from vitrail.training.loop import evaluate

    scored = evaluate(run)
    if as_json:
        print_json(scored.to_dict())
    else:
        print(scored)


def finetune(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Holds a folder of pictures for each class, named after it.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for the network and its report, new or empty.")
    ],
    model: options.ModelName = None,
    method: Annotated[
        Method,
        typer.Option(
            help="probe: a new head, in seconds. lora: and small additions to a transformer. full: all weights."
        ),
    ] = Method.PROBE,
    validation: Annotated[
        float | None, typer.Option(help="The share of each class that is held out to be scored on.  [default: 0.2]")
    ] = None,
    test_folder: Annotated[
        Path | None, typer.Option(help="Class folders to be scored on, instead of holding pictures out.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="How often lora and full look at each picture.  [default: 10]")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Their highest learning rate.  [default: lora 1e-3, full 1e-4]")
    ] = None,
    batch_size: options.BatchSize = 32,
    seed: Annotated[int, typer.Option(min=0, help="Of the split and of everything else that is drawn.")] = 0,
    engine: options.Engine = "auto",
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Teach a network the classes of a folder, and report how well it knows them."""
    from vitrail.tasks.finetune import finetune
    from vitrail.tasks.models import DEFAULT_MODEL

    with progress_bar() as progress:
        tuned = finetune(
            folder,
            output=output,
            model=model or DEFAULT_MODEL,
            method=method.value,
            validation=validation,
            test_folder=test_folder,
            epochs=epochs,
            lr=lr,
            batch_size=batch_size,
            seed=seed,
            engine=engine,
            device=device,
            progress=progress,
        )
    raise typer.Exit(show_whole(tuned, tuned.left_out, as_json=as_json))
