"""Fine-tuning: from another network's weights, with warm-up and cosine, on scans with some organs drawn.

Every block of steps ends with the Dice of each organ in whole validation scans. The weights of the best block
are kept; those of the last one, if patches of other regions are taught, which no validation scan shows. All
random choices of a block follow from its number, so a training that was killed and continued gives the same
weights as one that was not, as long as augmentation runs in its own process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from orgseg_node.inference.backends.network import load_weights
from orgseg_training.nnunet.background_shift import (
    best_shift,
    lower_background,
    organ_margins,
    shifted_dice,
)
from orgseg_training.nnunet.balanced_loader import BalancedLoader
from orgseg_training.nnunet.mirrored_sides import SideExchange
from orgseg_training.nnunet.partial_loss import PartialDiceCrossEntropy, unknown_table
from orgseg_training.nnunet.progress import ProgressWriter
from orgseg_training.nnunet.tiles import predict_labels, predict_tiles
from orgseg_training.nnunet.trainer_short import nnUNetTrainerOrgsegShort
from orgseg_training.nnunet.warm_start import warm_weights

TIMED_STEPS: Final = 20
_HISTORY: Final = "orgseg_history"
_LOWEST_RATE: Final = 0.01


def learning_rate(step: int, steps: int, warm_up: int, peak: float) -> float:
    """Linear warm-up, then half a cosine down to a hundredth.

    Parameters
    ----------
    step : from 0
    steps : of the whole training
    warm_up : steps until the peak
    peak : highest learning rate
    """
    if step < warm_up:
        return peak * (step + 1) / warm_up
    part = (step - warm_up) / max(1, steps - warm_up)
    return peak * (_LOWEST_RATE + (1 - _LOWEST_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, part))))


class nnUNetTrainerOrgsegTune(nnUNetTrainerOrgsegShort):  # noqa: N801 - nnU-Net names its trainers so
    """3d_fullres, continued from another network; an epoch of nnU-Net is a block of steps here."""

    def __init__(  # the signature nnU-Net calls
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device,
    ) -> None:
        self._tune: dict[str, Any] = plans.pop("orgseg_tune")
        mirror = self._tune.get("mirror")
        self._sides = (
            None if mirror is None else SideExchange(unknown_sets=self._tune["unknown_sets"], **mirror)
        )
        if self._sides is not None:
            self._tune["unknown_sets"] = self._sides.unknown_sets
        super().__init__(plans, configuration, fold, dataset_json, device)
        self._progress = ProgressWriter(Path(self._tune["progress"]))
        labels: dict[str, int] = dataset_json["labels"]
        self._names = sorted((name for name in labels if labels[name]), key=lambda name: labels[name])
        self._history: list[dict[str, Any]] = []
        self._started, self._elapsed = time.monotonic(), 0.0

    def initialize(self) -> None:
        """Build the network and load the weights to start from."""
        super().initialize()
        pretrained = load_weights(Path(self._tune["pretrained"]))
        self.network.load_state_dict(
            warm_weights(self.network.state_dict(), pretrained, self._tune["pretrained_channels"])
        )
        self._unknown = unknown_table(len(self._names), self._tune["unknown_sets"])

    def _build_loss(self) -> torch.nn.Module:
        loss = PartialDiceCrossEntropy(
            len(self._names), self._tune["unknown_sets"], batch_dice=self.configuration_manager.batch_dice
        ).to(self.device)
        outputs = len(self._get_deep_supervision_scales())
        weights = np.array([0.5**level for level in range(outputs)])
        if outputs > 1:
            weights[-1] = 0  # as nnU-Net
        wrapped: torch.nn.Module = DeepSupervisionWrapper(loss, weights / weights.sum())
        return wrapped

    def get_dataloaders(self) -> tuple[Any, Any]:
        """As nnU-Net, with forced patches that are balanced over the organs, if the recipe says so."""
        drawn = self._tune.get("drawn")
        if drawn is None:
            return super().get_dataloaders()  # type: ignore[no-any-return]
        training, _ = self.get_tr_and_val_datasets()
        scales = self._get_deep_supervision_scales()
        rotation, dummy_2d, initial, axes = self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        size, labels = self.configuration_manager.patch_size, self.label_manager
        transforms = self.get_training_transforms(
            size,
            rotation,
            scales,
            axes,
            dummy_2d,
            use_mask_for_norm=self.configuration_manager.use_mask_for_norm,
            foreground_labels=labels.foreground_labels,
        )
        loader = BalancedLoader(
            training,
            self.batch_size,
            initial,
            size,
            labels,
            drawn=drawn,
            undrawn=self._tune["undrawn"]["scans"],
            undrawn_share=self._tune["undrawn"]["share"],
            oversample_foreground_percent=self.oversample_foreground_percent,
            transforms=transforms,
        )
        processes = get_allowed_n_proc_DA()
        if processes == 0:
            return SingleThreadedAugmenter(loader, None), None
        cuda = self.device.type == "cuda"
        return NonDetMultiThreadedAugmenter(
            loader, None, processes, max(6, processes // 2), pin_memory=cuda
        ), None

    def run_training(self) -> None:
        """Train block after block until the last one, or until no organ improves any more."""
        self.on_train_start()
        _, self._validation = self.get_tr_and_val_datasets()
        if not self._history:
            self._close_block(self._validate())  # what the weights to start from can do
        while self.current_epoch < self.num_epochs and not self._is_stalled():
            self._train_block()
            self.current_epoch += 1
            self._close_block(self._validate())
        if not self._tune.get("undrawn", {}).get("share"):
            self._take_best()
        if "shift_on" in self._tune:
            self._shift_background()
        self.on_train_end()

    def _train_block(self) -> None:
        torch.manual_seed(self._seed + self.current_epoch)
        np.random.seed(self._seed + self.current_epoch)  # noqa: NPY002 - nnU-Net's augmentation uses it
        self.network.train()
        started = time.monotonic()
        for number in range(self.num_iterations_per_epoch):
            done = self.current_epoch * self.num_iterations_per_epoch + number
            total = self.num_epochs * self.num_iterations_per_epoch
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(done, total, self._tune["warm_up"], self.initial_lr)
            batch = next(self.dataloader_train)
            for target in batch["target"]:
                self._restore_unknown(target, batch["keys"])
            self._mirror_half(batch)
            loss = float(self.train_step(batch)["loss"])
            self.finite_steps.record(loss)
            if number + 1 == min(TIMED_STEPS, self.num_iterations_per_epoch):
                self._estimate((time.monotonic() - started) / (number + 1))
            self._progress.step(done + 1, self.num_epochs * self.num_iterations_per_epoch, loss)

    def _restore_unknown(self, target: torch.Tensor, keys: Any) -> None:
        """Resampling leaves 0 where three labels meet, and beyond the scan: nothing is known there either."""
        for patch, key in zip(target, keys, strict=True):
            base = self._tune["base_labels"][str(key)]
            if base:
                patch[patch == 0] = base

    def _mirror_half(self, batch: dict[str, Any]) -> None:
        if self._sides is not None:
            for number, image in enumerate(batch["data"]):
                if np.random.random() < 0.5:  # noqa: NPY002 - seeded for each block
                    self._sides.apply(image, [target[number] for target in batch["target"]])

    def _estimate(self, seconds_per_step: float) -> None:
        """Report the time left, from steps and a validation of this machine; keep to a limit of minutes.

        If the machine turns slower, the schedule is shortened again, and its learning rate falls sooner.
        """
        last = self._history[-1]
        block = seconds_per_step * self.num_iterations_per_epoch + last["seconds"]
        if self._tune["minutes"] is not None:
            fitting = int((60.0 * self._tune["minutes"] - last["elapsed"]) // block)
            self.num_epochs = min(self.num_epochs, self.current_epoch + max(1, fitting))
        left = (self.num_epochs - self.current_epoch) * block
        self._progress.event(
            "timed",
            seconds_per_step=round(seconds_per_step, 3),
            seconds_left=round(left),
            steps=self.num_epochs * self.num_iterations_per_epoch,
        )

    def _validate(self) -> dict[str, Any]:
        """Mean Dice of each organ in whole validation scans, where it is known; None if it is in none."""
        started = time.monotonic()
        self.network.eval()
        self.set_deep_supervision_enabled(False)
        found: dict[str, list[float]] = {name: [] for name in self._names}
        with torch.no_grad():
            for key in self._tune["validation"]:
                image, truth, _, _ = self._validation.load_case(key)
                labels = predict_labels(
                    self._logits, torch.from_numpy(image[:]), self.configuration_manager.patch_size
                )
                for name, value in self._dice(labels, self._truth(truth, key)):
                    found[name].append(value)
        self.set_deep_supervision_enabled(self.enable_deep_supervision)
        dice = {name: round(float(np.mean(values)), 4) if values else None for name, values in found.items()}
        known = [each for name in self._tune["tuned"] if (each := dice[name]) is not None]
        score = float(np.mean(known)) if known else 0.0
        return {"dice": dice, "score": round(score, 4), "seconds": round(time.monotonic() - started, 2)}

    def _logits(self, image: torch.Tensor) -> torch.Tensor:
        image = image.to(self.device)
        if self.device.type == "cpu":
            image = image if self._layout is None else image.to(memory_format=self._layout)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._bf16):
                return self.network(image)  # type: ignore[no-any-return]
        with torch.autocast(self.device.type):
            return self.network(image)  # type: ignore[no-any-return]

    def _shift_background(self) -> None:
        """Lower the background by what gives the organs their highest Dice in whole validation scans."""
        self.network.eval()
        self.set_deep_supervision_enabled(False)
        found: dict[str, list[Any]] = {name: [] for name in self._tune["tuned"]}
        with torch.no_grad():
            for key in self._tune["shift_on"]:
                image, target, _, _ = self._validation.load_case(key)
                patch = self.configuration_manager.patch_size
                result = predict_tiles(self._logits, torch.from_numpy(image[:]), patch, organ_margins)
                margins, organs = result.flatten(1).numpy()
                truth = self._truth(target, key).flatten()
                for number, name in enumerate(self._names, 1):
                    drawn, known = (truth == number).numpy(), (~self._unknown[truth, number]).numpy()
                    if name in found and drawn.any():
                        found[name].append(shifted_dice(margins[known], organs[known], drawn[known], number))
        self.set_deep_supervision_enabled(self.enable_deep_supervision)
        shift, gain = best_shift(found)
        self._progress.event("shifted", shift=shift, gain=round(gain, 4))
        lower_background(self.network.decoder.seg_layers[-1], shift)

    def _truth(self, target: Any, key: str) -> torch.Tensor:
        """(Z, Y, X) label numbers of a whole scan."""
        truth = torch.from_numpy(target[:][0].astype(np.int64)).clamp(min=0)
        self._restore_unknown(truth[None], [key])
        return truth

    def _dice(self, labels: torch.Tensor, truth: torch.Tensor) -> list[tuple[str, float]]:
        result = []
        for number, name in enumerate(self._names, 1):
            known = ~self._unknown[truth, number]
            drawn, predicted = truth == number, (labels == number) & known
            if bool(drawn.any()):
                both = float((drawn & predicted).sum())
                result.append((name, 2 * both / float(drawn.sum() + predicted.sum())))
        return result

    def _close_block(self, result: Mapping[str, Any]) -> None:
        best = max((block["score"] for block in self._history), default=-1.0)
        elapsed = round(self._elapsed + time.monotonic() - self._started, 1)
        self._history.append(
            {**result, "blocks": self.num_epochs, "elapsed": elapsed, "undone": self.finite_steps.undone}
        )
        self.logger.local_logger.my_fantastic_logging[_HISTORY] = self._history
        done = self.current_epoch * self.num_iterations_per_epoch
        total = self.num_epochs * self.num_iterations_per_epoch
        is_best = result["score"] > best
        self._progress.event("validated", done=done, total=total, best=is_best, **result)
        self.current_epoch -= 1  # nnU-Net stores the number after this one
        folder = Path(self.output_folder)
        if is_best:
            self.save_checkpoint(str(folder / "checkpoint_best.pth"))
        self.save_checkpoint(str(folder / "checkpoint_latest.pth"))
        self.current_epoch += 1

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """Continue from a checkpoint, with its history and length."""
        super().load_checkpoint(filename_or_checkpoint)
        self._history = self.logger.local_logger.my_fantastic_logging[_HISTORY]
        self.num_epochs, self._elapsed = self._history[-1]["blocks"], self._history[-1]["elapsed"]

    def _is_stalled(self) -> bool:
        scores: list[float] = [block["score"] for block in self._history]
        return len(scores) - 1 - scores.index(max(scores)) >= int(self._tune["patience"])

    def _take_best(self) -> None:
        """The weights of the block with the highest Dice become the result."""
        best = Path(self.output_folder) / "checkpoint_best.pth"
        weights = torch.load(best, map_location=self.device, weights_only=False)["network_weights"]
        self.network.load_state_dict(weights)
