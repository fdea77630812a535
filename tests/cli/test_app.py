"""The command line on a tiny network: what is printed, written and returned, and how errors are said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from faceum.cli.app import app
from faceum.cli.findings import instructions
from faceum.results import result_schema
from faceum.tasks import TASKS
from faceum.weights.registry import load_registry


@pytest.fixture
def faceum(tiny_model):
    """Runs the command line with the tiny network."""
    network = ["--model", str(tiny_model.with_suffix(".onnx")), "--threads", "1"]

    def run(command, *words):
        given = [str(word) for word in words]
        return CliRunner().invoke(app, [command, *given, *(network if command == "analyze" else [])])

    return run


@pytest.fixture
def hostile(tmp_path, portrait_path):
    """Files that are no images, by what is wrong with them."""
    good = portrait_path.read_bytes()
    rng = np.random.default_rng(0)
    bomb = bytearray(good[:64])
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    files = {
        "truncated.png": good[: len(good) // 2],
        "empty.jpg": b"",
        "random.png": rng.bytes(5000),
        "text.jpg": b"not an image at all, whatever its name says\n" * 20,
        "bomb.png": bytes(bomb),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return [tmp_path / name for name in files]


def test_analyze_prints_a_table(faceum, portrait_path):
    done = faceum("analyze", portrait_path)
    assert done.exit_code == 0, done.output
    assert "astronaut.png" in done.stdout and "512 x 512" in done.stdout and "1 face" in done.stdout
    for heading in ("box", "score", "age", "expression", "attributes"):
        assert heading in done.stdout


def test_analyze_json_is_one_valid_object_a_line(faceum, portrait_path, tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    Image.new("RGB", (40, 30)).save(tmp_path / "gray.png")
    done = faceum("analyze", portrait_path, tmp_path / "gray.png", tmp_path / "none.jpg", "--json")
    assert done.exit_code == 1
    results = [json.loads(line) for line in done.stdout.splitlines()]
    for result in results:
        jsonschema.validate(result, result_schema())
    assert [None if r["faces"] is None else len(r["faces"]) for r in results] == [1, 0, None]
    assert "none.jpg" in results[2]["error"] and "none.jpg" in done.stderr


def test_analyze_out_writes_everything(faceum, portrait_path, tmp_path):
    done = faceum("analyze", portrait_path, "--out", tmp_path / "out")
    assert done.exit_code == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["astronaut.json", "astronaut.npz", "astronaut.parsing.png", "astronaut.png"]
    assert all(name in done.stdout for name in names)
    assert json.loads((tmp_path / "out/astronaut.json").read_text())["faces"][0]["age"]["years"] > 0
    parsing = Image.open(tmp_path / "out/astronaut.parsing.png")
    assert parsing.mode == "P" and parsing.size == (512, 512)


def test_two_images_of_one_stem_keep_apart(faceum, tmp_path):
    for folder, shade in (("a", 10), ("b", 200)):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "x.png"), np.full((20, 20, 3), shade, np.uint8))
    faceum("analyze", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "out")
    sources = {json.loads(path.read_text())["source"] for path in (tmp_path / "out").glob("*.json")}
    assert sources == {str(tmp_path / "a" / "x.png"), str(tmp_path / "b" / "x.png")}


def test_input_in_the_output_folder_stays(faceum, tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), np.full((20, 20, 3), 7, np.uint8))
    before = (tmp_path / "x.png").read_bytes()
    assert faceum("analyze", tmp_path / "x.png", "--out", tmp_path).exit_code == 0
    assert (tmp_path / "x.png").read_bytes() == before and (tmp_path / "x-2.png").exists()


def test_files_of_others_are_replaced_only_if_asked(faceum, portrait_path, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "astronaut.json").write_text('{"mine": 1}')
    refused = faceum("analyze", portrait_path, "--out", out)
    assert refused.exit_code == 2 and "astronaut.json" in refused.stderr
    assert [path.name for path in out.iterdir()] == ["astronaut.json"]
    assert (out / "astronaut.json").read_text() == '{"mine": 1}'
    assert faceum("analyze", portrait_path, "--out", out, "--overwrite").exit_code == 0
    assert faceum("analyze", portrait_path, "--out", out).exit_code == 0, "its own files may be replaced"


def test_no_input_is_ever_replaced(faceum, portrait_path, tmp_path):
    album = {"album.json": b'{"pages": 3}', "y.json": portrait_path.read_bytes(), "x.npz": b"numbers"}
    for name, data in album.items():
        (tmp_path / name).write_bytes(data)
    paths = [tmp_path / name for name in album]
    assert faceum("analyze", *paths, "--out", tmp_path, "--overwrite").exit_code == 1
    assert {path.name: path.read_bytes() for path in paths} == album
    assert (tmp_path / "y-2.json").is_file()


def test_only_asked_tasks(faceum, portrait_path):
    done = faceum("analyze", portrait_path, "--json", "--tasks", "age, landmarks")
    (face,) = json.loads(done.stdout)["faces"]
    fields = {"embedding", "age", "attributes", "expression", "landmarks", "parsing"}
    assert {name for name in fields if face[name] is not None} == {"age", "landmarks"}


@pytest.mark.parametrize("number", range(5))
def test_hostile_file_is_one_sentence_with_its_name(faceum, hostile, number):
    done = faceum("analyze", hostile[number])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1 and hostile[number].name in done.stderr
    assert "Traceback" not in done.output and done.stdout == ""


def test_others_are_done_when_some_fail(faceum, hostile, portrait_path, tmp_path):
    done = faceum("analyze", hostile[0], portrait_path, *hostile[1:], "--out", tmp_path / "out")
    assert done.exit_code == 1 and done.stderr.count("\n") == len(hostile)
    assert (tmp_path / "out" / "astronaut.png").exists()
    assert "truncated.png" in json.loads((tmp_path / "out/truncated.json").read_text())["error"]


def test_failed_write_affects_only_its_result(faceum, portrait_path, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).symlink_to(portrait_path)
    (tmp_path / "out" / "a.json").mkdir(parents=True)
    done = faceum("analyze", tmp_path / "a.png", tmp_path / "b.png", "--out", tmp_path / "out")
    assert done.exit_code == 1 and done.stderr.count("\n") == 1 and "a.png" in done.stderr
    assert (tmp_path / "out" / "b.json").is_file() and not list((tmp_path / "out" / "a.json").iterdir())


def test_file_deleted_after_analysis_is_still_drawn(faceum, portrait_path, tmp_path, monkeypatch):
    import faceum.cli.analyze as command

    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(portrait_path.read_bytes())
    show = command._show
    monkeypatch.setattr(
        command,
        "_show",
        lambda result, json: (show(result, json), (tmp_path / "a.png").unlink(missing_ok=True)),
    )
    done = faceum("analyze", tmp_path / "a.png", tmp_path / "b.png", "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert (tmp_path / "out" / "a.png").is_file() and (tmp_path / "out" / "b.png").is_file()


def test_files_left_out_of_a_folder_take_one_line(faceum, portrait_path, tmp_path):
    (tmp_path / "x.png").symlink_to(portrait_path)
    for name in ("notes.text", "data.csv", ".hidden"):
        (tmp_path / name).write_text("text")
    done = faceum("analyze", tmp_path)
    assert done.exit_code == 0 and done.stderr.splitlines() == [
        "faceum: Left out of the folders: 2 not images, 1 hidden."
    ]


def test_standard_input_is_analyzed(tiny_model, portrait_path, tmp_path):
    words = ("analyze", "-", "--json", "--model", tiny_model.with_suffix(".onnx"), "--out", tmp_path / "out")
    with portrait_path.open("rb") as image:
        pipe = subprocess.Popen(["cat"], stdin=image, stdout=subprocess.PIPE)
        out, err = start(*words, stdin=pipe.stdout).communicate(timeout=120)
    assert err == "" and json.loads(out)["source"] == "-" and len(json.loads(out)["faces"]) == 1
    assert (tmp_path / "out" / "stdin.png").is_file()


def test_names_cannot_steer_the_terminal(faceum, portrait_path, tmp_path):
    name = "a\x1b[31m\nb\x9b.png"
    (tmp_path / name).symlink_to(portrait_path)
    done = faceum("analyze", tmp_path / name, tmp_path / f"no{name}", "--out", tmp_path / "out")
    assert "\x1b" not in done.output and "\x9b" not in done.output
    assert "a\\x1b[31m\\nb\\x9b.png" in done.stdout and done.stderr.count("\n") == 1
    (line,) = faceum("analyze", tmp_path / name, "--json").stdout.splitlines()
    assert "\x9b" not in line and json.loads(line)["source"] == str(tmp_path / name)


@pytest.mark.parametrize("shape", [(1, 1), (100, 20_000)])
def test_odd_but_valid_images_have_no_face(faceum, tmp_path, shape):
    cv2.imwrite(str(tmp_path / "odd.png"), np.full((*shape, 3), 99, np.uint8))
    done = faceum("analyze", tmp_path / "odd.png", "--out", tmp_path / "out")
    assert done.exit_code == 0 and "no face" in done.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--tasks", "agee"], "did you mean 'age'"),
        (["--device", "cdua"], "did you mean 'cuda'"),
        (["--runtime", "onnx"], "did you mean 'onnxruntime'"),
        (["--detector", "mtcmm"], "There is no detector 'mtcmm'"),
        (["--max-faces", "0"], "max-faces"),
        (["--min-score", "7"], "min-score"),
        (["--out", "{here}"], "choose another"),
        (["--out", "{file}"], "cannot be used"),
        (["--no-such-option"], "no-such-option"),
    ],
)
def test_wrong_words_give_sentences_with_exit_code_2(faceum, tmp_path, words, sentence):
    cv2.imwrite(str(tmp_path / "x.png"), np.full((20, 20, 3), 7, np.uint8))
    filled = [word.format(here=tmp_path, file=tmp_path / "x.png") for word in words]
    done = faceum("analyze", tmp_path, *filled)
    assert done.exit_code == 2 and sentence in " ".join(done.stderr.split())
    assert "Traceback" not in done.output


def test_unknown_model_names_its_neighbours():
    done = CliRunner().invoke(app, ["analyze", "x.png", "--model", "centerfac"])
    assert done.exit_code == 2 and "There is no model 'centerfac'" in done.stderr


def test_empty_folder_is_bad_input(faceum, tmp_path):
    done = faceum("analyze", tmp_path)
    assert done.exit_code == 2 and "holds no images" in done.stderr


def test_models_prints_a_line_per_model_and_all_about_one():
    done = CliRunner().invoke(app, ["models"])
    assert done.exit_code == 0
    (line,) = [line for line in done.stdout.splitlines() if line.split()[:1] == ["compact"]]
    registered = load_registry()["compact"].scores
    assert "all six" in line and "research" in line
    for score in ("lfw_accuracy", "utkface_mae", "helen_afw_nme"):
        assert f"{registered[score]:.2f}" in line
    assert done.stdout.split().count("centerface") == 1
    details = CliRunner().invoke(app, ["models", "compact"]).stdout
    assert load_registry()["compact"].files["onnx"].sha256 in details.replace("\n", "").replace(" ", "")
    listed = json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)
    assert {"name", "kind", "files", "licence", "source", "scores"} <= set(listed[0])
    unknown = CliRunner().invoke(app, ["models", "compcat"])
    assert unknown.exit_code == 2 and "'compact'" in unknown.stderr


def test_doctor_says_what_would_run(tiny_model):
    done = CliRunner().invoke(app, ["doctor", "--model", str(tiny_model.with_suffix(".onnx"))])
    assert done.exit_code == 0, done.output
    for word in ("python", "onnxruntime", "torch", "threads", "gpu", "centerface", "onnxruntime on cpu"):
        assert word in done.stdout
    assert all(task in done.stdout for task in TASKS)


def test_doctor_finds_what_is_broken(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"rubbish")
    done = CliRunner().invoke(app, ["doctor", "--model", str(tmp_path / "x.onnx"), "--json"])
    assert done.exit_code == 1
    states = {finding["topic"]: finding["state"] for finding in json.loads(done.stdout)}
    assert states["trial run"] == "broken" and states["numpy"] == "ok"


def start(*words, **options):
    """Start the real command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "faceum", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_real_command_answers_and_fails_without_traceback(tiny_model, portrait_path):
    model = tiny_model.with_suffix(".onnx")
    out, err = (process := start("analyze", portrait_path, "no.jpg", "--model", model)).communicate(
        timeout=120
    )
    assert (
        process.returncode == 1
        and "1 face" in out
        and err == "faceum: no.jpg does not exist: check the path.\n"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_that_the_terminal_cannot_show_stop_nothing(tiny_model, tmp_path, encoding):
    names = [b"a\xff.png", b"z.png", "ü空.png".encode()]
    for name in names:
        Image.new("RGB", (9, 8)).save(tmp_path / "plain.png")
        os.rename(tmp_path / "plain.png", os.path.join(os.fsencode(tmp_path), name))
    words = ("analyze", tmp_path, "--model", tiny_model.with_suffix(".onnx"), "--out", tmp_path / "out")
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    out, err = start(*words, env=environment).communicate(timeout=120)
    assert err == "" and out.count("no face") == 3
    out, err = start(*words, "--json", env=environment).communicate(timeout=120)
    sources = [json.loads(line)["source"] for line in out.splitlines()]
    assert err == "" and [os.path.basename(os.fsencode(source)) for source in sources] == names


def test_cut_image_is_one_line_on_stderr_in_every_format(tiny_model, tmp_path, portrait):
    for ending in ("jpg", "png", "webp", "bmp", "tiff"):
        cv2.imwrite(str(tmp_path / f"x.{ending}"), portrait[:100, :100])
        data = (tmp_path / f"x.{ending}").read_bytes()
        (tmp_path / f"x.{ending}").write_bytes(data[: len(data) // 2])
    process = start("analyze", tmp_path, "--model", tiny_model.with_suffix(".onnx"))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2 and out == ""
    lines = err.splitlines()
    assert len(lines) == 5 and all(line.startswith(f"faceum: {tmp_path}/x.") for line in lines), err


def test_mistake_of_ours_is_said_without_a_traceback():
    code = (
        "import sys; sys.argv = ['faceum', 'models']\n"
        "import faceum.weights.registry, faceum.cli.app\n"
        "faceum.weights.registry.load_registry = lambda: 1 / 0\n"
        "faceum.cli.app.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "bug in faceum (ZeroDivisionError" in done.stderr


def test_ctrl_c_ends_cleanly(tiny_model, portrait_path, tmp_path):
    for number in range(200):
        (tmp_path / f"{number:03}.png").symlink_to(portrait_path)
    model = tiny_model.with_suffix(".onnx")
    process = start("analyze", tmp_path, "--model", model, "--out", tmp_path / "out", start_new_session=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "001.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "faceum: Interrupted; what was written is whole.\n"
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_help_and_version_load_nothing_heavy():
    code = (
        "import sys, runpy; sys.argv = ['faceum', '--help']\n"
        "try: runpy.run_module('faceum', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'numpy', 'cv2', 'onnxruntime', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "analyze" in done.stdout and "doctor" in done.stdout
    version = CliRunner().invoke(app, ["--version"])
    assert version.exit_code == 0 and version.stdout.startswith("faceum ")


def test_main_job_needs_no_torch(tiny_model, portrait_path, tmp_path):
    code = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'onnx', 'pyarrow'): sys.modules[name] = None\n"
        f"sys.argv = ['faceum', 'analyze', {str(portrait_path)!r}, '--out', {str(tmp_path)!r}, '--model', "
        f"{str(tiny_model.with_suffix('.onnx'))!r}]\n"
        "from faceum.cli.app import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "astronaut.png").exists() and "1 face" in done.stdout


def test_max_pixels_refuses_larger_images(faceum, portrait_path):
    done = faceum("analyze", portrait_path, "--max-pixels", 1000)
    assert done.exit_code == 2 and "512 x 512" in done.stderr and "1000" in done.stderr


def test_doctor_names_instructions(tmp_path):
    arm = tmp_path / "arm"
    arm.write_text("processor : 0\nFeatures : fp asimd asimddp i8mm\n")
    assert instructions(arm) == ["NEON", "Arm dot product", "Arm int8 matrices"]
    intel = tmp_path / "intel"
    intel.write_text("flags : fpu avx2 avx512f avx512_vnni amx_int8\n")
    assert instructions(intel) == ["AVX2", "AVX-512", "AVX-512 VNNI", "AMX"]
    assert isinstance(instructions(tmp_path / "none"), list)


@pytest.mark.parametrize("group", [(), ("people",), ("batch",), ("data",), ("convert",)])
def test_summaries_of_commands_are_not_cut_off(group: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*group, "--help"], env={"COLUMNS": "80"})
    commands = done.stdout.partition("Commands:\n")[2]
    assert len(commands.splitlines()) > 1 and "..." not in commands, commands
