from __future__ import annotations

import json
from dataclasses import replace

import pytest

from featureflow.observe.report import RunReport, StageReport, TableOutcome
from featureflow.observe.terminal import text_width


@pytest.fixture
def report() -> RunReport:
    return RunReport(
        build_id="20261123T061742-ab12cd34",
        project="fraud",
        started="2026-11-23T06:17:42.123456+00:00",
        seconds=73.21,
        engine_version="0.1.0",
        status="done",
        tables=[
            TableOutcome("card_spend", "new data", "3 new slices", 8, 7, 20_880_000, 880_000, 32, 640, 4),
            TableOutcome("merchant_stats", "unchanged", "version 3 has it all", None, 3, 5000),
            TableOutcome(
                "risk",
                "new",
                "no version yet",
                1,
                None,
                10,
                10,
                1,
                0,
                1,
                [
                    {"label": "features.risk.checks[0]", "passed": True, "message": "fine"},
                    {
                        "label": "features.risk.checks[1]",
                        "passed": False,
                        "message": "3 rows are <null>",
                        "on_fail": "warn",
                    },
                ],
            ),
        ],
        stages=[StageReport("card_spend: compute", 16, 2, 880_000, 10, 90_000_000, 5.1)],
        warnings=["source transactions: 3 rows have no time"],
        dashboard="http://127.0.0.1:8787/status",
    )


def test_json_round_trip(report: RunReport) -> None:
    assert RunReport.from_json(report.to_json()) == report
    assert json.loads(report.to_json())["schema_version"] == 1


def test_entries_of_a_later_featureflow_are_passed_over(report: RunReport) -> None:
    given = json.loads(report.to_json())
    given["carbon"] = 1
    given["tables"][0]["mood"] = "good"
    given["stages"][0]["joules"] = 3
    assert RunReport.from_json(json.dumps(given)) == report


@pytest.mark.parametrize("version", [2, None, "1"])
def test_another_form_is_refused(report: RunReport, version: object) -> None:
    given = json.loads(report.to_json()) | {"schema_version": version}
    with pytest.raises(ValueError, match="schema_version"):
        RunReport.from_json(json.dumps(given))


@pytest.mark.parametrize("limit", [80, 120])
def test_the_summary_fits_and_says_what_happened(report: RunReport, limit: int) -> None:
    text = report.text(limit=limit)
    assert all(text_width(line) <= limit for line in text.splitlines())
    assert len(text.splitlines()) < 24
    for part in (
        "7 → 8",
        "20,880,000",
        "3 kept",
        "5.1 s",
        "1 check passed, 1 failed",
        "3 rows are <null>",
        "no time",
    ):
        assert part in text
    assert "reused" in text


def test_columns_in_which_nothing_is_are_left_out(report: RunReport) -> None:
    stages = [replace(report.stages[0], reused=0, bytes_read=0)]
    text = replace(report, stages=stages).text()
    assert "reused" not in text
    assert " read " not in text
    assert "written" in text


def test_a_build_of_nothing(report: RunReport) -> None:
    idle = replace(
        report, status="nothing to do", tables=[report.tables[1]], stages=[], warnings=[], dashboard=None
    )
    assert idle.published == []
    assert (
        idle.text().splitlines()[0] == "fraud · build 20261123T061742-ab12cd34 · nothing to do in 1 min 13 s"
    )
    assert "stage" not in idle.text()


def test_published_are_the_tables_with_a_version(report: RunReport) -> None:
    assert [entry.name for entry in report.published] == ["card_spend", "risk"]


def test_html_escapes_every_text(report: RunReport) -> None:
    html = replace(report, project="<script>")._repr_html_()
    assert "<script>" not in html
    assert "3 rows are &lt;null&gt;" in html
    assert html.count("<div") == html.count("</div>")
