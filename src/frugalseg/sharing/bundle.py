"""A MONAI bundle around the exported network: configuration, metadata, scripts and a page that describes them."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

from frugalseg.engine.files import atomic_write, write_json
from frugalseg.models.registry import input_channels
from frugalseg.records.recipe import ExportRecipe
from frugalseg.sharing import processing

BUNDLE_MODEL, BUNDLE_RECIPE = "models/model.ts", "configs/recipe.json"
SCRIPT = Path(__file__).parent / "standalone" / "whole_scan.py"

INFERENCE: dict[str, object] = {
    "imports": ["$import glob", "$import torch", "$from scripts.whole_scan import segment_all"],
    "bundle_root": ".",
    "dataset_dir": "$@bundle_root + '/scans'",
    "output_dir": "$@bundle_root + '/masks'",
    "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
    "data": "$[{'image': scan} for scan in sorted(glob.glob(@dataset_dir + '/*.nii*'))]",
    "network_def": f"$torch.jit.load(@bundle_root + '/{BUNDLE_MODEL}', map_location=@device).eval()",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "LPS"},
        ],
    },
    "inferer": {"_target_": "scripts.whole_scan.WholeScanInferer", "recipe": f"$@bundle_root + '/{BUNDLE_RECIPE}'"},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "nearest_interp": True,
                "to_tensor": True,
            },
            {
                "_target_": "SaveImaged",
                "keys": "pred",
                "output_dir": "@output_dir",
                "output_postfix": "",
                "separate_folder": False,
                "resample": False,
                "output_dtype": "$__import__('numpy').uint8",
            },
        ],
    },
    "run": ["$segment_all(@data, @preprocessing, @inferer, @network_def, @postprocessing)"],
}
"""configs/inference.json."""


def write_bundle(folder: Path, recipe: ExportRecipe) -> None:
    """Write all of a bundle but the network and recipe.json."""
    for part in ("configs", "docs", "scripts"):
        (folder / part).mkdir(exist_ok=True)
    write_json(folder / "configs" / "inference.json", INFERENCE)
    write_json(folder / "configs" / "metadata.json", _describe(recipe))
    (folder / "scripts" / "__init__.py").touch()
    shutil.copyfile(Path(processing.__file__), folder / "scripts" / "processing.py")
    shutil.copyfile(SCRIPT, folder / "scripts" / SCRIPT.name)
    with atomic_write(folder / "docs" / "README.md", "w") as file:
        file.write(_PAGE.format(organs=", ".join(recipe.organs), version=recipe.version))


def _describe(recipe: ExportRecipe) -> dict[str, object]:
    """metadata.json, as MONAI's schema of bundles names its keys."""
    organs = ", ".join(recipe.organs)
    modality = "CT" if recipe.intensity.kind == "ct" else "MR"
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by frugalseg {recipe.version}"},
        "monai_version": "1.5.0",
        "pytorch_version": metadata.version("torch").partition("+")[0],
        "numpy_version": metadata.version("numpy"),
        "required_packages_version": {"nibabel": metadata.version("nibabel"), "scipy": metadata.version("scipy")},
        "name": f"{organs} in {modality}",
        "task": f"segmentation of {organs}",
        "description": f"Slice by slice segmentation of {organs} in {modality}, trained and exported by frugalseg",
        "authors": "",
        "copyright": "",
        "intended_use": "For research only. Not a medical device.",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude" if recipe.intensity.kind == "mr" else "hounsfield",
                    "modality": modality,
                    "num_channels": input_channels(recipe.context),
                    "spatial_shape": [recipe.size, recipe.size],
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": False,
                    "channel_def": {
                        str(i): f"slice {i - recipe.context:+d}" for i in range(input_channels(recipe.context))
                    },
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": 1 + len(recipe.organs),
                    "spatial_shape": [recipe.size, recipe.size],
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": False,
                    "channel_def": {str(i): name for i, name in enumerate(["background", *recipe.organs])},
                }
            },
        },
    }


_PAGE = """# Segmentation of {organs}

A MONAI bundle, exported by frugalseg {version}. For research use only: not a medical device.

```
python -m monai.bundle run --bundle_root . --config_file configs/inference.json --dataset_dir scans --output_dir masks
```

segments every NIfTI scan in `scans`. `configs/recipe.json` states in words and numbers what happens before and after
the network, and how far it was compared with the original; `scripts/` does it. Needs monai, torch, nibabel, NumPy and
SciPy.
"""
