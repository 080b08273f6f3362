"""Somebody who visits the review page without a browser: what the page's own script would ask its server."""

import json
import urllib.request


def visit(address: str, video: str) -> str:
    """Choose a video that the app was started with, have its expressions found; gives what the page says then."""
    config = _ask(f"{address}config")
    named = {part["props"].get("elem_id"): part["id"] for part in config["components"]}

    def step(name: str, event: str) -> int:
        return next(one["id"] for one in config["dependencies"] if [named[name], event] in one["targets"])

    clicked = step("find", "click")
    find = next(one["id"] for one in config["dependencies"] if one["trigger_after"] == clicked)
    _do(address, step("listed", "input"), [video])
    return json.dumps(_do(address, find, ["largest"]))


def _do(address: str, step: int, data: list) -> list:
    facts = {"data": data, "fn_index": step, "session_hash": "visitor", "event_data": None, "trigger_id": None}
    _ask(f"{address}gradio_api/queue/join", facts)
    with urllib.request.urlopen(f"{address}gradio_api/queue/data?session_hash=visitor") as answer:
        for line in answer:
            told = json.loads(line.removeprefix(b"data:")) if line.startswith(b"data:") else {}
            if told.get("msg") == "process_completed":
                assert told["success"], told
                return told["output"]["data"]
    raise AssertionError("the page has ended before it answered")


def _ask(address: str, facts: dict | None = None) -> dict:
    request = urllib.request.Request(address, data=facts and json.dumps(facts).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)
