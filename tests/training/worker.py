"""Train a recipe in a process of its own: worker.py RECIPE FOLDER THREADS [ddp | fsdp2, one of two processes]."""

import sys
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from vitrail.training.loop import Trainer, train
from vitrail.training.recipe import load_recipe
from vitrail.training.run import Run


def allow_fsdp2_on_cpu() -> None:
    """Accelerate 1.15 shards on accelerators only and would quietly run DDP: lift that one condition."""
    original = AcceleratorState.__init__

    def sharding(self: AcceleratorState, *arguments: object, **named: object) -> None:
        original(self, *arguments, **named)
        if plugin := named.get("fsdp_plugin"):
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, plugin

    AcceleratorState.__init__ = sharding


def check_way(way: str) -> None:
    """Let a run begin only if it is shared by two processes in this way."""
    run = Trainer.run

    def checked(trainer: Trainer) -> Run:
        assert trainer.accelerator.num_processes == 2
        spread = [isinstance(weight, DTensor) for weight in trainer.network.parameters()]
        assert all(spread) if way == "fsdp2" else not any(spread)
        return run(trainer)

    Trainer.run = checked


if __name__ == "__main__":
    recipe, folder, threads, *way = sys.argv[1:]
    torch.set_num_threads(int(threads))
    if way:
        check_way(*way)
    if way == ["fsdp2"]:
        allow_fsdp2_on_cpu()
    train(load_recipe(recipe), output=Path(folder))
