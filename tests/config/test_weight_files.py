"""Files of weights that a config names."""

import pytest
from support import error_of

from faultline.config.trainings import Training, check_weights


def check(file) -> str:
    training = Training.model_validate({"epochs": [0], "weights": {"net": str(file)}})
    return error_of(check_weights, {"given": training}, ["net"], results="results")


@pytest.mark.parametrize("name", ["net.onnx", "net.h5", "net.npz", "net.gguf", "net.json"])
def test_what_is_no_file_of_pytorch(name, tmp_path):
    (tmp_path / name).touch()
    message = check(tmp_path / name)
    assert "config key trainings.given.weights.net" in message
    assert "is no file of PyTorch weights" in message and "torch.save(" in message


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "pytorch_model.bin", ""])
def test_a_folder_of_hugging_face(name, tmp_path):
    if name:
        (tmp_path / name).touch()
    assert f"is a folder; name {tmp_path / name if name else 'a file of'}" in check(tmp_path)


@pytest.mark.parametrize("name", ["a.pt", "a.pth.tar", "a.ckpt", "a.bin", "a.index.json"])
def test_files_of_weights(name, tmp_path):
    assert f"no such file: {tmp_path / name}" in check(tmp_path / name)
    (tmp_path / name).touch()
    given = Training.model_validate({"epochs": [0], "weights": {"net": str(tmp_path / name)}})
    check_weights({"given": given}, ["net"], results="results")
