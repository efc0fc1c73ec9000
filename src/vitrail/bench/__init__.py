"""How fast Vitrail is on this machine, beside the libraries that people would run instead: `vitrail bench`."""

FAMILIES = ("vit", "efficientnet-lite", "clip", "git", "unet", "imagine", "train", "start")
"""What can be measured: for each there is a module here, with a function `works`."""
