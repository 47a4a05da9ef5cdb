"""The label maps of TotalSegmentator's data sets, from its version 2.18 (Wasserthal et al., Apache-2.0)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.support.models.tiny_nnunet import TinyModel, write_tiny

LABELS: Final = {
    "Dataset291_TotalSegmentator_part1_organs_1559subj": """
        spleen kidney_right kidney_left gallbladder
        liver stomach pancreas adrenal_gland_right
        adrenal_gland_left lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right
        lung_middle_lobe_right lung_lower_lobe_right esophagus trachea
        thyroid_gland small_bowel duodenum colon
        urinary_bladder prostate kidney_cyst_left kidney_cyst_right
    """,
    "Dataset292_TotalSegmentator_part2_vertebrae_1532subj": """
        sacrum vertebrae_S1 vertebrae_L5 vertebrae_L4
        vertebrae_L3 vertebrae_L2 vertebrae_L1 vertebrae_T12
        vertebrae_T11 vertebrae_T10 vertebrae_T9 vertebrae_T8
        vertebrae_T7 vertebrae_T6 vertebrae_T5 vertebrae_T4
        vertebrae_T3 vertebrae_T2 vertebrae_T1 vertebrae_C7
        vertebrae_C6 vertebrae_C5 vertebrae_C4 vertebrae_C3
        vertebrae_C2 vertebrae_C1
    """,
    "Dataset293_TotalSegmentator_part3_cardiac_1559subj": """
        heart aorta pulmonary_vein brachiocephalic_trunk
        subclavian_artery_right subclavian_artery_left common_carotid_artery_right common_carotid_artery_left
        brachiocephalic_vein_left brachiocephalic_vein_right atrial_appendage_left superior_vena_cava
        inferior_vena_cava portal_vein_and_splenic_vein iliac_artery_left iliac_artery_right
        iliac_vena_left iliac_vena_right
    """,
    "Dataset294_TotalSegmentator_part4_muscles_1559subj": """
        humerus_left humerus_right scapula_left scapula_right
        clavicula_left clavicula_right femur_left femur_right
        hip_left hip_right spinal_cord gluteus_maximus_left
        gluteus_maximus_right gluteus_medius_left gluteus_medius_right gluteus_minimus_left
        gluteus_minimus_right autochthon_left autochthon_right iliopsoas_left
        iliopsoas_right brain skull
    """,
    "Dataset295_TotalSegmentator_part5_ribs_1559subj": """
        rib_left_1 rib_left_2 rib_left_3 rib_left_4
        rib_left_5 rib_left_6 rib_left_7 rib_left_8
        rib_left_9 rib_left_10 rib_left_11 rib_left_12
        rib_right_1 rib_right_2 rib_right_3 rib_right_4
        rib_right_5 rib_right_6 rib_right_7 rib_right_8
        rib_right_9 rib_right_10 rib_right_11 rib_right_12
        sternum costal_cartilages
    """,
    "Dataset297_TotalSegmentator_total_3mm_1559subj": """
        spleen kidney_right kidney_left gallbladder
        liver stomach pancreas adrenal_gland_right
        adrenal_gland_left lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right
        lung_middle_lobe_right lung_lower_lobe_right esophagus trachea
        thyroid_gland small_bowel duodenum colon
        urinary_bladder prostate kidney_cyst_left kidney_cyst_right
        sacrum vertebrae_S1 vertebrae_L5 vertebrae_L4
        vertebrae_L3 vertebrae_L2 vertebrae_L1 vertebrae_T12
        vertebrae_T11 vertebrae_T10 vertebrae_T9 vertebrae_T8
        vertebrae_T7 vertebrae_T6 vertebrae_T5 vertebrae_T4
        vertebrae_T3 vertebrae_T2 vertebrae_T1 vertebrae_C7
        vertebrae_C6 vertebrae_C5 vertebrae_C4 vertebrae_C3
        vertebrae_C2 vertebrae_C1 heart aorta
        pulmonary_vein brachiocephalic_trunk subclavian_artery_right subclavian_artery_left
        common_carotid_artery_right common_carotid_artery_left brachiocephalic_vein_left
        brachiocephalic_vein_right
        atrial_appendage_left superior_vena_cava inferior_vena_cava portal_vein_and_splenic_vein
        iliac_artery_left iliac_artery_right iliac_vena_left iliac_vena_right
        humerus_left humerus_right scapula_left scapula_right
        clavicula_left clavicula_right femur_left femur_right
        hip_left hip_right spinal_cord gluteus_maximus_left
        gluteus_maximus_right gluteus_medius_left gluteus_medius_right gluteus_minimus_left
        gluteus_minimus_right autochthon_left autochthon_right iliopsoas_left
        iliopsoas_right brain skull rib_left_1
        rib_left_2 rib_left_3 rib_left_4 rib_left_5
        rib_left_6 rib_left_7 rib_left_8 rib_left_9
        rib_left_10 rib_left_11 rib_left_12 rib_right_1
        rib_right_2 rib_right_3 rib_right_4 rib_right_5
        rib_right_6 rib_right_7 rib_right_8 rib_right_9
        rib_right_10 rib_right_11 rib_right_12 sternum
        costal_cartilages
    """,
    "Dataset775_head_glands_cavities_492subj": """
        eye_left eye_right eye_lens_left eye_lens_right
        optic_nerve_left optic_nerve_right parotid_gland_left parotid_gland_right
        submandibular_gland_right submandibular_gland_left nasopharynx oropharynx
        hypopharynx nasal_cavity_right nasal_cavity_left auditory_canal_right
        auditory_canal_left soft_palate hard_palate
    """,
}
"""The names of the labels of a data set from 1 on, separated by space."""


def write_totalsegmentator(results: Path, datasets: tuple[int, ...]) -> Path:
    """Small networks with random weights in the layout, and with the label maps, of TotalSegmentator.

    The folder of its weights is returned. As in the original, the plans of one data set may name mirroring.
    """
    for name, text in LABELS.items():
        number = int(name[len("Dataset") :].split("_")[0])
        if number not in datasets:
            continue
        labels: dict[str, int | list[int]] = {label: n for n, label in enumerate(text.split(), start=1)}
        fast = "3mm" in name
        model = TinyModel(
            labels=labels,
            dataset_name=name,
            spacing_mm=(3.0, 3.0, 3.0) if fast else (1.5, 1.5, 1.5),
            seed=number,
        )
        trainer = "nnUNetTrainer_4000epochs_NoMirroring" if fast else "nnUNetTrainerNoMirroring"
        folder = write_tiny(results, model)
        folder.rename(folder.with_name(f"{trainer}__nnUNetPlans__3d_fullres"))
    return results
