"""Per-case results are read back as written, bad files are refused, and the tables agree with the results."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orgseg_node.core.metrics import Comparison, Status, compare
from orgseg_node.core.metrics.comparison import NOT_LABELLED
from orgseg_node.errors import CasesInvalid, ConfigError, EvaluationError
from orgseg_training.evaluation.plots import write_box_plots
from orgseg_training.evaluation.published_results import inconsistencies, jaccard_bound, read_published
from orgseg_training.evaluation.results import CaseScore, read_cases, write_cases
from orgseg_training.evaluation.table_formats import Table
from orgseg_training.evaluation.tables import all_tables, cost_table
from orgseg_training.shipped import training_config

PRINTED = training_config("study/printed.csv")


def score(
    case: str, dsc: float, *, model: str = "strategy-1", status: Status = Status.OK, **more: object
) -> CaseScore:
    values = {"dsc": dsc, "jaccard": dsc / (2 - dsc), "hd95_mm": math.nan if dsc == 0 else 10 * (1 - dsc)}
    facts = {"subset": "1", "organ": "liver", "group": case, "db": "made", "child": None} | more
    return CaseScore(model=model, case=case, comparison=Comparison(status=status, **values), **facts)  # type: ignore[arg-type]


def cells(scores: list[CaseScore], name: str) -> list[dict[str, str]]:
    table = next(t for t in all_tables(scores, read_published(PRINTED)) if t.name == name)
    return list(csv.DictReader(table.as_csv().splitlines()))


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    mask = np.zeros((9, 9, 9), bool)
    mask[2:6, 2:6, 2:6] = True
    comparisons = [
        compare(mask, np.roll(mask, 1, 0), (3, 1, 1)),
        compare(mask, mask & False, (3, 1, 1)),
        NOT_LABELLED,
    ]
    scores = [
        CaseScore(
            model="m", subset="1", case=str(n), organ="liver", group="g", db="", child=child, comparison=one
        )
        for n, (one, child) in enumerate(zip(comparisons, (True, False, None), strict=True))
    ]
    write_cases(scores, tmp_path / "out" / "cases.parquet")
    found = read_cases(tmp_path / "out" / "cases.parquet")
    assert [repr(s) for s in found] == [repr(s) for s in scores], "NaN for NaN"
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["cases.parquet"]


def test_a_file_that_is_none_or_has_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cases.parquet"
    with pytest.raises(CasesInvalid, match="cannot be read"):
        read_cases(path)
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(CasesInvalid, match="cannot be read"):
        read_cases(path)
    pq.write_table(pa.table({"case": ["a"]}), path)
    with pytest.raises(CasesInvalid, match="columns"):
        read_cases(path)


def test_a_status_that_is_none_and_a_case_that_is_there_twice_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cases.parquet"
    write_cases([score("a", 0.9)], path)
    table = pq.read_table(path)
    column = table.schema.get_field_index("status")
    wrong = table.set_column(column, table.schema.field(column), pa.array(["perhaps"]))
    pq.write_table(wrong, path)
    with pytest.raises(CasesInvalid, match="value"):
        read_cases(path)
    write_cases([score("a", 0.9), score("a", 0.8)], path)
    with pytest.raises(CasesInvalid, match="twice"):
        read_cases(path)


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "cases.parquet"
    path.mkdir()
    (path / "keep").touch()
    with pytest.raises(EvaluationError, match="cannot be written"):
        write_cases([score("a", 0.9)], path)
    assert [p.name for p in tmp_path.iterdir()] == ["cases.parquet"]


def test_means_count_misses_as_zero_and_leave_false_findings_out() -> None:
    scores = [score("a", 0.9), score("b", 0.7), score("c", 0.0, status=Status.PRED_EMPTY)]
    scores += [score("d", math.nan, status=Status.REF_EMPTY), score("e", math.nan, status=Status.BOTH_EMPTY)]
    scores += [score("f", math.nan, status=Status.NOT_LABELLED)]
    row = next(r for r in cells(scores, "table_2") if r["organ"] == "liver")
    assert (row["n"], row["missed"]) == ("3", "1")
    assert row["DSC"] == f"{1.6 / 3:.3f} ± {np.std([0.9, 0.7, 0], ddof=1):.3f}"
    assert row["HD95 mm"].startswith("2.000"), "of the two that were found"
    false = cells(scores, "false_findings")[0]
    assert (false["false findings"], false["correctly nothing"]) == ("1", "1")


def test_models_are_compared_on_the_same_cases_only() -> None:
    scores = [score(str(n), 0.8) for n in range(10)]
    scores += [score(str(n), 0.8 + 0.001 * n, model="strategy-2") for n in range(3, 12)]
    row = cells(scores, "models_dsc")[0]
    assert (row["first"], row["second"], row["pairs"]) == ("strategy-1", "strategy-2", "7")
    assert row["difference"] == "+0.006"
    assert row["p"] == f"{2 / 2**7:.3f}"
    few = cells([s for s in scores if int(s.case) < 8], "models_dsc")[0]
    assert (few["pairs"], few["p"], few["p Holm"]) == ("5", "too few", "too few")


def test_children_stand_beside_adults_and_unknown_ages_in_neither() -> None:
    scores = [score(f"a{n}", 0.9 + 0.001 * n, child=False) for n in range(8)]
    scores += [score(f"c{n}", 0.7 + 0.001 * n, child=True) for n in range(8)] + [score("x", 0.1)]
    row = cells(scores, "adults_children")[0]
    assert (row["adults"], row["children"]) == ("8", "8")
    assert row["p"] == "< 0.001"


def test_the_study_s_values_stand_beside_ours_and_the_wrong_ones_are_marked() -> None:
    ours = [score("a", 0.9, subset="3", organ="aorta")]
    rows = {r["model"]: r for r in cells(ours, "table_3") if r["organ"] == "aorta"}
    assert (rows["authors"]["study DSC"], rows["authors"]["study J"]) == ("0.844*", "0.665*")
    assert (rows["strategy-1"]["DSC"], rows["strategy-1"]["study DSC"]) == ("0.900", "")
    first = next(r for r in cells([], "table_1") if r["organ"] == "adrenal_glands")
    assert (first["study DSC"], first["DSC"]) == ("0.804 ± 0.094", "")


def test_the_study_s_inconsistent_rows_are_found_by_computation() -> None:
    found = {(i.row.subset, i.row.organ): i.reason for i in inconsistencies(read_published(PRINTED))}
    assert set(found) == {("3", "aorta"), ("2", "gall_bladder"), ("", "adrenal_glands")}
    assert "at least 0.730" in found["3", "aorta"]
    assert "equal to liver" in found["2", "gall_bladder"]
    assert jaccard_bound(0.844) == pytest.approx(0.730, abs=0.0005)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("0.9,0.05,0.82,0.1,1,5,3", ""),
        ("0.9,0.05,0.95,0.1,1,5,3", "above mean D"),
        ("0.9,0.05,0.80,0.1,1,5,3", "at least"),
        ("0.9,0.45,0.82,0.1,1,5,3", "standard deviation"),
        ("0.9,0.05,0.82,0.1,1,2,3", "largest distance"),
        ("1.2,,,,,,", "outside"),
    ],
)
def test_each_rule_of_consistency(tmp_path: Path, values: str, reason: str) -> None:
    path = tmp_path / "printed.csv"
    head = next(line for line in PRINTED.read_text().splitlines() if line.startswith("table,"))
    path.write_text(f"{head}\n3,2,strategy-1,liver,65,{values},made\n")
    found = inconsistencies(read_published(path))
    assert [reason in one.reason for one in found] == ([True] if reason else [])


def test_printed_values_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "printed.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="columns"):
        read_published(path)
    path.write_text(PRINTED.read_text() + "1,cv,strategy-1,liver,many,,,,,,,,made\n")
    with pytest.raises(ConfigError, match="printed values"):
        read_published(path)


def test_cost_of_the_full_study() -> None:
    rows = list(csv.DictReader(cost_table(training_config("study/cost.csv")).as_csv().splitlines()))
    assert (rows[0]["jobs"], rows[0]["hours"]) == ("130", "2340")
    assert rows[-1]["hours"] == "2730"


def test_every_format_escapes_what_it_must(tmp_path: Path) -> None:
    table = Table(name="t", title="A & B", note="100 %", columns=("a_b", "<c>"), rows=(("1 ± 2, 3", "x"),))
    csv_file, html_file, latex_file = table.write(tmp_path)
    assert csv_file.read_text() == 'a_b,<c>\n"1 ± 2, 3",x\n'
    assert "<th>&lt;c&gt;</th>" in html_file.read_text()
    assert r"a\_b & $<$c$>$ \\" in latex_file.read_text()
    assert r"1 $\pm$ 2, 3 & x" in latex_file.read_text()
    with pytest.raises(ValueError, match="another number of cells"):
        Table(name="t", title="", note="", columns=("a",), rows=(("1", "2"),))


def test_box_plots_are_drawn_for_each_subset_and_metric(tmp_path: Path) -> None:
    scores = [score(str(n), 0.8 + 0.01 * n) for n in range(6)] + [score("z", 0.0, status=Status.PRED_EMPTY)]
    paths = write_box_plots(scores, tmp_path)
    assert [p.name for p in paths] == ["boxes_1_dsc.png", "boxes_1_hd95_mm.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in paths)
