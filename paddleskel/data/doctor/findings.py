"""What the doctor knows about a file, and what it says about it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from paddleskel.data.doctor.measures import Measures
from paddleskel.skeleton.layout import Layout

Level = Literal["error", "warning", "note"]

# kind: (level, what it does to training, how to mend it, whether --fix does)
KINDS: dict[str, tuple[Level, str, str, bool]] = {
    # samples that cannot be read
    "malformed": ("error", "training stops at start-up", "write the field as docs/data_format.md says", True),
    "not-finite": ("error", "one NaN makes the loss and then every weight NaN",
                   "write 0 where a joint was not found", True),
    "wrong-length": ("error", "training stops at start-up", "set total_frames to the number of frames", True),
    "mixed-joints": ("error", "samples do not fit into one batch", "convert or --remap them to one layout", False),
    "wrong-layout": ("error", "training stops at start-up, or bones join the wrong joints",
                     "set `layout` to what the joints are, or --remap the file", False),
    "mixed-scores": ("error", "samples with and without confidences do not fit into one batch",
                     "give all samples keypoint_score, or none", True),
    # samples without content
    "empty": ("error", "the network learns a class from zeros", "leave such samples out", True),
    "one-frame": ("warning", "motion streams are zero, and the one frame is repeated", "leave such samples out", False),
    "mostly-empty": ("warning", "sampled clips consist mostly of zeros",
                     "cut the sequences to the frames in which somebody is seen", False),
    "frozen": ("warning", "nothing moves, so motion streams are zero", "check how these samples were made", False),
    "long-outliers": ("warning", "a clip samples few frames of the action", "cut them into pieces", False),
    "unused-person": ("note", "places for people who never appear cost time and memory",
                      "leave them out", True),
    "many-people": ("warning", "`Pack` keeps the first `num_person` people, whoever they are",
                    "choose people when converting (--num_person, --person)", False),
    # joints
    "dead-joint": ("warning", "a joint that never moves or was never found carries nothing",
                   "check the order of the joints and the layout", False),
    "twin-joints": ("warning", "two joints at one place have a bone of length zero between them",
                    "check the mapping between layouts", False),
    "teleport": ("warning", "jumps between people or sides dominate the motion streams",
                 "follow people when converting, and drop joints of low confidence", False),
    # coordinates
    "swapped-size": ("error", "x and y are scaled by each other's size", "img_shape is (height, width)", True),
    "outside": ("warning", "normalised coordinates leave [-1, 1]", "check img_shape and the units", False),
    "no-size": ("error", "PreNormalize2D stops without img_shape",
                "give img_shape, or `PreNormalize2D: {mode: auto}` in the config", False),
    "not-pixels": ("error", "PreNormalize2D would squeeze every body into one point",
                   "leave PreNormalize2D out, or multiply by the size of the picture", False),
    "not-metres": ("warning", "3D coordinates are far from metres, so augmentations and thresholds do not fit",
                   "convert to metres", False),
    "score-as-z": ("warning", "confidences are taken for depth and rotated",
                   "store them as keypoint_score, with two coordinates (--last_is_score)", False),
    "score-range": ("error", "thresholds and the score channel do not mean what they should",
                    "bring confidences into [0, 1]", True),
    # labels
    "no-label": ("error", "training stops at start-up", "give every sample a label", True),
    "label-range": ("error", "training stops at start-up", "labels count from 0 to num_classes - 1", False),
    "label-gap": ("warning", "the network keeps outputs that are never right", "renumber the labels", True),
    "class-names": ("error", "predictions are given wrong names", "one name for each label, in order", False),
    "one-class": ("error", "the loss reaches zero at once and nothing is learned", "check the labels", False),
    "few-samples": ("warning", "a class of one or two samples is not learned", "collect more, or join classes", False),
    "imbalance": ("note", "rare classes are seldom right", "a balanced sampler or loss", False),
    # splits
    "duplicate-id": ("error", "splits and results cannot tell the samples apart", "give each its own id", True),
    "duplicate-content": ("warning", "the same movement counts several times", "keep one of each", True),
    "leak": ("error", "the same movement is trained on and tested on, so scores are too good",
             "leave it out of the training split", True),
    "split-overlap": ("error", "samples are trained on and tested on, so scores are too good",
                      "leave them out of the training split", True),
    "split-unknown": ("warning", "the split is smaller than it seems", "remove ids that are not in the file", True),
    "split-empty": ("error", "there is nothing to train or test on", "fill the split or remove it", True),
    "no-split": ("note", "samples in no split are never used", "add them to a split, or remove them", False),
    "class-not-trained": ("error", "a class that is tested but never trained on is never right",
                          "draw the splits so that every class is in each (--split stratified)", False),
    "class-not-tested": ("note", "nothing is known about how well the class is recognised",
                         "draw the splits so that every class is in each (--split stratified)", False),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: its kind (a key of KINDS), what was found, and the samples (or other names) it is in."""

    kind: str
    text: str
    names: tuple[str, ...] = ()

    @property
    def level(self) -> Level:
        return KINDS[self.kind][0]

    def to_dict(self) -> dict:
        level, effect, cure, fixable = KINDS[self.kind]
        return {"kind": self.kind, "level": level, "text": self.text, "effect": effect, "cure": cure,
                "fixable": fixable, "samples": list(self.names)}  # fmt: skip


@dataclass
class Context:
    """All that checks look at.

    Attributes:
        measures: of the samples that could be read. all_ids: of all samples, as often as they occur.
        layout, num_classes: what a config says, if there is one.
        image_sizes_needed: whether the pipeline uses img_shape, and so takes 2D coordinates for pixels.
    """

    measures: list[Measures]
    splits: Mapping[str, list[str]]
    class_names: list[str] | None = None
    layout: Layout | None = None
    num_classes: int | None = None
    image_sizes_needed: bool = True
    all_ids: list[str] = field(default_factory=list)

    def some(self, kind: str, test: Callable[[Measures], bool], text: str) -> Iterator[Finding]:
        """A finding for the samples that a test holds for; `{n}` and `{all}` in the text are their numbers."""
        found = [item for item in self.measures if test(item)]
        if found:
            yield Finding(kind, text.format(n=len(found), all=len(self.measures)), names_of(found))


Check = Callable[[Context], Iterator[Finding]]  # looks at one side of the data


def names_of(found: Sequence[Measures]) -> tuple[str, ...]:
    return tuple(item.id for item in found)
