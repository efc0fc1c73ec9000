"""How few steps will do: the pictures of `emoji/imagine-nano` by sampler and number of looks at the network.

Prompts of Emoji World that the network was not trained on (a concept in a style never shown in it), one noise for all
samplers. Needs `vitrail data build emoji`; distances are in the feature space of the box's own encoder and depend on
the number of pictures.

A sampler gets as many steps as its looks allow: Heun's method looks twice at most of them, PNDM at its first. Left out
are `ddim` and `euler-ancestral`, which make the very pictures of `euler` and `ddpm`; `ode`, which chooses its own
number of looks, hundreds; and `langevin` and `predictor-corrector`, whose steps hold only between levels of noise close
to each other, hundreds of them, and which make nothing of a few that begin with noise alone.
"""

import argparse
import json
import time
from pathlib import Path

import torch

import vitrail
from vitrail.data.prompts import PromptsSection
from vitrail.diffusion.noise import noise_like
from vitrail.evaluation.generation import READER, box_encoder, features, frechet_distance, text_scores
from vitrail.models.generator import Generator
from vitrail.training.randomness import generator_for

SAMPLERS = ("euler", "heun", "dpm++2m", "unipc", "pndm", "ddpm", "dpm++2m-sde", "lcm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="emoji/imagine-nano")
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--looks", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--guidance", type=float, nargs="+", default=[3.0])
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the numbers, besides printing them")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = vitrail.load(asked.model, device="cpu")
    assert isinstance(model, Generator)
    data = PromptsSection(source="prompts", test_length=2 * asked.pictures).open(model.usual.size)
    assert data.prompts is not None
    rows = [number for number, wanted in enumerate(data.prompts.tests) if wanted.part == "unseen"]
    tests = [data.prompts.tests[row] for row in rows]
    real = data.test.batch(torch.tensor(rows), None)["images"].float() / 127.5 - 1
    encoder, reader = box_encoder(torch.device("cpu")), vitrail.load(READER, device="cpu", engine="eager")
    real_features = features(real, encoder)
    prompts = [wanted.prompt for wanted in tests]

    def agreement(pictures: torch.Tensor) -> float:
        return text_scores(pictures, prompts, prompts, torch.arange(len(prompts)), reader)["agreement"]

    shape = model.latent_shape(model.usual.size)
    noise = noise_like(torch.empty(len(tests), *shape), [generator_for("made", row) for row in rows])
    cond, negative = model.condition(prompts), model.condition([""])
    found = []
    print(f"{len(tests)} pictures of unseen combinations; real ones agree with their prompts by {agreement(real):.3f}")
    print()
    print("| sampler | guidance | looks | steps | Fréchet | agreement | seconds |\n|---|---|---|---|---|---|---|")
    for sampler in asked.samplers:
        for scale in asked.guidance:
            for looks in asked.looks:
                num_steps = steps_of(looks, sampler, model)
                started = time.perf_counter()
                made = model.sample(
                    cond,
                    noise,
                    negative=negative,
                    num_steps=num_steps,
                    sampler=sampler,
                    guidance_scale=scale,
                    generator=[generator_for("steps", row) for row in rows],
                )
                seconds = time.perf_counter() - started
                distance, agrees = frechet_distance(real_features, features(made, encoder)), agreement(made)
                found.append(
                    {"sampler": sampler, "guidance": scale, "looks": looks, "num_steps": num_steps}
                    | {"frechet": distance, "agreement": agrees, "seconds": seconds}
                )
                said = f"| {sampler} | {scale:g} | {looks} | {num_steps} "
                print(said + f"| {distance:.1f} | {agrees:.3f} | {seconds:.1f} |", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")


def steps_of(looks: int, sampler: str, model: Generator) -> int:
    """The most steps of a sampler that take no more looks at the network than so many; at least one step."""

    def taken(num_steps: int) -> int:
        count = 0

        def look(x: torch.Tensor, sigma: torch.Tensor, cond: object) -> torch.Tensor:
            nonlocal count
            count += 1
            return torch.zeros_like(x)

        sigmas = model.sigmas(num_steps, sampler)
        model.sampler(sampler)(look, torch.ones(1, 1, 1, 1), sigmas, generator=torch.Generator())
        return count

    return max([1, *(steps for steps in range(1, looks + 1) if taken(steps) <= looks)])


if __name__ == "__main__":
    main()
