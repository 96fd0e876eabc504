"""Frames and sound by stage: frames, faces and audio-seconds per CPU-second, one thread.

    python benchmarks/bench_frames.py [--repeat 5] [--yunet FILE]

Frames are 640x480 with a moving picture in them: of the sample media below AFFECT_DATA, else drawn (no face in it; the
search costs the same). `whole` is the path as it runs at 5 frames a second: searched once a second, followed between.
With --yunet the detector of the user's file stands beside the cascade.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.harness import cpu_seconds, table
from engines.load_media import load_face_model, load_voice_model
from operators.detectors import Detector, Found, Haar, YuNet
from operators.face import FaceReader, FaceSettings, judge, level
from operators.pictures import FRAME_LIMITS, Grey, decode_grey, picture_size
from operators.speech import SLICE, SpeechDetector, SpeechSettings, VoiceReader

WIDTH, HEIGHT = 640, 480


def frames(count: int) -> tuple[list[Grey], str]:
    """(grey frames, what they show)."""
    clip = Path(os.environ.get("AFFECT_DATA", "")) / "av" / "sample-media" / "WolfgangLanger_Pexels.mp4"
    found: list[Grey] = []
    video = cv2.VideoCapture(str(clip)) if clip.exists() else None
    while video is not None and len(found) < count:
        whole, picture = video.read()
        if not whole:
            break
        if int(video.get(cv2.CAP_PROP_POS_FRAMES)) % 5 == 0:
            grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
            found.append(cv2.resize(grey[:, 80:560], (WIDTH, HEIGHT)))
    if found:
        return found, "one face"
    random = np.random.default_rng(0)
    base = cv2.GaussianBlur(random.integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8), (0, 0), 9)
    return [np.roll(base, 3 * k, 1) for k in range(count)], "no face"


def rate(units: float, act: Callable[[], object], repeat: int) -> str:
    """Units per CPU-second, the median of `repeat`."""
    act()
    return f"{units / cpu_seconds(act, repeat):,.0f}"


def faces_by_stage(repeat: int, yunet: Path | None) -> None:
    """The face path, stage by stage, then whole."""
    many, shown = frames(30)
    jpegs = [bytes(cv2.imencode(".jpg", f, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]) for f in many]
    model, settings = load_face_model(research=True), FaceSettings()
    box = Found(220, 120, 200, 200)
    crops = np.stack([level(f, box) for f in many])
    n = len(many)
    rows = [
        ["header", rate(n, lambda: [picture_size(j) for j in jpegs], repeat)],
        ["decode JPEG, grey", rate(n, lambda: [decode_grey(j, FRAME_LIMITS) for j in jpegs], repeat)],
    ]
    detectors: dict[str, Detector] = {"cascade": Haar()}
    if yunet is not None:
        detectors["YuNet"] = YuNet(yunet)
    for name, detector in detectors.items():
        rows.append([f"find, {name}", rate(n, lambda d=detector: [d.find(f) for f in many], repeat)])
    rows += [
        ["level and judge", rate(n, lambda: [judge(box, level(f, box), settings) for f in many], repeat)],
        ["face-affect", rate(n, lambda: model.logits(crops), repeat)],
    ]
    for name, detector in detectors.items():
        reader = FaceReader(model, detector)

        def whole(reader: FaceReader = reader) -> None:
            reader.forget()
            for k, jpeg in enumerate(jpegs):
                reader.read(decode_grey(jpeg, FRAME_LIMITS), 200 * k)

        rows.append([f"whole, {name}, 5 frames/s", rate(n, whole, repeat)])
    size = np.mean([len(j) for j in jpegs]) / 1e3
    table(f"Faces: {WIDTH}x{HEIGHT}, {shown}, JPEG of {size:.0f} kB", ["stage", "frames per CPU-second"], rows)


def voices_by_stage(repeat: int) -> None:
    """The voice path, stage by stage, then whole."""
    t = np.arange(10 * 16_000) / 16_000
    tone = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 25))
    sound = (0.05 * tone * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * t))).astype(np.float32)
    model = load_voice_model(research=True)
    windows = [sound[k : k + 32_000] for k in range(0, len(sound) - 31_999, 16_000)]
    slices = [sound[k : k + SLICE] for k in range(0, len(sound), SLICE)]

    def detect() -> None:
        detector = SpeechDetector()
        for part in slices:
            detector.share(part)

    rows = [
        ["speech or not", rate(10, detect, repeat)],
        ["voice-affect, 2 s windows", rate(2 * len(windows), lambda: model.logits(windows), repeat)],
    ]
    for hop in (1000, 200):
        settings = SpeechSettings(hop_ms=hop)
        rows.append(
            [
                f"whole, a window every {hop} ms",
                rate(10, lambda s=settings: VoiceReader(model, s).read(sound, 0), repeat),
            ]
        )
    table("Voices: 16 kHz mono", ["stage", "audio-seconds per CPU-second"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--yunet", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    faces_by_stage(options.repeat, options.yunet)
    voices_by_stage(options.repeat)
    return 0


if __name__ == "__main__":
    sys.exit(main())
