"""A stand-in for NVIDIA's driver: FFmpeg's own NVENC and NVDEC code runs without a GPU.

`build.py` makes three shared libraries from the C files. The loader finds them by LD_LIBRARY_PATH
in a child process, in which the tests of this folder run: see `tests/engine/gpu/test_driver.py`.
"""
