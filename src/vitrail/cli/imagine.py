"""The verbs that imagine: generate, edit."""

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitrail.cli import options
from vitrail.cli.outputs import Places, Shown, check_file, save_drawing
from vitrail.cli.report import print_json
from vitrail.cli.talk import lines
from vitrail.cli.watching import Watching
from vitrail.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from vitrail.models.generator import Generator
    from vitrail.tasks.batches import Failure
    from vitrail.tasks.generate import Generated, Made, Settings
    from vitrail.tasks.loras import Added
    from vitrail.tasks.morph import Morph
    from vitrail.tasks.recipe import Recipe

GeneratorName = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="A name in the box, a folder, a file or a hub id.  [default: emoji/imagine-nano]"
    ),
]
Count = Annotated[int, typer.Option("--count", "-k", help="How many pictures of each prompt.")]
Seed = Annotated[
    int | None, typer.Option(help="Of the noise; the next picture has the next one.  [default: draw one, and say it]")
]
NumSteps = Annotated[int | None, typer.Option(help="Steps from noise to picture.  [default: as usual for the network]")]
SamplerName = Annotated[
    str | None,
    typer.Option(help="euler, heun, ddim, dpm++2m, unipc, euler-ancestral, …  [default: as usual for the network]"),
]
GuidanceScale = Annotated[
    float | None,
    typer.Option(help="How far to push towards the prompt; 1 is not at all.  [default: as usual for the network]"),
]
Negative = Annotated[str | None, typer.Option(metavar="TEXT", help="What the picture shall not be.")]
PictureSize = Annotated[
    str | None,
    typer.Option("--size", metavar="SIDE|WIDTHxHEIGHT", help="In pixels.  [default: as usual for the network]"),
]
LoraFiles = Annotated[
    list[str] | None,
    typer.Option("--lora", metavar="FILE", help="Add a LoRA to the network for these pictures; may be repeated."),
]
LoraStrengths = Annotated[
    list[float] | None,
    typer.Option(
        "--lora-strength", metavar="<float>", help="How much of it; said for each --lora, in their order.  [default: 1]"
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="A .png, .jpg or .webp file, numbered where there are several pictures; or a folder.  "
        "[default: a new file called after the prompt]",
    ),
]
EditOutput = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="A .png, .jpg or .webp file, numbered where there are several pictures; or a folder.  "
        "[default: cat-edited.png beside cat.jpg]",
    ),
]
Sheet = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw a contact sheet of all pictures, too.")]
Preview = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the picture so far to this file every few steps.")
]
PreviewEvery = Annotated[
    int | None,
    typer.Option(
        metavar="STEPS",
        help="How often the picture so far is shown, in a terminal that shows pictures and in --preview; 0 is never.  "
        "[default: five times a picture]",
    ),
]


def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT", help="What to make; - reads prompts, one a line.")
    ] = None,
    prompts_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Prompts from a text file, one a line.")
    ] = None,
    output: Output = None,
    count: Count = 1,
    seed: Seed = None,
    num_steps: NumSteps = None,
    sampler: SamplerName = None,
    guidance_scale: GuidanceScale = None,
    negative: Negative = None,
    size: PictureSize = None,
    loras: LoraFiles = None,
    lora_strengths: LoraStrengths = None,
    towards: Annotated[
        str | None,
        typer.Option(metavar="PROMPT", help="Go on to this: a strip of pictures, or a film where -o ends in .gif."),
    ] = None,
    towards_seed: Annotated[
        int | None, typer.Option(help="Of the noise where --towards leads.  [default: the same noise all the way]")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Pictures on the way of --towards.  [default: 8]")] = None,
    again: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Make this picture again, from its recipe; other options change it."),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the way from noise to the picture, and the field that led it."),
    ] = None,
    sheet: Sheet = None,
    preview: Preview = None,
    preview_every: PreviewEvery = None,
    model: GeneratorName = None,
    engine: options.Engine = "auto",
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Make pictures of what you say, out of noise.

    The network in the box draws emoji, and no photographs; it reads English and Chinese.
    """
    from vitrail.tasks.generate import (
        Settings,
        checked_prompt,
        draw_seed,
        file_stem,
        generate_each,
        get_generator,
        make_again,
    )
    from vitrail.tasks.morph import FRAMES, way_between
    from vitrail.tasks.recipe import read_recipe
    from vitrail.tasks.trace import trace_again

    said = _prompts(prompts or [], prompts_file)
    for file in (sheet, trace, preview):
        check_file(file)
    alone = [towards, trace, again].count(None) < 3
    if alone and (count > 1 or len(said) > 1 or sheet is not None):
        raise UsageError(
            "--towards, --trace and --again are for one prompt and one picture, without --count and --sheet"
        )
    if [towards, trace, again].count(None) < 2:
        raise UsageError("--towards, --trace and --again exclude each other")
    if towards is None and (towards_seed is not None or frames is not None):
        raise UsageError("--towards-seed and --frames go with --towards")
    recipe = None if again is None else read_recipe(again)
    is_way = towards is not None or (recipe is not None and recipe.way is not None)
    places = Places(output, inputs=len(said), each=count, endings=(".gif",) if is_way else ())
    added = _loras(loras or [], lora_strengths or [], recipe, again)
    settings = Settings(num_steps, sampler, guidance_scale, negative or "", _size(size), added)
    network = get_generator(model or (recipe.model if recipe else None), engine=engine, device=device)
    if not said and recipe is None and network.prompted:
        raise UsageError('say what to make, as in vitrail generate "a green frog"')
    prompt = said[0] if said else ""

    with Watching(max(1, len(said)) * count, preview, preview_every) as watch:
        if is_way:
            if recipe is not None:
                recipe = _now(recipe, network, again, said, seed, negative, settings)
            else:
                assert towards is not None  # or it were no way
                recipe = way_between(
                    *(prompt, towards, network, settings),
                    frames=FRAMES if frames is None else frames,
                    seed=seed,
                    towards_seed=towards_seed,
                )
            _go(recipe, network, places, watch, as_json=as_json)
            return
        with Shown(places, watch, as_json=as_json) as shown:

            def keep(made: "Made") -> None:
                shown.keep(made, Path(f"{file_stem(made.recipe.prompt)}.png"), made.recipe.prompt)

            if recipe is not None:
                recipe = _now(recipe, network, again, said, seed, negative, settings)
                keep(make_again(recipe, network, watch=watch))
                shown.tell(recipe.prompt)
            elif trace is not None:
                prompt = checked_prompt(network, prompt)
                recipe = settings.recipe(network, prompt, draw_seed() if seed is None else seed)
                seen = trace_again(recipe, network, watch=watch)
                keep(seen.made)
                save_drawing(seen.draw(), trace, quiet=as_json)
                shown.tell(prompt)
            else:
                results = generate_each(said or [""], network, settings, count=count, seed=seed, watch=watch, keep=keep)
                _follow(results, shown, sheet)
            raise typer.Exit(shown.exit_code)


def edit(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="Pictures: files, folders, patterns, URLs, or - for standard input."),
    ] = None,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What they shall become.")] = "",
    strength: Annotated[
        float | None,
        typer.Option(help="How much is made anew, above 0 and at most 1.  [default: 0.6, and 1 under a mask]"),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            metavar="PICTURE", help="As large as the picture: white is painted anew, black stays just as it is."
        ),
    ] = None,
    variations: Annotated[
        int | None, typer.Option(metavar="N", help="So many of each, with or without a prompt.")
    ] = None,
    output: EditOutput = None,
    seed: Seed = None,
    num_steps: NumSteps = None,
    sampler: SamplerName = None,
    guidance_scale: GuidanceScale = None,
    negative: Negative = None,
    size: PictureSize = None,
    loras: LoraFiles = None,
    lora_strengths: LoraStrengths = None,
    again: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Make this picture again, from its recipe; other options change it."),
    ] = None,
    sheet: Sheet = None,
    preview: Preview = None,
    preview_every: PreviewEvery = None,
    model: GeneratorName = None,
    engine: options.Engine = "auto",
    device: options.Device = None,
    as_json: options.Json = False,
    allow_private: options.AllowPrivate = False,
) -> None:
    """Make pictures anew: wholly or under a mask, as you say or, without a prompt, just a little otherwise."""
    from vitrail.imaging.inputs import find_inputs
    from vitrail.tasks.edit import Change, edit_again, edit_each, edited_path, open_mask
    from vitrail.tasks.generate import Settings, get_generator
    from vitrail.tasks.recipe import read_recipe

    for file in (sheet, preview):
        check_file(file)
    named, prompt = _pictures_and_prompt(inputs or [], prompt, wordless=bool(variations or mask or again))
    if again is not None and (mask is not None or variations is not None or len(named) > 1 or sheet is not None):
        raise UsageError(
            "--again makes one picture, with the mask of its recipe: leave --mask, --variations and --sheet"
        )
    if again is None and not named:
        raise UsageError("there is no picture to edit: it stands before the prompt")
    recipe = None if again is None else read_recipe(again)
    added = _loras(loras or [], lora_strengths or [], recipe, again)
    settings = Settings(num_steps, sampler, guidance_scale, negative or "", _size(size), added)
    cover = None if mask is None else open_mask(mask, allow_private=allow_private)
    change = Change(prompt, strength, cover, 1 if variations is None else variations, seed)
    found = find_inputs(named)
    places = Places(output, inputs=len(found), each=change.count)
    network = get_generator(model or (recipe.model if recipe else None), engine=engine, device=device)

    with (
        Watching(max(1, len(found)) * change.count, preview, preview_every) as watch,
        Shown(places, watch, as_json=as_json) as shown,
    ):
        if recipe is not None:
            recipe = _now(recipe, network, again, [prompt] if prompt else [], seed, negative, settings)
            if recipe.start is not None and strength is not None:
                recipe = replace(recipe, start=replace(recipe.start, strength=strength))
            edited, changed = edit_again(recipe, network, found[0] if found else None, watch=watch)
            for why in changed:
                print(f"Note: {why}", file=sys.stderr)
            shown.keep(edited.pictures[0], edited_path(edited.input), edited.input)
            shown.tell(edited.input)
        else:
            results = edit_each(
                *(found, network, change, settings),
                watch=watch,
                keep=lambda input, made: shown.keep(made, edited_path(input.name), input.name),
                allow_private=allow_private,
            )
            _follow(results, shown, sheet)
        raise typer.Exit(shown.exit_code)


def _go(recipe: "Recipe", model: "Generator", places: Places, watch: Watching, *, as_json: bool) -> None:
    """Make a way between two prompts. Interrupted, it keeps the pictures made so far, in one file."""
    from vitrail.tasks.generate import file_stem
    from vitrail.tasks.morph import morph_again

    ways: list[Morph] = []

    def write(way: "Morph") -> None:
        watch.close()
        path = places.save(way, Path(f"{file_stem(f'{recipe.prompt} to {way.way.prompt}')}.png"))
        if as_json:
            print_json({**way.to_dict(), "path": str(path)})
        else:
            print(f"{way}\n  {path}", flush=True)

    try:
        morph_again(recipe, model, watch=watch, keep=ways.append)
    except KeyboardInterrupt:
        if ways:
            write(ways[-1])
            print(f"Note: these are {len(ways)} of the {ways[-1].way.frames} pictures", file=sys.stderr)
        raise
    write(ways[-1])


def _follow(results: "Iterator[Generated | Failure]", shown: Shown, sheet: Path | None) -> None:
    """Until all are there; then the sheet of them all."""
    from vitrail.tasks.batches import Failure
    from vitrail.tasks.generate import sheet as drawn

    for result in results:
        if isinstance(result, Failure):
            shown.fail(result)
        else:
            shown.tell(result.input)
    if sheet is not None and shown.kept:
        pictures = [made for made, _ in shown.kept]
        captions = [f"{path.name}, seed {made.recipe.seed}" for made, path in shown.kept]
        save_drawing(drawn(pictures, captions=captions), sheet, quiet=shown.as_json)


def _prompts(given: list[str], file: Path | None) -> list[str]:
    """The prompts of a command line: its arguments, the lines of standard input for a -, those of a file."""
    from vitrail.tasks.generate import read_prompts

    said: list[str] = []
    for prompt in given:
        said += lines() if prompt == "-" else [prompt]
    return said if file is None else [*said, *read_prompts(file)]


def _size(text: str | None) -> "int | tuple[int, int] | None":
    """ "64" or "96x64", width first, as `generate` takes it.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6})(?:[x×](\d{1,6}))?", text.strip())
    if found is None:
        raise UsageError(f"a size is a side in pixels or WIDTHxHEIGHT, as in --size 96x64, not '{text}'")
    return int(found[1]) if found[2] is None else (int(found[2]), int(found[1]))


def _loras(
    files: list[str], strengths: list[float], recipe: "Recipe | None", again: Path | None
) -> "tuple[Added, ...]":
    """The LoRAs of a command line; what it does not say of them is as in the recipe, if there is one.

    Raises:
        UsageError: there are not as many strengths as files.
        CheckpointError: a file is not there, or cannot be read.
    """
    from vitrail.tasks.loras import find_lora

    before = () if recipe is None else recipe.loras
    wanted = files or [lora.file for lora in before]
    if not strengths:
        strengths = [lora.strength for lora in before] if len(before) == len(wanted) else [1.0] * len(wanted)
    if len(strengths) != len(wanted):
        raise UsageError(f"say one --lora-strength for each --lora, or none: not {len(strengths)} for {len(wanted)}")
    if not files and (gone := next((file for file in wanted if not os.path.exists(file)), None)):
        raise CheckpointError(f"{again} was made with the LoRA {gone}, which is not there: name it with --lora")
    return tuple(find_lora(file, strength) for file, strength in zip(wanted, strengths, strict=True))


def _now(
    recipe: "Recipe",
    model: "Generator",
    file: Path | None,
    prompts: list[str],
    seed: int | None,
    negative: str | None,
    settings: "Settings",
) -> "Recipe":
    """A recipe as this network, here and now, follows it, with what is said otherwise; differences are noted."""
    from vitrail.tasks.recipe import provenance

    named = [lora.file for lora in settings.loras] != [lora.file for lora in recipe.loras]
    for why in (replace(recipe, loras=()) if named else recipe).differences(model):
        print(f"Note: {file} may come out otherwise: {why}", file=sys.stderr)
    recipe = replace(recipe, **provenance(model))
    prompt = prompts[0] if prompts else recipe.prompt
    said = settings.recipe(model, prompt, recipe.seed if seed is None else seed, recipe.size)
    return replace(
        recipe,
        prompt=said.prompt,
        seed=said.seed,
        size=said.size,
        negative=recipe.negative if negative is None else negative,
        num_steps=recipe.num_steps if settings.num_steps is None else settings.num_steps,
        sampler=settings.sampler or recipe.sampler,
        guidance_scale=recipe.guidance_scale if settings.guidance_scale is None else said.guidance_scale,
        loras=said.loras,
    )


def _pictures_and_prompt(inputs: list[str], last: str, *, wordless: bool) -> tuple[list[str], str]:
    """The command line takes what stands last for the prompt; where it is a picture, there is none.

    Raises:
        UsageError: there is no prompt, and it does not go without one.
    """
    from vitrail.imaging.open import is_url

    is_picture = bool(last) and (os.path.exists(last) or is_url(last) or last == "-")
    if wordless and last and (is_picture or not inputs):
        return [*inputs, last], ""
    if is_picture and not inputs:
        raise UsageError(f"say what {last} shall become, or ask for --variations")
    return inputs, last
