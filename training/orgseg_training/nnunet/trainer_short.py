"""An nnU-Net trainer for short schedules: AdamW, bf16 on CPUs that compute it, no mirroring, warm start.

The study's own runs use `orgseg_training.nnunet.trainer_paper`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from orgseg_training.nnunet.trainer_base import nnUNetTrainerOrgseg

# With avx512_bf16, oneDNN (torch 2.13) computes weight gradients of 3 x 3 x 3 convolutions from memory that
# was never written if the feature map is two voxels deep: most steps gave NaN. Other depths are correct.
_UNSAFE_BF16_DEPTH = 2
_DECODER_STAGE = re.compile(r"^(decoder\.(?:stages|transpconvs)\.)(\d+)\.")


def computes_bf16(capabilities: Mapping[str, Any]) -> bool:
    """Whether a CPU has instructions for bfloat16.

    Without them bfloat16 is emulated, and a step takes many times as long as in 32 bits.

    Parameters
    ----------
    capabilities : as `torch.cpu.get_capabilities` returns them, for x86 or ARM
    """
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def feature_map_depths(patch_depth: int, strides: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Size of the feature maps along their first axis, for each stage of a network.

    Parameters
    ----------
    patch_depth : voxels of a patch along its first axis
    strides : of each stage, along the three axes
    """
    depths = []
    for stride in strides:
        patch_depth //= stride[0]
        depths.append(patch_depth)
    return tuple(depths)


def _depth(weights: dict[str, Any]) -> int:
    """The number of decoder stages of a network, from the names of its weights."""
    return 1 + max(int(found[2]) for key in weights if (found := _DECODER_STAGE.match(key)))


class nnUNetTrainerOrgsegShort(nnUNetTrainerOrgseg):  # noqa: N801 - nnU-Net names its trainers so
    """3d_fullres with a short schedule; left and right are labels of their own, so nothing is mirrored."""

    def __init__(  # the signature nnU-Net calls
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device,
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.weight_decay = 1e-2
        self.num_val_iterations_per_epoch = 6
        self.oversample_foreground_percent = 0.5
        self.save_every = 3
        depths = feature_map_depths(
            self.configuration_manager.patch_size[0],
            self.configuration_manager.network_arch_init_kwargs["strides"],
        )
        # older torch has no get_capabilities
        capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        self._bf16 = computes_bf16(capabilities) and _UNSAFE_BF16_DEPTH not in depths
        # The gain of channels_last depends on the CPU: a tenth to a third of the time with avx512_bf16,
        # almost nothing with amx_bf16, nothing without either (benchmarks/training_step.py).
        self._layout = torch.channels_last_3d if self._bf16 and device.type == "cpu" else None

    def initialize(self) -> None:
        """Build the network, and load the weights of an earlier network if the schedule names one."""
        super().initialize()
        if self._layout is not None:
            self.network.to(memory_format=self._layout)
        if self._warm_start:
            own_folder = Path(self.output_folder)
            folder = own_folder.parents[2] / self._warm_start / own_folder.parent.name / own_folder.name
            checkpoint = torch.load(folder / "checkpoint_final.pth", map_location="cpu", weights_only=False)
            self._load_pretrained_weights(checkpoint["network_weights"])

    def _load_pretrained_weights(self, pretrained: dict[str, Any]) -> None:
        """Start from another network's weights, all but the last layers; it may have more stages.

        Encoder stages are numbered from the top, decoder stages from the bottom, so decoder stages of the
        same resolution have different numbers in networks with different numbers of stages.
        """
        own = self.network.state_dict()
        deeper = _depth(pretrained) - _depth(own)

        def name_in_pretrained(key: str) -> str:
            return _DECODER_STAGE.sub(lambda found: f"{found[1]}{int(found[2]) + deeper}.", key)

        fitting = {key: pretrained[name_in_pretrained(key)] for key in own if ".seg_layers." not in key}
        self.network.load_state_dict(own | fitting)

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """AdamW: SGD at 1e-2 needs several times as many iterations to find small organs."""
        optimizer = torch.optim.AdamW(
            self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay
        )
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, bool, Any, None]:  # noqa: N802
        """As nnU-Net, without mirroring in training or test."""
        rotation, dummy_2d, initial, _ = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        self.inference_allowed_mirroring_axes = None
        return rotation, dummy_2d, initial, None

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One step; in bf16 on CPUs that compute it, where nnU-Net's own trainer uses 32 bits."""
        if self.device.type != "cpu":
            result: dict[str, Any] = super().train_step(batch)
            return result
        self.optimizer.zero_grad(set_to_none=True)
        data = batch["data"] if self._layout is None else batch["data"].to(memory_format=self._layout)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._bf16):
            output = self.network(data)
        loss = self.loss([o.float() for o in output], batch["target"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 12)
        self.optimizer.step()
        return {"loss": loss.detach().numpy()}
