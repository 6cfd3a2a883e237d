"""Asks a served model through tritonclient alone: python ask.py HOST:PORT images.npy answers.npy [TOKEN]."""

import sys

import numpy as np
import tritonclient.http as client

address, images, answers, *token = sys.argv[1:]
headers = {"Authorization": f"Bearer {token[0]}"} if token else {}
server = client.InferenceServerClient(address)
assert server.is_server_live(headers) and server.is_server_ready(headers) and server.is_model_ready("toy", "", headers)
told = server.get_model_metadata("toy", "", headers)
(tensor,) = told["inputs"]
values = np.load(images)
found = {}
for binary in (True, False):
    asked = client.InferInput(tensor["name"], list(values.shape), tensor["datatype"])
    asked.set_data_from_numpy(values, binary_data=binary)
    wanted = [client.InferRequestedOutput(one["name"], binary_data=binary) for one in told["outputs"]]
    result = server.infer("toy", [asked], outputs=wanted, headers=dict(headers))  # it writes into them
    found |= {f"{one['name']}_{binary}": result.as_numpy(one["name"]) for one in told["outputs"]}
np.savez(answers, **found)
