"""The network: backbone, neck, attribute heads, re-weighting, identity classifier.

Section 3 of the course report, after Lin et al., "Improving person re-identification by attribute and identity
learning", Pattern Recognition 2019; the other neck is that of Luo et al., "Bag of tricks and a strong baseline for deep
person re-identification", CVPR workshops 2019. Both support horizontal stripes (Sun et al., "Beyond part models", ECCV
2018).
Legend: B batch, P parts (1, or stripes of the image), C pooled features of a part, U units of a part's neck, D feature,
I identities, A attribute groups, M attribute values in all.
"""

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import torch
import torch.nn as nn
from huggingface_hub import PyTorchModelHubMixin
from safetensors.torch import load_model as load_safetensors
from timm.layers import convert_sync_batchnorm
from torch import Tensor

from reid_accel.attributes.vocabulary import AttributeGroup
from reid_accel.config.checks import in_home
from reid_accel.config.schema import Config
from reid_accel.errors import InputError, first_line
from reid_accel.models.architecture import NO_CAMERAS, Architecture, Cameras
from reid_accel.models.backbone import build_backbone, import_module, normalization, pooled_size, registering_module
from reid_accel.models.camera_embedding import new_camera_embedding, with_cameras
from reid_accel.models.heads import CLASSIFIERS, NECKS, Classifier, Neck
from reid_accel.models.inference import (
    Picture,
    Pictures,
    attribute_names,
    attribute_probabilities,
    outputs_in_batches,
    prepared,
)
from reid_accel.models.model_folder import check_model_name
from reid_accel.models.outputs import Outputs
from reid_accel.models.saved_model import (
    check_size,
    check_weights,
    misfit,
    model_files,
    read_architecture,
    read_model_header,
    warn_of_changes,
    write_config,
)
from reid_accel.models.weights_origin import weights_origin
from reid_accel.weights.finite import require_finite


class ReIDModel(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="reid_accel",
    tags=["person-re-identification", "pedestrian-attributes"],
):
    """Person re-identification with attributes: from images to features and attribute logits.

    f = ReLU(BN(W pool(backbone(image)))), one linear head per attribute group on f, scores a = softmax of
    each head, confidence c = sigmoid(V a + b), a' = c * a, feature = [f, a'] (report, equations 2 and 3). With the neck
    `bn`, f = BN(pool(backbone(image))) (Luo et al. 2019, section 3.6). With stripes, f is the concatenation of the
    necks' outputs, and the input of each part's identity classifier is [f of the part, a']. Identity classifiers are
    used in training only.

    >>> settings = ModelConfig(backbone="resnet10t", neck_units=16, height_px=128, width_px=64)
    >>> model = ReIDModel(Architecture(model=settings, num_identities=3)).eval()
    >>> model.embed([np.zeros((128, 64, 3), np.uint8)]).shape
    torch.Size([1, 16])
    """

    def __init__(self, architecture: Architecture | Mapping[str, Any]) -> None:
        super().__init__()
        if not isinstance(architecture, Architecture):  # from a config.json
            architecture = Architecture.from_json(architecture)
        self.architecture = architecture
        settings, parts, num_values = architecture.model, architecture.num_parts, architecture.num_attribute_values
        self.backbone = build_backbone(settings, registered_by=architecture.backbone_module)
        self.neck: Neck = NECKS[settings.neck](parts, pooled_size(self.backbone), settings.neck_units)
        units = self.neck.out_features
        compared = pooled_size(self.backbone) if settings.neck_feature == "before" else units
        self.attribute_heads = nn.ModuleList(
            nn.Linear(parts * units, len(group.values)) for group in architecture.groups
        )
        self.reweighting = nn.Linear(num_values, num_values) if settings.reweight and num_values else None
        self.feature_size = parts * compared + num_values
        self.identity_classifier: Classifier = CLASSIFIERS[settings.classifier](
            parts, units + num_values, architecture.num_identities, bias=self.neck.classifier_has_bias
        )
        if architecture.keeps_centers:
            size = self.neck.metric_features(self.feature_size)
            self.center_IE = nn.Buffer(torch.zeros(architecture.num_identities, size))
        self.camera_embedding = new_camera_embedding(architecture, pooled_size(self.backbone))
        self.backbone_frozen = False
        self.train()  # frozen statistics are in evaluation mode from the start

    @classmethod
    def from_config(
        cls,
        config: Config,
        groups: Sequence[AttributeGroup],
        num_identities: int,
        backbone_weights: Mapping[str, Tensor] | None = None,
        cameras: Cameras = NO_CAMERAS,
    ) -> "ReIDModel":
        """A new network for a training set's attributes and identities, with heads initialized from the run's seed.

        backbone_weights: initial weights of the backbone (see `backbone.starting_weights`). cameras: to be embedded.
        Raises InputError when the enabled losses would train nothing.
        """
        settings = config.model
        trained = tuple(groups) if settings.attributes and config.loss.attributes > 0 else ()
        if not trained and not config.loss.trains_identities:
            raise InputError(
                "this data has no attributes, and the losses that separate identities are off: nothing would be "
                "trained. Set --loss.identity 1"
            )
        mean, std = normalization(settings.backbone, settings.weights_file)
        origin = weights_origin(settings) if backbone_weights is not None else None
        torch.manual_seed(config.train.seed)
        model = cls(
            Architecture(
                # the path of the weights is specific to this machine
                model=replace(settings, weights_file=None),
                groups=trained,
                num_identities=num_identities,
                keeps_centers=config.loss.center > 0,
                frozen_statistics=config.train.batch_norm == "frozen",
                backbone_module=registering_module(settings.backbone),
                weights=origin.name if origin else None,
                weights_sha256=origin.sha256 if origin else None,
                cameras=cameras,
                mean=mean,
                std=std,
            )
        )
        if config.loss.center and config.loss.center_update == "sgd":
            nn.init.normal_(model.center_IE)
        if backbone_weights is not None:
            model.backbone.load_state_dict(backbone_weights)
        return model

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, name: str | Path, *, map_location: str = "cpu", **of_the_hub: Any
    ) -> "ReIDModel":
        """A saved model, in evaluation mode, from a folder or a hub's `user/name`.

        of_the_hub: `revision`, `token`, `cache_dir`, `force_download` and `local_files_only`, as for every model of the
        hub. Raises InputError for files that are missing, damaged, of another version, or don't belong together,
        before memory is allocated for the network. Pickled weights are never read.
        """
        config_file, weights_file = model_files(str(name), **of_the_hub)
        architecture, header = read_architecture(config_file), read_model_header(weights_file)
        check_size(architecture, header, str(name))
        skeleton = _on_meta_device(architecture)
        if skeleton is not None:
            check_weights(skeleton.state_dict(), header, str(name))
        model = cls(architecture)
        try:
            load_safetensors(model, weights_file, device=map_location)
        except RuntimeError as error:  # torch's list of tensors that don't fit
            raise misfit(str(name), " ".join(str(error).split())) from error
        warn_of_changes(config_file, weights_file)
        require_finite(model.state_dict(), str(name), "give another model with --model")
        return model.eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        super()._save_pretrained(save_directory)
        assert isinstance(self._hub_mixin_config, dict)
        write_config(save_directory, self._hub_mixin_config)

    def train(self, mode: bool = True) -> "ReIDModel":
        """Like torch's, except for frozen statistics and a frozen backbone."""
        super().train(mode)
        if self.backbone_frozen:
            self.backbone.eval()
        if self.architecture.frozen_statistics:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def freeze_backbone(self, frozen: bool) -> None:
        """Freeze or unfreeze the backbone: evaluation mode and no gradient."""
        if frozen != self.backbone_frozen:
            self.backbone_frozen = frozen
            self.train(self.training)

    def forward(self, images_B3HW: Tensor, camera_B: Tensor | None = None) -> Outputs:
        """Normalized float images, B x 3 x H x W, to `Outputs`. camera_B: camera numbers, for a camera embedding."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.backbone_frozen):
            if self.camera_embedding is None:
                pooled_Bn = self.backbone(images_B3HW)
            else:
                pooled_Bn = with_cameras(self.backbone, images_B3HW, self.camera_embedding(camera_B))
        pooled_BPC = pooled_Bn.unflatten(1, (-1, self.architecture.num_parts)).transpose(1, 2)
        neck_BPU = self.neck(pooled_BPC)
        neck_BD = neck_BPU.flatten(1)
        logits = tuple(head(neck_BD) for head in self.attribute_heads)
        # scores and feature in float32: under autocast the heads return 16 bits, too few for ranking
        scores_BM = self.attribute_scores(logits) if logits else neck_BD.new_empty((neck_BD.shape[0], 0)).float()
        reweighted_BM = scores_BM
        if self.reweighting is not None:
            reweighted_BM = torch.sigmoid(self.reweighting(_like(self.reweighting, scores_BM)).float()) * scores_BM
        compared_BPC = pooled_BPC if self.architecture.model.neck_feature == "before" else neck_BPU
        feature_BD = torch.cat([compared_BPC.flatten(1).float(), reweighted_BM], dim=1)
        seen_BPU = torch.cat([neck_BPU.float(), reweighted_BM[:, None].expand(-1, neck_BPU.shape[1], -1)], dim=2)
        return Outputs(
            feature_BD=feature_BD,
            metric_feature_BE=self.neck.metric_feature(pooled_BPC, feature_BD),
            identity_logits_BPI=self.identity_classifier(_like(self.identity_classifier, seen_BPU)),
            attribute_logits=logits,
        )

    def attribute_scores(self, logits: Sequence[Tensor]) -> Tensor:
        """The attribute groups' logits as scores before re-weighting, B x M, float32."""
        if self.architecture.model.attribute_scores == "logits":
            return torch.cat([logit.float() for logit in logits], dim=1)
        return torch.cat([logit.float().softmax(1) for logit in logits], dim=1)

    def prepare(self, images: Sequence[Picture]) -> Tensor:
        """Pictures as the network's normalized input, with the stored preprocessing, in the model's dtype and place."""
        return prepared(images, self.architecture, next(self.parameters()))

    @torch.no_grad()
    def embed(self, images: Pictures, *, batch_size: int = 128, cameras: Sequence[int] | None = None) -> Tensor:
        """Features of one or several images, B x D, float32, also if the model is in 16 or 64 bits.

        images: paths, PIL images, or uint8 arrays or tensors H x W x 3 (RGB), of any size; a single one gives 1 x D, an
        empty list 0 x D. Files and PIL images are read as in training: upright, the first image of several, deep gray
        scaled to its range. batch_size: images per forward pass. cameras: one number per image, for a model with a
        camera embedding (default: unknown). Features have unit length if the model's metric is cosine. Sets the model
        to evaluation mode. Raises InputError for an unreadable image or one without pixels.
        """
        features = [next(self.parameters()).new_empty((0, self.feature_size)).float()]
        batches = outputs_in_batches(self, self.architecture, images, batch_size, cameras)
        features.extend(outputs.feature_BD.float() for outputs in batches)
        return comparable(torch.cat(features), self.architecture.metric)

    def export(self, out: str | Path, **settings: Any) -> Path:
        """Export to the new folder `out`; settings: fields of `config.export.ExportConfig`, e.g. `to=("onnx",)`.

        Raises InputError, and writes nothing, for a file that does not return this model's features.
        """
        exporting = importlib.import_module("reid_accel.export.write")  # the only import of a room above this one
        return Path(exporting.export_to(self, out, settings))

    @overload
    def attributes(
        self, images: Pictures, *, batch_size: int = ..., probabilities: Literal[False] = ...
    ) -> list[dict[str, str]]: ...
    @overload
    def attributes(
        self, images: Pictures, *, batch_size: int = ..., probabilities: Literal[True]
    ) -> list[dict[str, dict[str, float]]]: ...
    @torch.no_grad()
    def attributes(
        self, images: Pictures, *, batch_size: int = 128, probabilities: bool = False
    ) -> list[dict[str, str]] | list[dict[str, dict[str, float]]]:
        """The attributes of each image, e.g. [{"age": "adult", "hat": "no", ...}]; images as for `embed`.

        probabilities: return that of each value instead, e.g. [{"hat": {"no": 0.9, "yes": 0.1}, ...}].
        Raises InputError when the model was trained without attributes. Sets the model to evaluation mode.
        """
        if not self.architecture.groups:
            raise InputError("this model was trained without attributes")
        parts = [
            outputs.attribute_logits for outputs in outputs_in_batches(self, self.architecture, images, batch_size)
        ]
        if not parts:
            return []
        logits = [torch.cat(group) for group in zip(*parts, strict=True)]
        named = attribute_probabilities if probabilities else attribute_names
        return named(logits, self.architecture.groups)


def _like(layer: nn.Module, features: Tensor) -> Tensor:
    """Features in the dtype of a layer's weights, for models in 16 or 64 bits."""
    return features.to(next(layer.parameters()).dtype)


def comparable(feature_BD: Tensor, metric: str) -> Tensor:
    """Features as retrieval compares them: unit length for cosine, unchanged for euclidean."""
    return nn.functional.normalize(feature_BD, dim=1) if metric == "cosine" else feature_BD


def load_model(name: str | Path, module: str | None = None) -> ReIDModel:
    """`ReIDModel.from_pretrained` of a folder or a hub's user/name; raises InputError when it can't be loaded.

    module: a Python module to import first, which registers the model's backbone with timm.
    """
    if module is not None:
        import_module(module)
    name = in_home(str(name))
    check_model_name(name)
    return ReIDModel.from_pretrained(name)


def _on_meta_device(architecture: Architecture) -> ReIDModel | None:
    """The network without memory for weights; None for a user's own backbone that can't be built like this.

    Raises InputError for an architecture that can't be built at all.
    """
    try:
        with torch.device("meta"):
            return ReIDModel(architecture)
    except InputError:
        raise
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError) as error:
        if architecture.backbone_module is not None:
            return None
        raise InputError(
            f"the model's config.json describes a network that cannot be built ({first_line(error)}): copy the model "
            "again, or train it again"
        ) from error


def on_device(model: ReIDModel, device: torch.device) -> ReIDModel:
    """The model on a device, in the fastest memory format for convolutions."""
    model.to(device)
    return model.to(memory_format=torch.channels_last)


def synchronized(model: ReIDModel) -> ReIDModel:
    """The model with synchronized batch norm; for GPUs.

    Converted by timm, since torch's conversion drops the activations inside timm's batch norms.
    """
    converted = convert_sync_batchnorm(model)
    assert isinstance(converted, ReIDModel)
    return converted


def model_fingerprint(model: ReIDModel) -> str:
    """A hash of architecture and weights."""
    digest = hashlib.sha256(repr(model.architecture).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
