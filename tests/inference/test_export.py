"""python export.py RUN: every format gives the network's own answers, in a program of its own."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import alexnet
from alexnet import models
from alexnet.checkpoint import read_safetensors, write_safetensors
from alexnet.data import ImageDataModule
from alexnet.errors import UserError
from alexnet.inference.export import WithInput, export
from alexnet.models import AlexNet
from tests.conftest import Once, program, quick, slow


@pytest.fixture(scope="module")
def exported(run: Path, once: Once) -> Path:
    """All three formats in one folder."""

    def export(path: Path) -> None:
        for kind in ("safetensors", "onnx", "torch_export"):
            said = quick("export.py", str(run), f"--format={kind}", f"--out={path}/files").stdout
            assert f"written {path}/files/model." in said
            assert ("every weight is the same" if kind == "safetensors" else "gives the network's answers") in said

    return once("exported", export) / "files"


def answers(run: Path, images: Tensor) -> np.ndarray[Any, Any]:
    """In float64, of images (N, 1, 227, 227) from 0 to 255."""
    data = ImageDataModule("digits", channels=1)
    data.setup()
    with torch.no_grad():
        found: Tensor = alexnet.load(run).double()(
            (images.double() / 255 - data.normalize.mean) / data.normalize.std.double()
        )
    return found.numpy()


IMAGES = torch.randint(0, 256, (7, 1, 227, 227), generator=torch.Generator().manual_seed(3)).float()


@slow
def test_onnx(run: Path, exported: Path) -> None:
    """And any number of images at a time."""
    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    for images in (IMAGES, IMAGES[:1]):
        (found,) = session.run(None, {"pictures": images.numpy()})
        assert found == pytest.approx(answers(run, images), rel=1e-3, abs=1e-4)
    assert session.get_modelmeta().custom_metadata_map["network"].startswith("AlexNet: lrn on")


@slow
def test_torch_export(exported: Path, run: Path, tmp_path: Path) -> None:
    """In a process that has nothing of this project."""
    torch.save(IMAGES, tmp_path / "in.pt")
    code = (
        "import sys, torch; sys.modules['alexnet'] = None; model = torch.export.load(sys.argv[1]).module();"
        "torch.save(model(torch.load(sys.argv[2])).detach(), sys.argv[3])"
    )
    paths = (str(exported / "model.pt2"), str(tmp_path / "in.pt"), str(tmp_path / "out.pt"))
    program(sys.executable, "-c", code, *paths, cwd=tmp_path)
    assert torch.load(paths[2]).numpy() == pytest.approx(answers(run, IMAGES), rel=1e-3, abs=1e-4)


def test_safetensors(exported: Path, run: Path, tmp_path: Path) -> None:
    """Under the network's own names; alexnet.load and the other programs take it for the checkpoint."""
    file = exported / "model.safetensors"
    ours = alexnet.load(run)
    assert AlexNet(10, 1, width=0.125).load_state_dict(load_file(file), strict=False).unexpected_keys == []
    assert torch.equal(alexnet.load(file)(IMAGES), ours(IMAGES))
    said = quick("evaluate.py", str(file), f"--out={tmp_path}/out").stdout
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["test"] == pytest.approx(
        json.loads((run / "metrics.json").read_text())["test"]
    )
    assert "AlexNet: lrn on" in said


def test_files_have_the_usual_permissions(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    usual = (tmp_path / "usual").stat().st_mode
    assert {path.name: path.stat().st_mode for path in exported.iterdir() if path.stat().st_mode != usual} == {}


def test_the_card_and_what_programs_read(exported: Path, run: Path) -> None:
    info, card = json.loads((exported / "model.json").read_text()), (exported / "README.md").read_text()
    metrics = json.loads((run / "metrics.json").read_text())
    assert info["classes"] == list("0123456789")
    assert info["results"]["test"] == metrics["test"]
    assert info["architecture"]["lrn"] is True
    assert info["input"] == {"channels": 1, "resize": 256, "crop": 227, "mean": info["input"]["mean"],
                              "std": info["input"]["std"], "mean_image": False}  # fmt: skip
    assert info["run"]["git_commit"] == json.loads((run / "run.json").read_text())["git_commit"]
    assert f"top-1 {metrics['test']['top1']:.4f}" in card
    assert "1,259 train" in card
    assert str(run) not in card + (exported / "model.json").read_text() + str(
        read_safetensors(exported / "model.safetensors")
    )
    assert "    python train.py experiment=smoke model.width=0.125" in card


NETWORKS = {
    "own": AlexNet(5, width=0.125, lrn_window="own", groups=1),
    "odd": AlexNet(3, width=0.125, lrn_size=4, lrn_divide_alpha=False, partial_windows=True),
}
OTHERS = ("CifarNet", "ConvLocalNet", "LeNet", "TutorialNet", "TorchvisionAlexNet")
NETWORKS |= {name: getattr(models, name)(10) for name in OTHERS if hasattr(models, name)}


@slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_leaves_the_same(name: str, tmp_path: Path) -> None:
    network = NETWORKS[name].eval()
    x = torch.randn(2, *network.input_shape)
    for n in (2, 3):
        again = torch.export.export(network, (x,), dynamic_shapes=({0: torch.export.Dim("n")},)).module()
        x = torch.randn(n, *network.input_shape)
        assert torch.allclose(again(x), network(x), rtol=1e-4, atol=1e-5)
    torch.onnx.export(network, (x,), tmp_path / "model.onnx", dynamo=True, verbose=False, external_data=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert found == pytest.approx(network(x).detach().numpy(), rel=1e-3, abs=1e-4)


def test_a_mean_image_goes_with_it(tmp_path: Path) -> None:
    """Into the graph, and into the safetensors file."""
    data = ImageDataModule("fake", num_classes=3, size=80, crop=67, normalize="mean_image")
    data.setup()
    network, images = AlexNet(3, 3, 67, width=1 / 16), torch.randint(0, 256, (2, 3, 67, 67)).byte()
    expected = network.eval()(data.preprocess(images))
    assert torch.allclose(WithInput(network, data.describe())(images.float()), expected, atol=1e-5)
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    checkpoint = {
        "state_dict": state,
        "data": data.describe(),
        "epoch": 1,
        "config": {"model": {}, "data": {"root": "x"}},
    }
    write_safetensors(checkpoint, tmp_path / "model.safetensors")
    again = read_safetensors(tmp_path / "model.safetensors")
    assert torch.equal(again["data"].pop("mean_image"), data.normalize.mean_image)  # type: ignore[arg-type]
    assert again["data"] == {key: value for key, value in data.describe().items() if key != "mean_image"}
    assert again["state_dict"].keys() == state.keys()
    assert again["config"]["data"] == {}


class Off(nn.Module):
    """Answers one thing while it is exported, and another afterwards."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :10] * (1 if torch.compiler.is_exporting() else 2)


@pytest.mark.parametrize("kind", ["onnx", "torch_export"])
def test_a_file_with_other_answers_is_not_left(
    kind: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alexnet.inference.trained.rebuild", lambda *_: Off().eval())
    with pytest.raises(UserError, match="gives other answers than the network"):
        export(run, kind, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_mistakes(run: Path, exported: Path, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "others.safetensors")
    (tmp_path / "text.safetensors").write_text("text")
    for arguments, message in (
        ([f"{tmp_path}/none", "--format=onnx"], "none: no such run or checkpoint"),
        ([str(run), "--format=onx"], "format=onx: must be one of safetensors, onnx, torch_export. Did you mean onnx?"),
        ([str(run), "--format=onnx", f"--out={exported}"], "model.onnx: exists already; --force replaces it"),
        ([f"{tmp_path}/others.safetensors", "--format=onnx"], "not a checkpoint that can be read safely"),
        ([f"{tmp_path}/text.safetensors", "--format=onnx"], "not a checkpoint that can be read safely"),
    ):
        done = quick("export.py", *arguments, code=1)
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "written" in quick("export.py", str(run), "--format=safetensors", f"--out={exported}", "--force").stdout
