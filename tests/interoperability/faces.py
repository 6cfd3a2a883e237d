"""A model for MLServer, written against MLServer alone: softmax of a linear map of the flattened images."""

from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Faces(MLModel):
    async def load(self) -> bool:
        self._weights = np.load(Path(self.settings.parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float64)
        logits = images.reshape(len(images), -1) @ self._weights["weight"].T + self._weights["bias"]
        shown = np.exp(logits - logits.max(1, keepdims=True))
        scores = NumpyCodec.encode_output("scores", shown / shown.sum(1, keepdims=True))
        return InferenceResponse(model_name=self.name, outputs=[scores])
