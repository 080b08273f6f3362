"""How large and how fast the network is: both configurations, one thread, from features and from pixels.

    python examples/benchmarks/network.py [--output network.json]

Prints a table and, with --output, writes the same as JSON. Most of its two minutes go into compiling the compact
network, so the other one is not compiled here.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from fedn_hf import FednConfig, FednForFacialExpressionDetection

WINDOW, FRAMES = 256, 64  # frames of a window, and of the sample that the backbone is timed on


def seconds(function, repeats: int) -> float:
    """Median time of a call, after two that warm up."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@torch.inference_mode()
def measure(config: FednConfig) -> dict:
    """Parameters of the parts and frames per second of the paths."""
    torch.manual_seed(0)
    model = FednForFacialExpressionDetection(config).eval()
    features = torch.randn(1, WINDOW, config.feature_size)
    pixels = torch.randn(FRAMES, 3, config.image_size, config.image_size)
    long = torch.randn(60 * int(config.frame_rate), config.feature_size)
    features_s = seconds(lambda: model(frame_features=features), 10)
    pixels_s = seconds(lambda: model.encode_frames(pixels), 3) * WINDOW / FRAMES
    return {
        "parameters": parameters(model),
        "parameters_backbone": parameters(model.fedn.frame_encoder),
        "window_from_features_ms": 1000 * features_s,
        "window_from_pixels_ms": 1000 * (features_s + pixels_s),
        "frames_per_second_from_features": WINDOW / features_s,
        "frames_per_second_from_pixels": WINDOW / (features_s + pixels_s),
        "minute_from_features_s": seconds(lambda: model.detect_from_features(long), 3),
    }


@torch.inference_mode()
def measure_compiled(config: FednConfig) -> dict:
    """Time to compile the feature path, and its time then."""
    compiled = torch.compile(FednForFacialExpressionDetection(config).eval())
    features = torch.randn(1, WINDOW, config.feature_size)
    start = time.perf_counter()
    compiled(frame_features=features)
    compile_s = time.perf_counter() - start
    return {
        "compile_s": compile_s,
        "window_from_features_compiled_ms": 1000 * seconds(lambda: compiled(frame_features=features), 10),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    compact = FednConfig.preset("compact")
    results = {
        "FednConfig()": measure(FednConfig()),
        "compact": {**measure(compact), **measure_compiled(compact)},
    }
    print(f"{'one thread, windows of 256 frames':40}" + "".join(f"{name:>16}" for name in results))
    for row in results["compact"]:
        values = [result.get(row) for result in results.values()]
        print(f"{row:40}" + "".join(f"{'':>16}" if value is None else f"{value:16,.1f}" for value in values))
    if arguments.output:
        arguments.output.write_text(json.dumps({"torch": torch.__version__, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
