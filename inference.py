"""The release's own command: photos in; its six files and two printed lines a face out. Documentation:
docs/from-the-release.md.

    CUDA_VISIBLE_DEVICES=0 torchrun --nproc_per_node=1 --master_port=53000 inference.py \
        --config_path test.yaml --model_path ckpts/checkpoint.pth.tar \
        --image_path images/x.jpg --results_path results --gpu_num 0

Plain `python inference.py ...` does the same, with or without a GPU. A published checkpoint, as it is or
converted, gives the published numbers; any of our weights (`--model_path compact`, a .safetensors or .onnx
file) give ours. What only the release does stands in this file alone, in `Published`.
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
from faceum.render.palette import PALETTE
from faceum.save import OutputStems
from faceum.tasks import ATTRIBUTES
from faceum.threads import usable_threads
from faceum.weights.registry import asset_names, looks_like_path

if TYPE_CHECKING:
    from faceum.model.network import FaceUM

SIDE = 512
"""Pixels a side of the images that are written; landmarks are in these pixels."""

NO_CHECKPOINT = (
    "There is no {path}. The trained weights of the release were not published with it (its README links to "
    "the page of another network, https://huggingface.co/kartiknarayan/facexformer): ask its authors for "
    "checkpoint.pth.tar and lay it into ckpts/. FaRL-Base-Patch16-LAIONFace20M-ep64.pth, the encoder that "
    "training starts from, is at https://github.com/FacePerceiver/FaRL; inference does not "
    "need it. The weights in this package need nothing: --model_path compact."
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
"""What the command line and the config file may say, and what holds where neither does."""

VALUES = {"gpu_num": r"-?\d+", "min_score": r"0?\.\d+|[01](\.0*)?", "device": "auto|cpu|cuda"}
"""Patterns of the values that a setting can have, where not any word will do."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """What is written of one face; None for a task that the network does not answer.

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


class Teller(Protocol):
    """A loaded network."""

    def tell(self, image: np.ndarray) -> list[Told]:
        """What is to be written of each face of an RGB uint8 image, largest face first."""
        ...


class Ours:
    """Our weights, our numbers: what `faceum analyze` says."""

    FRAME = CropSpec(policy="box", size=SIDE, grid=SIDE // 16)

    def __init__(self, model: str, settings: dict[str, Any]) -> None:
        if gpu_is_present() and torch_is_installed():
            cuda_or_cpu(settings)  # torch then means this process's GPU when it is told "cuda"
        self._analyzer = FaceAnalyzer(
            model,
            device=settings["device"],
            detector=settings["detector"],
            min_score=settings["min_score"],
            threads=threads_of_a_rank(),
        )

    def tell(self, image: np.ndarray) -> list[Told]:
        """See `Teller`."""
        return [self._told(image, face) for face in self._analyzer.analyze(image)]

    def _told(self, image: np.ndarray, face: Any) -> Told:
        frame = crop_face(image, self.FRAME, face.box)
        classes, attributes = None, None
        if face.parsing is not None:
            to_frame = compose(face.parsing.matrix, frame.matrix)
            classes = warp(
                face.parsing.class_map, to_frame, (SIDE, SIDE), interpolation="nearest", border="zero"
            )
        if face.attributes is not None:
            attributes = {name: p > 0.5 for name, p in face.attributes.items()}
        return Told(
            crop=frame.image,
            embedding=face.embedding,
            attributes=attributes,
            age=None if face.age is None else face.age.years,
            expression=None if face.expression is None else face.expression.label,
            classes=classes,
            colours=PALETTE,
            landmarks=None if face.landmarks is None else transform_points(frame.matrix, face.landmarks),
        )


class Published:
    """A published checkpoint, in the release's conventions.

    Its age is the softmax's expectation and 30 years more, its parsing ids are FaRL's, its words are its own,
    and its embedding is as the network gives it, of any length.
    """

    YEARS_MORE = 30.0
    EXPRESSIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger")

    def __init__(self, model: FaceUM, to_our_ids: Sequence[int], settings: dict[str, Any]) -> None:
        self._device = cuda_or_cpu(settings)
        self._model = model.eval().to(self._device)
        self._detector = load_detector(settings["detector"], threads=threads_of_a_rank())
        self._min_score = settings["min_score"]
        self._to_our_ids = list(to_our_ids)
        self._colours = PALETTE[self._to_our_ids].copy()
        self._colours[-1] = 0  # the release has 18 colours for 19 classes

    def tell(self, image: np.ndarray) -> list[Told]:
        """See `Teller`."""
        found = [face for face in self._detector.detect(image) if face.score >= self._min_score]
        return [self._told(image, face.box) for face in found]

    def _told(self, image: np.ndarray, box: np.ndarray) -> Told:
        answers: dict[str, np.ndarray] = {}
        for spec, tasks in self._model.config.crops:
            crop = crop_face(image, spec, box)
            answers |= self._run(crop, tasks)
        years = np.exp(answers["age"] - answers["age"].max())
        logits = answers["parsing"][self._to_our_ids]  # back to FaRL's order
        return Told(
            crop=crop.image,
            embedding=answers["recognition"],
            attributes=dict(zip(ATTRIBUTES, (answers["attributes"] > 0).tolist(), strict=True)),
            age=float((years / years.sum()) @ np.arange(len(years))) + self.YEARS_MORE,
            expression=self.EXPRESSIONS[int(answers["expression"].argmax())],
            classes=decode_class_map(logits, SIDE),
            colours=self._colours,
            landmarks=answers["landmarks"] * SIDE,
        )

    def _run(self, crop: Crop, tasks: Sequence[str]) -> dict[str, np.ndarray]:
        import torch

        with torch.inference_mode():
            image = torch.from_numpy(network_input(crop.image[None])).to(self._device)
            face = torch.from_numpy(crop.face_tokens_N[None]).to(self._device)
            output = self._model(image, face, tasks)
            return {task: output[task][0].float().cpu().numpy() for task in tasks}


def open_network(model_path: str, settings: dict[str, Any]) -> Teller:
    """The network of a published checkpoint, of a file of ours, or of a registered name."""
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

    told = read_metadata(path).get("provenance")
    if isinstance(told, dict) and told.get("converted") == "reference":
        return Published(load_checkpoint(path)[0], told["parsing_classes_from"], settings)
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
    """Torch's device: the GPU of this process where there is one and it is not declined."""
    import torch

    wanted = settings["device"]
    if wanted == "cpu" or not torch.cuda.is_available():
        if wanted == "cuda":
            raise ModelError(
                "The device 'cuda' was asked for, but torch sees no GPU; leave it out, or say cpu."
            )
        return "cpu"
    local_rank, ranks = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    number = local_rank if ranks > 1 else max(int(settings["gpu_num"]), 0)
    torch.cuda.set_device(number % torch.cuda.device_count())
    return "cuda"


def threads_of_a_rank() -> int:
    """The threads that this process may use, shared among the ranks of this machine."""
    return max(usable_threads(None) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)


def write_face(told: Told, folder: Path, number: int) -> None:
    """The release's six files of a face; from the second face on, their names end in its number."""
    mark = "" if number == 1 else f"_{number}"
    if told.embedding is not None:
        write_text(folder / f"Identity_recog{mark}.txt", "".join(f"{v:.9g}\n" for v in told.embedding))
    if told.attributes is not None:
        lines = (f"{name}: {int(yes)}\n" for name, yes in told.attributes.items())
        write_text(folder / f"Attributes_binary{mark}.txt", "".join(lines))
    if told.classes is not None:
        _, png = cv2.imencode(".png", told.classes)
        write_bytes(folder / f"Dense_parsing{mark}.png", png.tobytes())
        blended = (told.crop.astype(np.uint16) + told.colours[told.classes]) // 2
        write_image(folder / f"Dense_parsing_visualization{mark}.png", blended.astype(np.uint8))
    if told.landmarks is not None:
        lines = (f"{x:.4f} {y:.4f}\n" for x, y in told.landmarks)
        write_text(folder / f"Dense_landmarks{mark}.txt", "".join(lines))
        drawn = told.crop.copy()
        for x, y in told.landmarks.tolist():  # OpenCV's whole numbers are pixel centres
            cv2.circle(drawn, (round(x - 0.5), round(y - 0.5)), 2, (0, 255, 0), -1, cv2.LINE_AA)
        write_image(folder / f"Dense_landmarks{mark}.png", drawn)


def print_face(told: Told, number: int) -> None:
    """The release's two lines; from the second face on, with its number."""
    mark = "" if number == 1 else f"_{number}"
    if told.age is not None:
        print(f"Age Estimation{mark}:{told.age:.4f}")
    if told.expression is not None:
        print(f"expression_pre{mark}:{told.expression}")


def read_config(path: Path) -> dict[str, str]:
    """The keys of a YAML mapping with their values as text; of a nested value only the key counts.

    The settings are plain words and numbers at the top, so this reads no more of YAML than that.
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
    """A YAML value of one line without its quotes or comment; empty for null."""
    quoted = re.match(r"""(["'])(.*?)\1\s*(#.*)?$""", text)
    if quoted:
        return quoted[2]
    value = re.sub(r"(^|\s)#.*$", "", text).strip()
    return "" if value in ("~", "null", "None") else value


def read_settings(words: Sequence[str] | None) -> dict[str, Any]:
    """The command line's words, then the config file's, then the defaults."""
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
    """Whether a key of a config is one of ours, with a value that it can have."""
    return key in SETTINGS and re.fullmatch(VALUES.get(key, r"""[^\[{|>&*!"'].*"""), value) is not None


def images_of(settings: dict[str, Any]) -> list[Path]:
    """All photos, the same list on every rank."""
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
    """Do this rank's share of the photos; returns the exit code, 0 under several ranks."""
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    images = images_of(settings)
    results = Path(settings["results_path"])
    stems = OutputStems(results)
    folders = [results if len(images) == 1 else results / stems.name(str(one)) for one in images]
    share = list(zip(images, folders, strict=True))[rank::ranks]
    if not share:
        return 0
    network = open_network(settings["model_path"], settings)
    failed = 0
    for image, folder in share:
        try:
            faces = network.tell(read_image(image))
        except FaceumError as error:
            print(error, file=sys.stderr)
            failed += 1
            continue
        if len(images) > 1:
            print(f"{image}:")
        if not faces:
            print(f"There is no face in {image}; nothing is written for it.")
        for number, told in enumerate(faces, 1):
            write_face(told, folder, number)
            print_face(told, number)
        sys.stdout.flush()
    if ranks > 1:  # torchrun ends all ranks when one fails, and the others' photos with them
        return 0
    return 0 if not failed else 2 if failed == len(share) else 1


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 some photos failed, 2 nothing could be done."""
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
