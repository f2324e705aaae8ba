"""Sweeps and studies: their directories, jobs and progress, as callbacks of Hydra."""
