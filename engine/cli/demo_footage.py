"""The material of the demo: three small clips of an invented match, and an edit of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from engine.timing import SAMPLE_RATE_HZ

WIDTH, HEIGHT, FPS, DURATION_S = 1280, 720, 30, 5
STRIPE, LINE, BALL = 64, 6, 14
PLAYER_RADIUS = 26
TEAM_COLOURS = ((200, 40, 40), (40, 60, 200))
GRASS = ((46, 125, 50), (56, 142, 60))


def make_demo(folder: Path, target_width: int, target_height: int) -> Path:
    """Writes `clip_1.mp4` to `clip_3.mp4` and `edit.json` into `folder`. Returns the edit."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in (1, 2, 3):
        _write_clip(folder / f"clip_{number}.mp4", number)
    edit = folder / "edit.json"
    target = {"targetWidth": target_width, "targetHeight": target_height}
    edit.write_text(json.dumps(_edit() | target, indent=2) + "\n")
    return edit


def _edit() -> dict[str, Any]:
    pan = [
        {"time": 0, "x": 40, "y": 0, "width": 405, "height": 720},
        {"time": 5, "x": 820, "y": 0, "width": 405, "height": 720, "ease": "smooth"},
    ]
    zoom = [
        {"time": 0, "x": 437.5, "y": 0, "width": 405, "height": 720, "ease": "smooth"},
        {"time": 4, "x": 538.75, "y": 180, "width": 202.5, "height": 360},
    ]
    return {
        "clips": [
            {"fileName": "clip_1.mp4", "title": "Pan", "cropKeyframes": pan},
            {
                "fileName": "clip_2.mp4",
                "title": "Slow motion",
                "cropKeyframes": zoom,
                "segmentsData": {
                    "trimRange": {"start": 0.5, "end": 4.5},
                    "segments": [
                        {"start": 1.5, "end": 2.5, "speed": 0.5},
                        {"start": 3.5, "end": 4.5, "speed": 2},
                    ],
                },
            },
            {"fileName": "clip_3.mp4", "title": "Full height"},
        ],
        "transition": [{"type": "dissolve", "duration": 0.5}, {"type": "fade", "duration": 0.5}],
    }


def _write_clip(path: Path, number: int) -> None:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        sound = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="stereo")
        assert isinstance(video, av.VideoStream) and isinstance(sound, av.AudioStream)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in _pictures(number):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(video.encode(None))
        container.mux(sound.encode(_tune(number)))
        container.mux(sound.encode(None))


def _pictures(seed: int) -> Iterator[NDArray[np.uint8]]:
    """Running players and a bouncing ball; RGB of shape (HEIGHT, WIDTH, 3)."""
    random = np.random.default_rng(seed)
    pitch = _pitch()
    places = random.uniform((60, 90), (WIDTH - 60, HEIGHT - 90), (10, 2))
    speeds = random.uniform(-90, 90, (10, 2))
    for index in range(FPS * DURATION_S):
        time_s = index / FPS
        picture = pitch.copy()
        for player, (place, speed) in enumerate(zip(places, speeds, strict=True)):
            x, y = place + speed * time_s
            _disc(picture, x % WIDTH, y % HEIGHT, PLAYER_RADIUS, TEAM_COLOURS[player % 2])
        ball_x = 240 + 800 * time_s / DURATION_S
        ball_y = HEIGHT / 2 - 220 * abs(np.sin(2.2 * time_s + seed))
        _disc(picture, ball_x, ball_y, BALL, (255, 255, 255))
        yield picture


def _pitch() -> NDArray[np.uint8]:
    stripes = np.array(GRASS, np.uint8)[np.arange(WIDTH) // STRIPE % 2]
    pitch = np.broadcast_to(stripes, (HEIGHT, WIDTH, 3)).copy()
    middle = WIDTH // 2
    pitch[:, middle - LINE // 2 : middle + LINE // 2] = 240
    for y in (24, HEIGHT - 24 - LINE):
        pitch[y : y + LINE] = 240
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    distance = np.hypot(columns - middle, rows - HEIGHT / 2)
    pitch[abs(distance - 130) < LINE / 2] = 240
    return pitch


def _disc(
    picture: NDArray[np.uint8], x: float, y: float, radius: int, colour: tuple[int, int, int]
) -> None:
    left, top = max(0, int(x) - radius - 1), max(0, int(y) - radius - 1)
    part = picture[top : int(y) + radius + 2, left : int(x) + radius + 2]
    rows, columns = np.ogrid[top : top + part.shape[0], left : left + part.shape[1]]
    cover = np.clip(radius + 0.5 - np.hypot(columns - x, rows - y), 0, 1)[..., None]
    part[:] = (part * (1 - cover) + np.array(colour) * cover).round().astype(np.uint8)


def _tune(number: int) -> av.AudioFrame:
    """A chord that is different for each clip, with a beep every second; planar stereo float."""
    time_s = np.arange(SAMPLE_RATE_HZ * DURATION_S) / SAMPLE_RATE_HZ
    root_hz = 220 * 2 ** (number / 4)
    chord = sum(0.06 * np.sin(2 * np.pi * root_hz * ratio * time_s) for ratio in (1, 1.25, 1.5))
    beep = 0.25 * np.sin(2 * np.pi * 880 * time_s) * (time_s % 1 < 0.08)
    frame = av.AudioFrame.from_ndarray(
        np.tile((chord + beep).astype(np.float32), (2, 1)), format="fltp", layout="stereo"
    )
    frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, 0
    frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
    return frame
