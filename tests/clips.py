"""Made clips of every kind: each frame carries its own number as black and white blocks that survive coding."""

from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange

from fedn_hf.video_io_fedn import MediaError, VideoReader

WIDTH, HEIGHT, BITS = 64, 48, 8
STEADY = [n / 25 for n in range(60)]
VARIABLE = (np.cumsum([40, 20, 100, 33, 500, 40, 40, 200] * 6) / 1000 - 0.04).tolist()  # seconds
FAST = {"preset": "veryfast"}
X265 = {"x265-params": "log-level=none:keyint=10:pools=1"}
OPEN_GOP = {"x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0"}
FULL, LIMITED = int(ColorRange.JPEG), int(ColorRange.MPEG)


def picture(number, width=WIDTH, height=HEIGHT):
    """The bits of `number` side by side, and below them the same inverted: whatever is garbage shows itself."""
    bits = np.array([number >> bit & 1 for bit in range(BITS)])
    rows, columns = np.arange(height) * 2 // height, np.arange(width) * BITS // width
    grey = (np.stack([bits, 1 - bits])[rows][:, columns] * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def number_in(rgb):
    height, width = rgb.shape[:2]
    columns = [int((bit + 0.5) * width / BITS) for bit in range(BITS)]
    above, below = (rgb[int(height * part), columns].mean(-1) > 128 for part in (0.25, 0.75))
    return int((above << np.arange(BITS)).sum()) if (above != below).all() else -1


def make(
    path,
    times=STEADY,
    codec="libx264",
    size=(WIDTH, HEIGHT),
    pix_fmt="yuv420p",
    tick=Fraction(1, 25),
    options=None,
    muxer=None,
    gop=10,
    b_frames=0,
    picture=picture,
    aspect=None,
    format=None,
    sound_from=None,
):
    with av.open(str(path), "w", format=format, options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options or (FAST if codec == "libx264" else {}))
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        context = stream.codec_context
        context.time_base, context.gop_size, context.max_b_frames, context.bit_rate = tick, gop, b_frames, 1_000_000
        context.thread_count = 1
        if aspect:
            context.sample_aspect_ratio = aspect
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono") if sound_from is not None else None
        for number, time_s in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = round(time_s / tick), tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
            samples.sample_rate, samples.pts, samples.time_base = 8000, round(sound_from * 8000), Fraction(1, 8000)
            container.mux(sound.encode(samples))
    return path


def read(source, **options):
    """Everything that the reader gives, with the numbers that stand in the pictures themselves."""
    reader = VideoReader(source, **options)
    batches = list(reader)
    assert all(0 < len(batch) <= reader.batch_size for batch in batches)
    assert all(batch.frames.dtype == torch.uint8 for batch in batches)
    frames = [frame for batch in batches for frame in batch.frames.numpy()]
    return SimpleNamespace(
        info=reader.info,
        truncated_at_s=reader.truncated_at_s,
        frames=frames,
        time_s=np.concatenate([batch.time_s for batch in batches] or [np.zeros(0)]),
        native_frame=[int(n) for batch in batches for n in batch.native_frame],
        seen=[number_in(frame) for frame in frames],
    )


def reason_of(source, **options):
    """Why reading fails; every failure names its source."""
    with pytest.raises(MediaError) as caught:
        read(source, **options)
    assert caught.value.path in str(caught.value)
    return caught.value.reason


CLIPS = {  # file name -> how it is made
    "h264.mp4": dict(b_frames=3),
    "h264-open-gop.mp4": dict(b_frames=3, options=OPEN_GOP),
    "h264-fragments.mp4": dict(b_frames=3, muxer={"movflags": "frag_keyframe+empty_moov"}),
    "h264-intra-refresh.mp4": dict(options={"x264-params": "intra-refresh=1:keyint=10"}),
    "h264-10-bit.mp4": dict(pix_fmt="yuv420p10le"),
    "h264-odd.mp4": dict(pix_fmt="yuv444p", size=(65, 49)),
    "h264-variable.mp4": dict(times=VARIABLE, tick=Fraction(1, 1000), b_frames=3),
    "h264-late.mp4": dict(times=[5 + t for t in STEADY], b_frames=3),
    "hevc.mov": dict(codec="libx265", options=X265),
    "hevc.ts": dict(codec="libx265", options=X265),
    "h264.mkv": dict(b_frames=3),
    "h264-open-gop.mkv": dict(b_frames=3, options=OPEN_GOP),
    "h264-variable.mkv": dict(times=VARIABLE, tick=Fraction(1, 1000), b_frames=3),
    "h264-late.mkv": dict(times=[5 + t for t in STEADY], b_frames=3),
    "ffv1-grey.mkv": dict(codec="ffv1", pix_fmt="gray"),
    "ffv1-odd.mkv": dict(codec="ffv1", size=(65, 49)),
    "vp8.webm": dict(codec="libvpx", options={"cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "16"}),
    "vp9-odd.webm": dict(codec="libvpx-vp9", size=(65, 49), options={"cpu-used": "8"}),
    "mpeg4.avi": dict(codec="mpeg4"),
    "mpeg4-b-frames.avi": dict(codec="mpeg4", b_frames=2),
    "mpeg4-dropped.avi": dict(codec="mpeg4", times=[n / 25 for n in range(60) if n % 7 != 3]),
    "h264-b-frames.avi": dict(b_frames=3),
    "mjpeg.avi": dict(codec="mjpeg", pix_fmt="yuvj420p"),
    "wmv2.wmv": dict(codec="wmv2", format="asf"),
    "wmv2-late.wmv": dict(codec="wmv2", format="asf", times=[5 + t for t in STEADY]),
    "h264.ts": dict(b_frames=3),
    "h264-open-gop-late.ts": dict(b_frames=3, options=OPEN_GOP, times=[5 + t for t in STEADY]),
    "mpeg4.ts": dict(codec="mpeg4"),
    "mpeg2.ts": dict(codec="mpeg2video", b_frames=2),
    "mpeg2.mpg": dict(codec="mpeg2video", b_frames=2, format="mpeg"),
    "h264.flv": dict(b_frames=3),
}
