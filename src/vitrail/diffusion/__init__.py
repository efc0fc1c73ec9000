"""Pictures out of noise: schedules, parameterisations, samplers and guidance, as pure functions on tensors.

Everything here speaks of one frame: x = x0 + σ n, a clean picture x0 with Gaussian noise n of standard deviation σ on
it (Karras et al. 2022, 2206.00364, and k-diffusion). A network trained otherwise is turned once into a denoiser in this
frame (`parameterisations`); guidance makes a denoiser of a denoiser (`guidance`); and any sampler runs any denoiser.
"""
