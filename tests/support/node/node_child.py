"""A child program for nodes under test: the real pipeline with a threshold predictor instead of a network.

``python -m`` this module ``SECONDS REQUEST.json``: the prediction takes at least so many seconds.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from orgseg_node.core.body import Body
from orgseg_node.core.organs import load_organs
from orgseg_node.core.volume import Volume
from orgseg_node.inference.predictor import ModelIdentity, Prediction, ProgressCallback
from orgseg_node.node.processing.child import main
from orgseg_node.node.processing.child_request import ChildRequest
from orgseg_node.shipped import shipped_config
from tests.support.models.threshold_predictor import ThresholdPredictor


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowPredictor:
    """A predictor that takes its time."""

    inner: ThresholdPredictor
    seconds: float

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        """Those of the predictor inside."""
        return self.inner.models

    def predict(self, volume: Volume, body: Body, on_progress: ProgressCallback) -> Prediction:
        """Wait, telling how far the waiting is; then predict."""
        steps = max(1, int(self.seconds / 0.1))
        for step in range(steps):
            on_progress(step / steps, "waiting")
            time.sleep(self.seconds / steps)
        return self.inner.predict(volume, body, on_progress)


def predictor(request: ChildRequest) -> SlowPredictor:
    """What stands in for the bundles of a request."""
    del request
    return threshold(float(sys.argv[1]))


def threshold(seconds: float) -> SlowPredictor:
    """A predictor by thresholds that takes at least so long."""
    organs = load_organs(shipped_config("organs.toml"))
    return SlowPredictor(inner=ThresholdPredictor(organs=organs), seconds=seconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:], make_predictor=predictor))
