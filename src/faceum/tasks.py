"""The table of tasks: what each one answers, and which labels teach it. Words and numbers only."""

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
"""CelebAMask-HQ's 19 classes; the position is the class id. l_ and r_ are the person's own left and right."""

UNKNOWN_CLASS = 255
"""The id of a pixel outside every face's crop, in a parsing map of a whole image."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One question about a face.

    name: its name from the command line to the layer.
    kind: what its answer is: "embedding", "number", "labels" (independent yes/no), "classes" (one of many),
        "pixels" (one class per pixel) or "points".
    outputs: the length of the answer: embedding size, age bins, labels, classes or points.
    labels: the names of its labels or classes, empty if it has none.
    result_field: the field of `faceum.results.Face` that holds the answer.
    label_columns: the fields of `faceum.data.sample.Sample`, and columns of a packed set, that teach it. The
        last one is `label`, which training batches stack.
    label_dtype, label_shape: dtype and shape of one face's label in a batch; None in the shape is the side of
        the crop in pixels.
    """

    name: str
    kind: str
    outputs: int
    labels: tuple[str, ...] = ()
    result_field: str
    label_columns: tuple[str, ...]
    label_dtype: str
    label_shape: tuple[int | None, ...]

    @property
    def label(self) -> str:
        """The column that training batches stack."""
        return self.label_columns[-1]


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="recognition",
            kind="embedding",
            outputs=512,
            result_field="embedding",
            label_columns=("identity", "embedding"),
            label_dtype="float32",
            label_shape=(256,),
        ),
        Task(
            name="age",
            kind="number",
            outputs=101,
            result_field="age",
            label_columns=("age",),
            label_dtype="float32",
            label_shape=(),
        ),
        Task(
            name="attributes",
            kind="labels",
            outputs=len(ATTRIBUTES),
            labels=ATTRIBUTES,
            result_field="attributes",
            label_columns=("gender", "smile", "attributes"),
            label_dtype="int8",
            label_shape=(len(ATTRIBUTES),),
        ),
        Task(
            name="expression",
            kind="classes",
            outputs=len(EXPRESSIONS),
            labels=EXPRESSIONS,
            result_field="expression",
            label_columns=("expression_votes",),
            label_dtype="float32",
            label_shape=(len(EXPRESSIONS),),
        ),
        Task(
            name="parsing",
            kind="pixels",
            outputs=len(PARSING_CLASSES),
            labels=PARSING_CLASSES,
            result_field="parsing",
            label_columns=("parsing",),
            label_dtype="uint8",
            label_shape=(None, None),
        ),
        Task(
            name="landmarks",
            kind="points",
            outputs=68,
            result_field="landmarks",
            label_columns=("landmarks68",),
            label_dtype="float32",
            label_shape=(68, 2),
        ),
    )
}
"""The six tasks in the published order. A task's position is its id in the router of a network that answers
all six."""

KINDS = ("embedding", "number", "labels", "classes", "pixels", "points")
