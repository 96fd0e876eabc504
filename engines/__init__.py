"""Tensors in, scores out. Imports nothing of ours."""

import os

# The matrices here are small: BLAS threads would only spin beside the one that works (measured: 14k, not 22k texts/s).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
