"""torchrun restarts the workers after one was killed, and the run ends where an undisturbed one does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.train.running import torchrun, write_dying

from faceum.model.checkpoint import load_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch with distributed"),
]

DIES = 'self.step == 5 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"'


def test_run_survives_a_killed_worker(tmp_path: Path) -> None:
    dying = write_dying(tmp_path / "dying.py", DIES)
    words = "steps=6 warmup=2 workers=0 save_every=2 validate_every=0".split()
    # Without the setting, restarted workers find the addresses of the killed ones; see docs/training.md.
    apart = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    for name, script in (("whole", None), ("disturbed", dying)):
        done = torchrun(tmp_path / name, *words, script=script, restarts=1, **apart)
        assert done.returncode == 0, done.stderr
    assert "SIGKILL" in done.stderr or "exitcode: -9" in done.stderr, done.stderr
    whole, disturbed = (
        load_checkpoint(tmp_path / name / "network.safetensors")[0].state_dict()
        for name in ("whole", "disturbed")
    )
    for name, value in whole.items():
        torch.testing.assert_close(disturbed[name], value, msg=name)
    record = (tmp_path / "disturbed" / "run.json").read_text()
    assert '"step": 4' in record, "it resumed from the checkpoint of step 4"
