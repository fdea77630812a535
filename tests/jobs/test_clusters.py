"""The recipes for clusters: the Slurm script, the Kubernetes Job, and the Spark example of the docs."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import faceum
from faceum.cli.app import app
from faceum.jobs.batch import parse_part
from faceum.jobs.check import batch_status, verify_batch
from faceum.jobs.folder import BatchFolder

ROOT = Path(__file__).resolve().parents[2]


def test_the_slurm_script_does_all_shards(folder: Path, tmp_path: Path) -> None:
    script = ROOT / "deploy" / "batch.slurm"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in {"srun": 'exec "$@"', "faceum": f'exec "{sys.executable}" -m faceum "$@"'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    out = tmp_path / "out with a space"
    options = ["--tasks", "age", "--images-per-shard", "6"]
    planned = CliRunner().invoke(app, ["batch", str(folder), "--out", str(out), "--plan-only", *options])
    assert planned.exit_code == 0, planned.output
    source = [str(Path(faceum.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(source),
        "SOURCE": str(folder),
        "OUT": str(out),
        "OPTIONS": shlex.join([*options, "--max-failures", "0.5"]),
        "SLURM_ARRAY_TASK_COUNT": "2",
        "SLURM_CPUS_PER_TASK": "1",
    }
    for task in (1, 2):
        one = {**environment, "SLURM_ARRAY_TASK_ID": str(task)}
        done = subprocess.run(["bash", str(script)], env=one, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert len(BatchFolder(out).done()) == task
    assert not verify_batch(out)


def test_the_kubernetes_job_divides_the_shards() -> None:
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load((ROOT / "deploy" / "batch-job.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {one["name"] for one in pod["volumes"]}
    (command,) = container["args"]
    known = CliRunner().invoke(app, ["batch", "run", "--help"]).output
    assert not [word for word in command.split() if word.startswith("--") and word not in known]
    parts = []
    for index in range(job["spec"]["completions"]):
        shell = [*container["command"], command.replace("exec faceum", "echo")]
        environment = {**os.environ, "JOB_COMPLETION_INDEX": str(index)}
        said = subprocess.run(shell, env=environment, capture_output=True, text=True, check=True).stdout
        parts.append(parse_part(re.search(r"--shard (\S+)", said)[1]))
    assert parts == [(number, len(parts)) for number in range(1, len(parts) + 1)]


def test_the_ray_job_runs_a_command_that_is_known() -> None:
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load((ROOT / "deploy" / "batch-ray.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    words = job["spec"]["entrypoint"].split()
    assert words[:2] == ["faceum", "batch"] and "ray" in words
    known = CliRunner().invoke(app, ["batch", "run", "--help"]).output
    assert not [word for word in words if word.startswith("--") and word not in known]
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert [one["name"] for one in container["volumeMounts"]] == [one["name"] for one in pod["volumes"]]


class Session:
    """As much of a Spark session as the example uses; maps in this process."""

    def __init__(self, frame: Any = None) -> None:
        self.frame = frame

    def createDataFrame(self, frame: Any) -> Session:
        return Session(frame)

    def repartition(self, _: int) -> Session:
        return self

    def mapInPandas(self, function: Callable[[Iterable[Any]], Iterable[Any]], schema: str) -> Session:
        import pandas

        mapped = pandas.concat(list(function(iter([self.frame]))))
        assert [column.split()[0] for column in schema.split(", ")] == list(mapped.columns)
        return Session(mapped)

    def toPandas(self) -> Any:
        return self.frame


def test_the_spark_example_runs_the_same_worker(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pandas")
    spark = types.ModuleType("pyspark.sql")
    builder = types.SimpleNamespace(getOrCreate=Session)
    spark.SparkSession = types.SimpleNamespace(builder=builder)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyspark", types.ModuleType("pyspark"))
    monkeypatch.setitem(sys.modules, "pyspark.sql", spark)
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "clusters.md").read_text(), re.S | re.M)
    code = code.replace("/lake/photos", str(folder)).replace("/lake/results", str(tmp_path / "out"))
    path = tmp_path / "example.py"
    path.write_text(code)
    runpy.run_path(str(path))
    assert not verify_batch(tmp_path / "out")
    assert batch_status(tmp_path / "out").counts.total == 12
