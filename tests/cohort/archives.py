"""Trees of files named as public archives name them, a few voxels large."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from dicom_files import write_seg, write_series

Array = np.ndarray[Any, Any]
SIZE = (6, 12, 12)
SPACING = (2.0, 1.0, 1.0)
A, B, C = (slice(1, 3), slice(1, 4), slice(1, 4)), (slice(3, 5), slice(7, 10), slice(2, 5)), (slice(4, 5),) * 3
"""Three places that do not touch; A is below B and C."""


def mask(*places: tuple[slice, slice, slice], value: int = 1, of: Array | None = None) -> Array:
    array = np.zeros(SIZE, np.uint8) if of is None else of.copy()
    for place in places:
        array[place] = value
    return array


def nifti(path: Path, array: Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING[::-1])
    sitk.WriteImage(image, str(path))
    return path


def ct() -> Array:
    return np.random.default_rng(1).integers(0, 120, SIZE).astype(np.int16)


def worc(root: Path) -> Path:
    for patient, files in {
        "CRLM-001": {"lesion0_RAD": A, "lesion0_CNN": A, "lesion1_RAD": B, "lesion1_PhD": C},
        "CRLM-002": {"lesion0_STUD1": A, "lesion0_STUD2": A},
    }.items():
        nifti(root / patient / "image.nii.gz", ct())
        for name, place in files.items():
            nifti(root / patient / f"segmentation_{name}.nii.gz", mask(place))
    (root / "CRLM-003").mkdir()
    (root / "pinfo_CRLM.csv").write_text("Patient,Diagnosis\nCRLM-001,1\nCRLM-002,0\nCRLM-009,1\n")
    return root


def lits(root: Path) -> Path:
    liver = mask((slice(0, 6), slice(0, 11), slice(0, 11)))
    for number, places in {0: (A, B), 2: (B,), 10: ()}.items():
        folder = root / ("Training_Batch1" if number < 5 else "Training_Batch2")
        nifti(folder / f"volume-{number}.nii", ct())
        nifti(folder / f"segmentation-{number}.nii", mask(*places, value=2, of=liver))
    nifti(root / "Training_Batch2" / "volume-11.nii", ct())
    return root


def msd(root: Path, *, vessel: bool = False) -> Path:
    names = ("hepaticvessel", "Vessel", "Tumour") if vessel else ("liver", "liver", "cancer")
    other = mask((slice(0, 6), slice(0, 11), slice(0, 11)))
    cases = []
    for number, places in {1: (B, A), 0: (C,)}.items():
        file = f"{names[0]}_{number}.nii.gz"
        nifti(root / "imagesTr" / file, ct())
        nifti(root / "labelsTr" / file, mask(*places, value=2, of=other))
        cases.append({"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"})
    labels = {"0": "background", "1": names[1], "2": names[2]}
    (root / "dataset.json").write_text(json.dumps({"name": "x", "labels": labels, "training": cases, "test": []}))
    return root


def tcia_crlm(root: Path) -> Path:
    for patient, remnant in (("CRLM-CT-1001", "Liver Remnant"), ("CRLM-CT-1002", "Liver_Remnant")):
        study = root / patient / "09-12-1992-NA-CT ANGIO LIVER WITH CON-64155"
        write_series(study / "101.000000-NA-70343", ct(), SPACING)
        names = {"Liver": A, remnant: B, "Hepatic": C, "Portal": C, "Tumor_1": A, "Tumor_2": B}
        segments = {name: mask(place) > 0 for name, place in names.items()}
        write_seg(study / "100.000000-Segmentation-98.34" / "1-1.dcm", study / "101.000000-NA-70343", segments)
    sheet = (
        "Patient-ID,De-identify Scout Name,age,carcinoembryonic_antigen,chemo_before_liver_resection\n"
        "CRLM-CT-1001,CRLM-CT-1001,61,999.00,1\nCRLM-CT-1002,CRLM-CT-1002,999,4.5,0\n"
    )
    (root / "Colorectal-Liver-Metastases-Clinical-data-April-2023.csv").write_text(sheet)
    return root


def hcc_tace(root: Path) -> Path:
    study = root / "HCC_001" / "04-21-2000-NA-CT ABDPEL WF-49771"
    write_series(study / "2.000000-Recon 2 LIVER 3 PHASE-18688", ct(), SPACING)
    write_series(study / "4.000000-Recon 2 LIVER 3 PHASE-44804", ct(), SPACING)
    names = {"Liver": (A, B), "Mass": (B, A), "Portal vein": (C,), "Abdominal aorta": (C,)}
    segments = {name: mask(*places) > 0 for name, places in names.items()}
    write_seg(
        study / "300.000000-Segmentation-45632" / "1-1.dcm", study / "4.000000-Recon 2 LIVER 3 PHASE-44804", segments
    )
    return root


def folder(root: Path) -> Path:
    for patient, places in {"P_one": (A,), "P_two": (A, B)}.items():
        nifti(root / patient / "ct.nii.gz", ct())
        nifti(root / patient / "liver.nii.gz", mask((slice(0, 6), slice(0, 11), slice(0, 11))))
        for number, place in enumerate(places, start=1):
            nifti(root / patient / f"seg_{number}_RAD.nii.gz", mask(place))
    return root


def nnunet(root: Path) -> Path:
    liver = mask((slice(0, 6), slice(0, 11), slice(0, 11)))
    for number, places in {1: (B, A), 2: (C,)}.items():
        nifti(root / "imagesTr" / f"crlm_{number:03d}_0000.nii.gz", ct())
        nifti(root / "labelsTr" / f"crlm_{number:03d}.nii.gz", mask(*places, value=2, of=liver))
    nifti(root / "imagesTs" / "crlm_009_0000.nii.gz", ct())
    for number, places in {1: (A,), 9: (B, C)}.items():
        nifti(root / "predictions" / f"crlm_{number:03d}.nii.gz", mask(*places, value=2, of=liver))
    write_dataset(root)
    (root / "predictions" / "plans.json").write_text("{}")
    return root


def write_dataset(root: Path, **changed: Any) -> None:
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "tumour": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content | changed))


def totalsegmentator(root: Path) -> Path:
    liver = mask((slice(0, 6), slice(0, 11), slice(0, 11)))
    nifti(root / "s01" / "ct.nii.gz", ct())
    for name, array in {"liver": liver, "liver_lesions": mask(A, B), "spleen": mask(C)}.items():
        nifti(root / "s01" / "segmentations" / f"{name}.nii.gz", array)
    # As with --ml: one file, the names of its classes behind the header.
    nifti(root / "s02" / "scan.nii.gz", ct())
    path = nifti(root / "s02" / "seg.nii.gz", mask(C, value=7, of=5 * liver))
    name_classes(path, {"spleen": 1, "liver": 5, "liver_tumor": 7})
    write_series(root / "s03" / "dicom", ct(), SPACING)
    for name, array in {"liver": liver, "liver_lesions": mask(A)}.items():
        nifti(root / "s03" / "out" / f"{name}.nii.gz", array)
    nifti(root / "s04" / "ct.nii.gz", ct())
    nifti(root / "s04" / "segmentations" / "liver.nii.gz", liver)
    return root


def name_classes(path: Path, values: dict[str, int]) -> None:
    """Write a NIfTI file anew with the extension that TotalSegmentator adds, a table of labels in XML."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    labels = "".join(
        f'<Label Key="{value}" Red="0.0" Green="1.0" Blue="0.0" Alpha="1"><![CDATA[{name}]]></Label>\n'
        for name, value in values.items()
    )
    text = f'<?xml version="1.0" encoding="UTF-8"?> <CaretExtension><LabelTable>\n{labels}</LabelTable>'.encode()
    extension = struct.pack("<2i", len(text) + 8 + -len(text) % 16 + 8, 0) + text + bytes(-len(text) % 16 + 8)
    content[348] = 1
    struct.pack_into("<f", content, 108, 352 + len(extension))
    path.write_bytes(gzip.compress(bytes(content[:352]) + extension + bytes(content[352:])))


TREES = {
    "folder": folder,
    "worc": worc,
    "tcia-crlm": tcia_crlm,
    "hcc-tace": hcc_tace,
    "msd": msd,
    "lits": lits,
    "nnunet": nnunet,
    "totalsegmentator": totalsegmentator,
}
FOLDER = ("ct.nii.gz", "seg_{lesion}_{rater}.nii.gz", "liver.nii.gz")
"""What the layout `folder` is told of its tree: image, masks, liver."""
