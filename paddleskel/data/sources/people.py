"""From what an estimator found in each frame to a few persons followed through time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paddleskel.data.sources.reader import Annotation, ReadOptions, layout_of_size
from paddleskel.errors import UserError

MAX_GAP = 15  # frames a person may be lost and still be the same one
MAX_STEP = 0.5  # largest mean joint distance between two sightings, in units of the body's size


@dataclass
class Frame:
    """The people in one frame.

    Attributes:
        points: (P, V, C) coordinates; a joint that was not found is all zeros.
        score: (P, V) confidences, or None.
        tracks: P track ids, if the format has them.
        box_score: (P,) confidence of each person, if the format has it.
    """

    points: np.ndarray
    score: np.ndarray | None = None
    tracks: Sequence | None = None
    box_score: np.ndarray | None = None


def stack_people(people: Sequence[np.ndarray], where: str) -> np.ndarray:
    """(P, V, C) from the keypoints of each person in a frame, (V, C).

    Raises:
        UserError: people of different numbers of keypoints.
    """
    if len({len(person) for person in people}) > 1:
        raise UserError(f"{where}: people with different numbers of keypoints")
    return np.stack(people)


@dataclass
class Track:
    """One person: the frames seen in, (n,), and what was seen there, (n, V, C) and (n, V)."""

    frames: list[int]
    points: list[np.ndarray]
    score: list[np.ndarray]
    box_score: list[float]

    def add(self, time: int, frame: Frame, person: int) -> None:
        self.frames.append(time)
        self.points.append(frame.points[person])
        self.score.append(frame.score[person] if frame.score is not None else frame.points[person].any(axis=-1) * 1.0)
        self.box_score.append(1.0 if frame.box_score is None else float(frame.box_score[person]))


def assemble(frames: Sequence[Frame | None], name: str, options: ReadOptions, where: str) -> Annotation:
    """Link people over time, keep `options.num_person` of them and return the sequence's annotation.

    A person lost and found again, or given a new track id, continues in the same place if nobody else is there.

    Args:
        frames: one a frame, in order; None where nobody was found.
        name: the sample's id.

    Raises:
        UserError: nobody in any frame, or people of different numbers of joints.
    """
    seen = [frame for frame in frames if frame is not None and len(frame.points)]
    if not seen:
        raise UserError(f"{where}: nobody in any of the {len(frames)} frames")
    shapes = {frame.points.shape[1:] for frame in seen}
    if len(shapes) > 1:
        found = ", ".join(str(shape[0]) for shape in sorted(shapes))
        raise UserError(f"{where}: people with different numbers of joints: {found}")
    joints, channels = shapes.pop()
    keypoint = np.zeros((options.num_person, len(frames), joints, channels), np.float32)
    score = np.zeros(keypoint.shape[:3], np.float32)
    taken = np.zeros(keypoint.shape[:2], bool)
    for track in _tracks(frames, seen, options):
        free = [place for place in range(options.num_person) if not taken[place, track.frames].any()]
        if free:
            keypoint[free[0], track.frames], score[free[0], track.frames] = track.points, track.score
            taken[free[0], track.frames] = True
    used = taken.any(axis=1)
    annotation = {"frame_dir": name, "total_frames": len(frames), "keypoint": keypoint[used]}
    if seen[0].score is not None:
        annotation["keypoint_score"] = score[used]
    if options.image_size and channels == 2:
        annotation |= {"img_shape": options.image_size, "original_shape": options.image_size}
    return annotation | layout_of_size(joints)


def _tracks(frames: Sequence[Frame | None], seen: list[Frame], options: ReadOptions) -> list[Track]:
    """Everybody, those who matter most first."""
    if not options.link:
        return as_listed(frames, options.num_person)
    by_id = all(frame.tracks is not None for frame in seen)
    return sorted((follow_ids if by_id else follow)(frames), key=lambda track: -weight(track, options.person))


def as_listed(frames: Sequence[Frame | None], most: int) -> list[Track]:
    """One track for each place in the frames' lists; in every frame ordered by score where one has more than `most`."""
    people = max(len(frame.points) for frame in frames if frame is not None)
    tracks = [Track([], [], [], []) for _ in range(people)]
    for time, frame in enumerate(frames):
        if frame is not None:
            order = range(len(frame.points))
            if people > most and frame.score is not None:
                order = np.argsort(-frame.score.sum(axis=1), kind="stable")
            for place, person in enumerate(order):
                tracks[place].add(time, frame, person)
    return tracks[:most]


def follow_ids(frames: Sequence[Frame | None]) -> list[Track]:
    """One track for each track id of the format."""
    tracks: dict = {}
    for time, frame in enumerate(frames):
        for person, identity in enumerate(frame.tracks if frame is not None else ()):
            track = tracks.setdefault(str(identity), Track([], [], [], []))
            if not track.frames or track.frames[-1] != time:  # the first of two with one id in a frame
                track.add(time, frame, person)
    return list(tracks.values())


def follow(frames: Sequence[Frame | None]) -> list[Track]:
    """Link each person to the nearest one of the frames before, nearest pairs first."""
    tracks: list[Track] = []
    for time, frame in enumerate(frames):
        if frame is None or not len(frame.points):
            continue
        near = [track for track in tracks if time - track.frames[-1] <= MAX_GAP]
        pairs = sorted(
            (distance(track.points[-1], points), place, person)
            for place, track in enumerate(near)
            for person, points in enumerate(frame.points)
        )
        linked_tracks, linked = set(), set()
        for step, place, person in pairs:
            if step > MAX_STEP:
                break
            if place not in linked_tracks and person not in linked:
                near[place].add(time, frame, person)
                linked_tracks.add(place)
                linked.add(person)
        for person in range(len(frame.points)):
            if person not in linked:
                tracks.append(Track([], [], [], []))
                tracks[-1].add(time, frame, person)
    return tracks


def distance(before: np.ndarray, after: np.ndarray) -> float:
    """Mean distance of the joints seen in both, over the larger diagonal of the two bodies; infinite if there are
    none.
    """
    both = before.any(axis=-1) & after.any(axis=-1)
    if not both.any():
        return np.inf
    before, after = before[both], after[both]
    size = max(np.linalg.norm(np.ptp(before, axis=0)), np.linalg.norm(np.ptp(after, axis=0)), 1e-6)
    return float(np.linalg.norm(after - before, axis=-1).mean() / size)


def weight(track: Track, person: str) -> float:
    """How much a track matters: movement, confidence or size, summed over the frames it is seen in."""
    points, score = np.stack(track.points), np.stack(track.score)
    found = points.any(axis=-1)
    if person == "score":
        return float((score.mean(axis=1) * np.array(track.box_score)).sum())
    if person == "box":
        low = np.where(found[..., None], points, np.inf).min(axis=1)
        high = np.where(found[..., None], points, -np.inf).max(axis=1)
        extent = np.where(found.any(axis=1)[:, None], high - low, 0)
        return float(extent[:, :2].prod(axis=1).sum())
    count = np.maximum(found.sum(axis=0), 1)[:, None]
    mean = points.sum(axis=0) / count
    variance = (np.square(points - mean) * found[..., None]).sum(axis=0) / count
    return float(variance.mean(axis=0).sum() * len(track.frames))
