"""How few steps will do: the pictures of `emoji/imagine-nano` by sampler and number of looks at the network.

Prompts of Emoji World that the network was not trained on (a concept in a style never shown in it), one noise for all
samplers. Needs `vitrail data build emoji`; distances are in the feature space of the box's own encoder and depend on
the number of pictures.
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
from vitrail.training.randomness import generator_for

SAMPLERS = ("euler", "heun", "dpm++2m", "unipc", "ddpm", "dpm++2m-sde", "lcm")
LOOKS = {"heun": 2}  # at the network a step, where it is not one


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
    model = vitrail.load(asked.model)
    data = PromptsSection(source="prompts", test_length=2 * asked.pictures).open(model.usual.size)
    assert data.prompts is not None
    rows = [number for number, wanted in enumerate(data.prompts.tests) if wanted.part == "unseen"]
    tests = [data.prompts.tests[row] for row in rows]
    real = data.test.batch(torch.tensor(rows), None)["images"].float() / 127.5 - 1
    encoder, reader = box_encoder(torch.device("cpu")), vitrail.load(READER, engine="eager")
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
    print("| sampler | guidance | looks | Fréchet | agreement | seconds |\n|---|---|---|---|---|---|")
    for sampler in asked.samplers:
        for scale in asked.guidance:
            for looks in asked.looks:
                started = time.perf_counter()
                made = model.sample(
                    cond,
                    noise,
                    negative=negative,
                    num_steps=looks // LOOKS.get(sampler, 1),
                    sampler=sampler,
                    guidance_scale=scale,
                    generator=[generator_for("steps", row) for row in rows],
                )
                seconds = time.perf_counter() - started
                distance, agrees = frechet_distance(real_features, features(made, encoder)), agreement(made)
                found.append(
                    {"sampler": sampler, "guidance": scale, "looks": looks, "frechet": distance}
                    | {"agreement": agrees, "seconds": seconds}
                )
                print(
                    f"| {sampler} | {scale:g} | {looks} | {distance:.1f} | {agrees:.3f} | {seconds:.1f} |", flush=True
                )
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
