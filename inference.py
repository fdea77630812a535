"""The release's own command: photos in; its six files per face and its printed lines out.

    CUDA_VISIBLE_DEVICES=0 torchrun --nproc_per_node=1 --master_port=53000 inference.py \
        --config_path test.yaml --model_path ckpts/checkpoint.pth.tar \
        --image_path images/x.jpg --results_path results --gpu_num 0

Plain `python inference.py ...` does the same, with or without a GPU. A published checkpoint, original or
converted, gives the published numbers; any of our weights (`--model_path compact`, a .safetensors or .onnx
file) give ours. What only the release does is in this file alone, in `Published`. Documentation:
docs/from-the-release.md.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # from a checkout that is not installed

import cv2
import numpy as np

from faceum.analyzer import FaceAnalyzer
from faceum.cli.paths import list_images
from faceum.crop import Crop, CropSpec, crop_face, network_input
from faceum.decode import decode_class_map
from faceum.detect.base import load_detector
from faceum.engine import gpu_is_present
from faceum.errors import FaceumError, ModelError
from faceum.extras import INSTALL_TORCH, torch_is_installed
from faceum.files import write_bytes, write_text
from faceum.geometry import compose, transform_points, warp
from faceum.image import read_image, write_image
from faceum.save import OutputStems
from faceum.tasks import ATTRIBUTES, PARSING_CLASSES
from faceum.threads import usable_threads
from faceum.weights.registry import asset_names, looks_like_path

if TYPE_CHECKING:
    from faceum.model.network import FaceUM

SIDE = 512
"""Pixels a side of the images that are written; landmarks are in these pixels."""

RELEASE_CLASSES = (
    "background", "neck", "skin", "cloth", "l_ear", "r_ear", "l_brow", "r_brow", "l_eye", "r_eye", "nose",
    "mouth", "l_lip", "u_lip", "hair", "eye_g", "hat", "ear_r", "neck_l",
)  # fmt: skip
"""The parsing classes in the order of a published checkpoint, which is FaRL's."""

RELEASE_COLOURS = np.array(
    [
        tuple(bytes.fromhex(colour))
        for colour in (
            "000000 0099ff 66ff99 00cc99 ffff66 ffffcc ff9900 ff66ff 660033 ffccff ff6466 ffc866 ff9666 "
            "fffa66 ff9698 fffa98 9b9698 9bfa98 000000"
        ).split()
    ],
    np.uint8,
)
"""(19, 3) uint8 RGB in the order of `RELEASE_CLASSES`: the release has 18, so the last stays black."""

OUR_COLOURS = RELEASE_COLOURS[[RELEASE_CLASSES.index(name) for name in PARSING_CLASSES]]
"""(19, 3) uint8 RGB: the same colours by our class ids."""

YELLOW = (255, 255, 0)
"""RGB of the landmarks in the release's drawing."""

LOADED = "load msg: <All keys matched successfully>"
"""What the release prints when a checkpoint fits; here a file that does not fit is refused."""

NO_CHECKPOINT = (
    "There is no {path}. The release's README (https://github.com/Wlllllllly/MOE-FaceUM) links its "
    "checkpoint.pth.tar under 'Download Models': lay it into ckpts/, or ask its authors for it. "
    "FaRL-Base-Patch16-LAIONFace20M-ep64.pth, the encoder that training starts from, is at "
    "https://github.com/FacePerceiver/FaRL; inference does not need it. The weights in this package need "
    "nothing: --model_path compact."
)

SETTINGS: dict[str, Any] = {
    "model_path": "ckpts/checkpoint.pth.tar",
    "image_path": None,
    "results_path": "results",
    "gpu_num": 0,
    "detector": "auto",
    "min_score": 0.5,
    "device": "auto",
}
"""The settings that the command line and the config file may have, with their defaults."""

VALUES = {"gpu_num": r"-?\d+", "min_score": r"0?\.\d+|[01](\.0*)?", "device": "auto|cpu|cuda"}
"""Patterns of the values of the settings that do not take any text."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What is written about one face; None for a task that the network does not answer.

    crop: (512, 512, 3) uint8 RGB. embedding: (512,). attributes: name -> yes or no. age: years.
    expression: a word. classes: (512, 512) uint8; colours: (n, 3) uint8 RGB, by class id.
    landmarks: (68, 2), x then y, in pixels of the crop.
    """

    crop: np.ndarray
    embedding: np.ndarray | None = None
    attributes: dict[str, bool] | None = None
    age: float | None = None
    expression: str | None = None
    classes: np.ndarray | None = None
    colours: np.ndarray
    landmarks: np.ndarray | None = None


class Network(Protocol):
    """A loaded network."""

    def answer(self, image: np.ndarray) -> list[Answers]:
        """Return what to write about each face of an RGB uint8 image, largest face first."""
        ...


class Ours:
    """Our weights with our numbers, as `faceum analyze` gives them."""

    FRAME = CropSpec(policy="box", size=SIDE, grid=SIDE // 16)

    def __init__(self, model: str, settings: dict[str, Any]) -> None:
        if gpu_is_present() and torch_is_installed():
            cuda_or_cpu(settings)  # sets the GPU that torch means by "cuda"
        self._analyzer = FaceAnalyzer(
            model,
            device=settings["device"],
            detector=settings["detector"],
            min_score=settings["min_score"],
            threads=threads_of_a_rank(),
        )

    def answer(self, image: np.ndarray) -> list[Answers]:
        """See `Network`."""
        return [self._answers(image, face) for face in self._analyzer.analyze(image)]

    def _answers(self, image: np.ndarray, face: Any) -> Answers:
        frame = crop_face(image, self.FRAME, face.box)
        classes, attributes = None, None
        if face.parsing is not None:
            to_frame = compose(face.parsing.matrix, frame.matrix)
            classes = warp(
                face.parsing.class_map, to_frame, (SIDE, SIDE), interpolation="nearest", border="zero"
            )
        if face.attributes is not None:
            attributes = {name: p > 0.5 for name, p in face.attributes.items()}
        return Answers(
            crop=frame.image,
            embedding=face.embedding,
            attributes=attributes,
            age=None if face.age is None else face.age.years,
            expression=None if face.expression is None else face.expression.label,
            classes=classes,
            colours=OUR_COLOURS,
            landmarks=None if face.landmarks is None else transform_points(frame.matrix, face.landmarks),
        )


class Published:
    """A published checkpoint, in the release's conventions.

    The age is the softmax's expectation plus 30 years, the parsing ids are FaRL's, the expression labels are
    its own, and the embedding is not normalized.
    """

    YEARS_MORE = 30.0
    EXPRESSIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger")

    def __init__(self, model: FaceUM, to_our_ids: Sequence[int], settings: dict[str, Any]) -> None:
        self._device = cuda_or_cpu(settings)
        self._model = model.eval().to(self._device)
        self._detector = load_detector(settings["detector"], threads=threads_of_a_rank())
        self._min_score = settings["min_score"]
        self._to_our_ids = list(to_our_ids)

    def answer(self, image: np.ndarray) -> list[Answers]:
        """See `Network`."""
        found = self._detector.detect(image, min_score=self._min_score)
        return [self._answers(image, face.box) for face in found]

    def _answers(self, image: np.ndarray, box: np.ndarray) -> Answers:
        answers: dict[str, np.ndarray] = {}
        for spec, tasks in self._model.config.crops:
            crop = crop_face(image, spec, box)
            answers |= self._run(crop, tasks)
        years = np.exp(answers["age"] - answers["age"].max())
        logits = answers["parsing"][self._to_our_ids]  # back to FaRL's order
        return Answers(
            crop=crop.image,
            embedding=answers["recognition"],
            attributes=dict(zip(ATTRIBUTES, (answers["attributes"] > 0).tolist(), strict=True)),
            age=float((years / years.sum()) @ np.arange(len(years))) + self.YEARS_MORE,
            expression=self.EXPRESSIONS[int(answers["expression"].argmax())],
            classes=decode_class_map(logits, SIDE),
            colours=RELEASE_COLOURS,
            landmarks=answers["landmarks"] * SIDE,
        )

    def _run(self, crop: Crop, tasks: Sequence[str]) -> dict[str, np.ndarray]:
        import torch

        with torch.inference_mode():
            image = torch.from_numpy(network_input(crop.image[None])).to(self._device)
            face = torch.from_numpy(crop.face_tokens_N[None]).to(self._device)
            output = self._model(image, face, tasks)
            return {task: output[task][0].float().cpu().numpy() for task in tasks}


def open_network(model_path: str, settings: dict[str, Any]) -> Network:
    """Open a published checkpoint, a file of ours, or a registered name."""
    path = Path(model_path)
    is_file = looks_like_path(model_path) or path.exists() or path.suffix != "" or len(path.parts) > 1
    if not is_file:
        return Ours(model_path, settings)
    if not path.is_file():
        raise ModelError(NO_CHECKPOINT.format(path=path))
    if path.suffix == ".onnx":
        return Ours(model_path, settings)
    if not torch_is_installed():
        raise ModelError(
            f"{path} needs torch ({INSTALL_TORCH}); or use --model_path compact, which does not."
        )
    if path.suffix != ".safetensors":
        return _published_file(path, settings)

    from faceum.model.checkpoint import load_checkpoint, read_metadata

    provenance = read_metadata(path).get("provenance")
    if isinstance(provenance, dict) and provenance.get("converted") == "reference":
        return Published(load_checkpoint(path)[0], provenance["parsing_classes_from"], settings)
    return Ours(model_path, settings)


def _published_file(path: Path, settings: dict[str, Any]) -> Published:
    from faceum.model.convert import PARSING_FROM_REFERENCE, convert, kind_of, read_foreign

    state = read_foreign(path)
    if kind_of(state) == "farl":
        raise ModelError(
            f"{path} is FaRL's encoder, which answers no task; it is where training starts: "
            "faceum convert farl. For answers without training: --model_path compact."
        )
    try:
        model, _ = convert("reference", state)
    except ModelError as error:
        raise ModelError(
            f"{path}: {error} (faceum convert reference has --drop; give its file as --model_path.)"
        ) from None
    return Published(model, PARSING_FROM_REFERENCE, settings)


def cuda_or_cpu(settings: dict[str, Any]) -> str:
    """Return torch's device: this process's GPU if there is one and "cpu" is not asked for."""
    import torch

    chosen = settings["device"]
    if chosen == "cpu" or not torch.cuda.is_available():
        if chosen == "cuda":
            raise ModelError(
                "The device 'cuda' was asked for, but torch sees no GPU; leave it out, or say cpu."
            )
        return "cpu"
    local_rank, ranks = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    number = local_rank if ranks > 1 else max(int(settings["gpu_num"]), 0)
    torch.cuda.set_device(number % torch.cuda.device_count())
    return "cuda"


def threads_of_a_rank() -> int:
    """Return the threads that this process may use, shared among the ranks of this machine."""
    return max(usable_threads(None) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)


def write_face(answers: Answers, folder: Path, number: int) -> None:
    """Write the release's six files of a face; from the second face on, names end in its number."""
    mark = "" if number == 1 else f"_{number}"
    if answers.embedding is not None:
        write_text(folder / f"Identity_recog{mark}.txt", "".join(f"{float(v)}\n" for v in answers.embedding))
    if answers.attributes is not None:
        lines = (f"{name}: {int(yes)}\n" for name, yes in answers.attributes.items())
        write_text(folder / f"Attributes_binary{mark}.txt", "".join(lines))
    if answers.classes is not None:
        _, png = cv2.imencode(".png", answers.classes)
        write_bytes(folder / f"Dense_parsing{mark}.png", png.tobytes())
        blended = cv2.addWeighted(answers.crop, 0.5, answers.colours[answers.classes], 0.5, 0)
        write_image(folder / f"Dense_parsing_visualization{mark}.png", blended)
    if answers.landmarks is not None:
        lines = (f"{float(x)} {float(y)}\n" for x, y in answers.landmarks)
        write_text(folder / f"Dense_landmarks{mark}.txt", "".join(lines))
        drawn = answers.crop.copy()
        for x, y in answers.landmarks.astype(int).tolist():
            cv2.circle(drawn, (x, y), 0, YELLOW, 3)
        write_image(folder / f"Dense_landmarks{mark}.png", drawn)


def print_face(answers: Answers, number: int) -> None:
    """Print the release's two lines; from the second face on, with its number."""
    mark = "" if number == 1 else f"_{number}"
    if answers.age is not None:
        print(f"Age Estimation{mark}:{answers.age}")
    if answers.expression is not None:
        print(f"expression_pre{mark}:{answers.expression}")


def read_config(path: Path) -> dict[str, str]:
    """Return the top-level keys of a YAML mapping with their values as text; nested values are ignored.

    The settings are plain words and numbers at the top level; this reads no more of YAML than that.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")  # comments may be in any encoding
    except OSError as error:
        raise FaceumError(f"The config {path} cannot be read ({error}); give a YAML file, or none.") from None
    values = {}
    for line in text.splitlines():
        if not line.strip() or line[0] in " \t#%-}]" or line.startswith("..."):
            continue
        key = re.match(r"""(["']?)([^"'#:{}\[\]]+)\1\s*:(?:\s+(.*))?$""", line)
        if key is None:
            raise FaceumError(
                f"The config {path} is no YAML mapping at {line[:60]!r}; give lines of `key: value`."
            )
        values[key[2].strip()] = _plain(key[3] or "")
    return values


def _plain(text: str) -> str:
    """Return a YAML value of one line without quotes and comment; empty for null."""
    quoted = re.match(r"""(["'])(.*?)\1\s*(#.*)?$""", text)
    if quoted:
        return quoted[2]
    value = re.sub(r"(^|\s)#.*$", "", text).strip()
    return "" if value in ("~", "null", "None") else value


def read_settings(words: Sequence[str] | None) -> dict[str, Any]:
    """Return the settings of the command line, else of the config file, else the defaults."""
    parser = argparse.ArgumentParser(
        description="The six tasks on photos, as the release's command gives them."
    )
    parser.add_argument("--config_path", help="YAML file with settings (test.yaml)")
    parser.add_argument("--model_path", help="published checkpoint, .safetensors, .onnx, or a name: compact")
    parser.add_argument("--image_path", nargs="+", help="photos, folders, or a .txt file with one a line")
    parser.add_argument("--results_path", help="folder for the files")
    parser.add_argument("--gpu_num", help="number of the GPU to use, where there is one")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="auto by default")
    given = {key: value for key, value in vars(parser.parse_args(words)).items() if value is not None}
    config: dict[str, str] = {}
    if "config_path" in given:
        path = Path(given.pop("config_path"))
        config = read_config(path)
        others = [key for key, value in config.items() if not _is_setting(key, value)]
        if others:
            print(f"{path}: not used here: {', '.join(others)}", file=sys.stderr)
    known = {key: value for key, value in config.items() if _is_setting(key, value)}
    settings = {**SETTINGS, **known, **given}
    if not _is_setting("gpu_num", str(settings["gpu_num"])):
        raise FaceumError(f"--gpu_num is {settings['gpu_num']!r}; give the number of a GPU.")
    settings |= {"gpu_num": int(settings["gpu_num"]), "min_score": float(settings["min_score"])}
    if not settings["image_path"]:
        raise FaceumError("No photo was named; say --image_path FILE.")
    return settings


def _is_setting(key: str, value: str) -> bool:
    """Return whether a key of a config is a setting, and its value is one that the setting can have."""
    return key in SETTINGS and re.fullmatch(VALUES.get(key, r"""[^\[{|>&*!"'].*"""), value) is not None


def images_of(settings: dict[str, Any]) -> list[Path]:
    """Return all photos, the same list on every rank."""
    named = settings["image_path"]
    paths: list[Path] = []
    for name in [named] if isinstance(named, str) else named:
        if Path(name).suffix == ".txt":
            try:
                lines = Path(name).read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise FaceumError(
                    f"The list {name} cannot be read ({error}); give one photo a line."
                ) from None
            paths += [Path(line.strip()) for line in lines if line.strip()]
        else:
            paths.append(Path(name))
    images = list_images(paths, leave_out=Path(settings["results_path"]))
    if not images.files:
        raise FaceumError([*images.problems, "No photo was named; give --image_path FILE."][0])
    return images.files


def run(settings: dict[str, Any]) -> int:
    """Analyze this rank's share of the photos; return the exit code, 0 under several ranks."""
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    images = images_of(settings)
    results = Path(settings["results_path"])
    stems = OutputStems(results)
    folders = [results if len(images) == 1 else results / stems.name(str(one)) for one in images]
    share = list(zip(images, folders, strict=True))[rank::ranks]
    if not share:
        return 0
    network = open_network(settings["model_path"], settings)
    print(LOADED)
    failed = 0
    for image, folder in share:
        try:
            faces = network.answer(read_image(image))
        except FaceumError as error:
            print(error, file=sys.stderr)
            failed += 1
            continue
        if len(images) > 1:
            print(f"{image}:")
        if not faces:
            print(f"There is no face in {image}; nothing is written for it.")
        for number, answers in enumerate(faces, 1):
            write_face(answers, folder, number)
            print_face(answers, number)
        sys.stdout.flush()
    if ranks > 1:  # torchrun ends all ranks when one fails, and the others' photos with them
        return 0
    return 0 if not failed else 2 if failed == len(share) else 1


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; return 0 if all photos were analyzed, 1 if some failed, 2 if all did."""
    try:
        return run(read_settings(words))
    except FaceumError as error:
        hint = "" if "compact" in asset_names("model") else " (This checkout holds no weights yet.)"
        print(f"{error}{hint if '--model_path compact' in str(error) else ''}", file=sys.stderr)
    except OSError as error:
        print(f"{error.filename or 'A file'} cannot be used: {error.strerror or error}.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
