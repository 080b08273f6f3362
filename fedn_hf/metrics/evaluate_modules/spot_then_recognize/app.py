"""The Space's page: a form for the metric. Runs on the Hub, where gradio is installed."""

from pathlib import Path

import evaluate
from evaluate.utils import launch_gradio_widget

launch_gradio_widget(evaluate.load(str(Path(__file__).with_name("spot_then_recognize.py"))))
