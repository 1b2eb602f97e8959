"""Make the two environments in which the readers' own libraries run: `python tests/readers/make_environment.py`.

featureflow needs none of these libraries, and they do not go with each other: mosaicml-streaming and litdata pull a
CUDA build of torchvision that they hardly use, and TensorFlow wants its own protobuf. So they live in two virtual
environments beside featureflow's: `torch` and `tensorflow`. About 3 GB on disk.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path

#: what featureflow's own loaders import, to be tested inside PyTorch, TensorFlow and JAX
LOADERS = [
    "numba",
    "pyarrow==26.0.1",
    "polars==2.1.0",
    "pandas",
    "xxhash",
    "fsspec",
    "pydantic>=2.10",
    "pyyaml",
]

#: what each environment holds: steps of `pip install`
STEPS: dict[str, list[list[str]]] = {
    "torch": [
        [
            "torch==2.13.0",
            "numpy==2.4.*",
            "webdataset==1.0.2",
            "wids",
            "tfrecord==1.14.6",
            "crc32c",
            "datasets==5.0.1",
            *LOADERS,
        ],
        # what the next two import of their own dependencies; the rest is clouds and a CUDA build of torchvision
        ["transformers", "Brotli", "python-snappy", "zstd", "pillow", "catalogue", "lightning-utilities"],
        ["boto3", "requests", "tqdm", "filelock", "fsspec", "cryptography", "tifffile"],
        ["--no-deps", "mosaicml-streaming==0.13.0", "litdata==0.2.76"],
    ],
    "tensorflow": [["tensorflow-cpu==2.21.0", "jax==0.10.2", *LOADERS]],
}

#: both libraries import torchvision, for pictures that nobody here has
TORCHVISION = {
    "__init__.py": "from torchvision import datasets, transforms\n__version__ = '0.0.stub'\n",
    "datasets.py": "class VisionDataset: ...\n\n\nclass CIFAR10(VisionDataset): ...\n",
    "transforms/__init__.py": "from torchvision.transforms import functional\n",
    "transforms/functional.py": "def to_tensor(picture): raise NotImplementedError\n",
}


def default_root() -> Path:
    """Where the environments are: `FEATUREFLOW_READERS`, or the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(os.environ.get("FEATUREFLOW_READERS") or os.path.join(cache, "featureflow", "readers"))


def make(root: Path, name: str, options: list[str]) -> None:
    """Make one environment; one that is whole already is left alone."""
    folder = root / name
    done = folder / "complete"
    if done.exists():
        print(f"{folder} is there already; remove it to make it anew.")
        return
    venv.create(folder, with_pip=True, clear=True)
    for step in STEPS[name]:
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *options, *step]
        print(" ".join(command), flush=True)
        subprocess.run(command, check=True)
    if name == "torch":
        (site,) = (folder / "lib").glob("python*/site-packages")
        for path, text in TORCHVISION.items():
            target = site / "torchvision" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    done.touch()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", nargs="?", type=Path, default=default_root())
    parser.add_argument("--only", choices=tuple(STEPS), help="one of the two")
    parser.add_argument("--pip", nargs=argparse.REMAINDER, default=[], help="options for every `pip install`")
    options = parser.parse_args()
    for name in [options.only] if options.only else list(STEPS):
        make(options.root.absolute(), name, options.pip)
    print(f"Run `FEATUREFLOW_READERS={options.root} {sys.executable} -m pytest -m readers tests/readers`.")


if __name__ == "__main__":
    main()
