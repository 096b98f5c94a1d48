"""The recurrence in CUDA C++: opt-in, built ahead of time by `python -m duchenne_kernels.build --cuda`."""
