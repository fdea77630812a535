"""The one table of tasks: name, kind and labels; words only, no code that depends on them."""

from __future__ import annotations

from dataclasses import dataclass

ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips",
    "Big_Nose", "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby",
    "Double_Chin", "Eyeglasses", "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male",
    "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose",
    "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair",
    "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young",
)  # fmt: skip
"""CelebA's 40 perceived attributes, in CelebA's order."""

EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
"""FERPlus' eight expressions, in FERPlus' order."""

PARSING_CLASSES = (
    "background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear",
    "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip
"""CelebAMask-HQ's 19 classes; the position is the class id. l_ and r_ are as CelebAMask-HQ labels them."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One question about a face.

    name: the word used from the command line to the layer.
    kind: what its answer is: "embedding", "number", "labels" (independent yes/no), "classes" (one of many),
        "pixels" (a class a pixel) or "points".
    outputs: the length of the answer: embedding size, age bins, labels, classes or points.
    labels: the words of the answer, empty where it has none.
    """

    name: str
    kind: str
    outputs: int
    labels: tuple[str, ...] = ()


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(name="recognition", kind="embedding", outputs=512),
        Task(name="age", kind="number", outputs=101),
        Task(name="attributes", kind="labels", outputs=len(ATTRIBUTES), labels=ATTRIBUTES),
        Task(name="expression", kind="classes", outputs=len(EXPRESSIONS), labels=EXPRESSIONS),
        Task(name="parsing", kind="pixels", outputs=len(PARSING_CLASSES), labels=PARSING_CLASSES),
        Task(name="landmarks", kind="points", outputs=68),
    )
}
"""The six tasks in the published order; a task's position is its id in the router of a network
of all six."""

KINDS = ("embedding", "number", "labels", "classes", "pixels", "points")
