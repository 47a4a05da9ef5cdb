"""The streaming engine beside nnU-Net's predictor on a GPU: time, memory, and voxels that differ.

    python -m benchmarks.gpu [--slices 200] [--folds 2]      # further options: those of benchmarks.inference

nnU-Net runs twice: on a GPU it differs from itself from run to run, and the engine may differ as much. The
engine runs as it is (``exact``) and with its network compiled by PyTorch (``compiled``). Two
networks of nnU-Net's usual size are trained on the phantom first, a few steps each. Without a GPU nothing is
run; `benchmarks.launches` counts operations without one.
"""

from __future__ import annotations

import sys

import torch

from benchmarks.inference.__main__ import main

_DEFAULTS = ("--device", "cuda", "--features", "full", "--folds", "2", "--training-steps", "100")
_METHODS = ("--methods", "nnunet", "nnunet again", "exact", "exact, body only", "compiled")


if __name__ == "__main__":
    if not torch.cuda.is_available():
        print("gpu: no GPU, nothing was measured")
        sys.exit(0)
    print(f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    sys.argv[1:] = [*_DEFAULTS, *_METHODS, *sys.argv[1:]]
    sys.exit(main())
