"""The C++ kernels of the CPU backend: compiled ahead of time by `python -m duchenne_kernels.build`, loaded by ctypes.

There is one library for each vector width, so that a package built on one machine runs on another; the source has a C
ABI and no torch headers, so that a new torch needs no new build.
"""
