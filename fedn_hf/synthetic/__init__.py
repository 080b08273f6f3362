"""Long videos of synthetic faces whose every muscle is known: their faces, cameras, behaviour and ground truth."""
