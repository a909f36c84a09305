"""The generated files: as the code makes them, and nothing in them that Grafana 9.3 does not know."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import flux
from dashboards.build import DASHBOARDS, SCHEMA_MOST, TAG, dashboard_json
from dashboards.errors import FilesOutdated
from dashboards.files import HERE, build, check, generated_files
from dashboards.panels import NOT_A_DEVICE, POINTS, SOURCE
from dashboards.provisioning import EXPRESSIONS, FOLDER, PEOPLE, files
from vitals import news2
from vitals.signs import SIGNS

# Core panels of Grafana 9.3 and its organise transformation; what came later is not in it.
PANELS = {
    "alertlist", "annolist", "barchart", "bargauge", "candlestick", "dashlist", "gauge", "geomap", "heatmap",
    "histogram", "logs", "news", "nodeGraph", "piechart", "row", "stat", "state-timeline", "status-history", "table",
    "text", "timeseries", "traces",
}  # fmt: skip
PROPERTIES = {
    "color", "custom.cellOptions", "custom.displayMode", "custom.fillBelowTo", "custom.fillOpacity", "custom.hidden",
    "custom.lineWidth", "custom.width", "decimals", "displayName", "links", "mappings", "thresholds", "unit",
}  # fmt: skip
VARIABLE = re.compile(r"\$\{?(\w+)")


def on_disk(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / "grafana" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def provisioned(path: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((HERE / "provisioning" / path).read_text(encoding="utf-8"))
    return found


def texts(found: Any) -> list[str]:
    """Every text in a document."""
    if isinstance(found, dict):
        return [text for value in found.values() for text in texts(value)]
    if isinstance(found, list):
        return [text for value in found for text in texts(value)]
    return [found] if isinstance(found, str) else []


def test_the_files_are_as_the_code_makes_them() -> None:
    check()


def test_a_file_that_somebody_changed_is_named_and_built_again(tmp_path: Path) -> None:
    assert len(build(tmp_path)) == len(generated_files()) == 8
    assert build(tmp_path) == []
    (tmp_path / "grafana" / "ward.json").write_text("{}", encoding="utf-8")
    (tmp_path / "grafana" / "old.json").write_text("{}", encoding="utf-8")

    with pytest.raises(FilesOutdated, match=r"grafana/old\.json, grafana/ward\.json; run `vitalloom dashboards build`"):
        check(tmp_path)
    assert build(tmp_path) == ["grafana/ward.json"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafana_9_3_can_read_it(name: str) -> None:
    board = on_disk(name)

    assert board["schemaVersion"] <= SCHEMA_MOST
    assert board["id"] is None
    assert board["uid"] == f"vitalloom-{name}"
    assert not {"kind", "spec", "elements", "layout", "apiVersion"} & set(board)  # the second schema's
    assert {panel["type"] for panel in board["panels"]} <= PANELS
    for panel in board["panels"]:
        assert {one["id"] for one in panel.get("transformations", [])} <= {"organize"}
        used = {one["id"] for rule in panel["fieldConfig"]["overrides"] for one in rule["properties"]}
        assert used <= PROPERTIES
    assert {one["type"] for one in board["templating"]["list"]} == {"query"}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_numbers_of_their_own_and_do_not_lie_on_each_other(name: str) -> None:
    panels = on_disk(name)["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 and place["h"] > 0 for place in places)
    for one, other in itertools.combinations(places, 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        ), (one, other)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_everything_is_asked_of_the_data_source_that_is_provisioned(name: str) -> None:
    (source,) = provisioned("datasources/vitalloom.yaml")["datasources"]
    board = on_disk(name)

    assert (source["uid"], source["type"]) == (SOURCE.uid, SOURCE.type_val)
    assert source["jsonData"]["version"] == "Flux"
    asked = [target["datasource"] for panel in board["panels"] for target in panel.get("targets", [])]
    asked += [one["datasource"] for one in [*board["templating"]["list"], *board["annotations"]["list"]]]
    assert asked
    assert all(one == {"type": "influxdb", "uid": source["uid"]} for one in asked)
    assert all(panel.get("targets") for panel in board["panels"] if panel["type"] != "text")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_variable_that_is_used_is_there(name: str) -> None:
    board = on_disk(name)
    known = {one["name"] for one in board["templating"]["list"]}
    used = {found for text in texts(board) for found in VARIABLE.findall(text)}

    assert {one for one in used if not one.startswith("__")} <= known
    assert "tenant" in used
    # A variable knows only those before it.
    for number, one in enumerate(board["templating"]["list"]):
        before = {earlier["name"] for earlier in board["templating"]["list"][:number]}
        assert set(VARIABLE.findall(one["query"])) <= before


@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafana_9_3_finds_every_variable_by_its_id(name: str) -> None:
    variables = on_disk(name)["templating"]["list"]

    assert variables
    assert [one["id"] for one in variables] == [one["name"] for one in variables]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_dashboard_says_what_it_is_not_and_leads_to_the_others(name: str) -> None:
    board = on_disk(name)

    assert any(panel["type"] == "text" and NOT_A_DEVICE in panel["options"]["content"] for panel in board["panels"])
    assert board["tags"] == [TAG]
    (link,) = board["links"]
    assert (link["type"], link["tags"], link["includeVars"]) == ("dashboards", [TAG], True)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_lines_are_never_drawn_across_a_gap(name: str) -> None:
    for panel in on_disk(name)["panels"]:
        if panel["type"] == "timeseries":
            assert panel["fieldConfig"]["defaults"]["custom"]["spanNulls"] is False
            assert "createEmpty: true" in panel["targets"][0]["query"]


def test_signs_are_drawn_as_the_table_of_signs_has_them() -> None:
    panels = {panel["title"]: panel for panel in on_disk("patient")["panels"]}

    for spec in SIGNS:
        if spec.entered:
            continue
        panel = panels[f"{spec.label}, {spec.unit}"]
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["decimals"] == spec.decimals
        mean = next(one for one in panel["fieldConfig"]["overrides"] if one["matcher"]["options"] == "mean")
        assert mean["properties"][0]["value"]["fixedColor"] == spec.colour
    steps = panels["oxygen saturation, %"]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [(step["value"], step["color"]) for step in steps] == [
        (None, POINTS[3]), (92, POINTS[2]), (94, POINTS[1]), (96, POINTS[0]),
    ]  # fmt: skip
    for step in steps[1:]:
        assert step["color"] == POINTS[news2.SPO2_SCALE_1.points(step["value"])]


def test_colours_of_cells_are_said_in_the_words_of_old_and_new_versions() -> None:
    for name in DASHBOARDS:
        for panel in on_disk(name)["panels"]:
            for rule in panel["fieldConfig"]["overrides"]:
                used = {one["id"] for one in rule["properties"]}
                assert ("custom.displayMode" in used) == ("custom.cellOptions" in used)


def test_mappings_of_cells_are_regular_expressions_that_tell_what_they_should() -> None:
    table = next(panel for panel in on_disk("ward")["panels"] if panel["title"] == "Patients, the worst first")
    rules = {
        one["matcher"]["options"]: [
            (re.compile(rule["options"]["pattern"].strip("/")), rule["options"]["result"]["color"])
            for item in one["properties"] if item["id"] == "mappings" for rule in item["value"]
        ]
        for one in table["fieldConfig"]["overrides"]
    }  # fmt: skip

    def colour(column: str, cell: str) -> str | None:
        return next((colour for pattern, colour in rules[column] if pattern.search(cell)), None)

    red, orange = POINTS[3], POINTS[2]
    assert colour("SpO2 %", "91 (+3)  5 s") == red
    assert colour("SpO2 %", "97  5 s") is None
    assert colour("NEWS2", "≥ 7") == colour("NEWS2", "12") == red
    assert colour("NEWS2", "≥ 5, was 7") == orange
    assert colour("NEWS2", "4") is None
    assert colour("NEWS2", "was 8, no data for 7 min") not in (red, orange, None)
    assert colour("SpO2 %", "– 10 min") not in (red, orange, None)


# Provisioning


def test_alert_rules_alarm_when_they_find_nothing_and_when_they_fail() -> None:
    (group,) = provisioned("alerting/rules.yaml")["groups"]

    assert group["folder"] == FOLDER
    assert {rule["title"] for rule in group["rules"]} == {
        "Red alarm, unanswered", "Patient without data", "Pipeline silent",
    }  # fmt: skip
    for rule in group["rules"]:
        assert (rule["noDataState"], rule["execErrState"]) == ("Alerting", "Alerting")
        assert rule["condition"] in {one["refId"] for one in rule["data"]}
        assert re.fullmatch(r"\d+[smh]", rule["for"])
        assert len(rule["uid"]) <= 40  # Grafana's limit
        question, reduction = rule["data"]
        assert question["datasourceUid"] == SOURCE.uid
        assert (reduction["datasourceUid"], reduction["model"]["type"]) == (EXPRESSIONS, "reduce")
        assert reduction["model"]["expression"] == question["refId"]
        assert rule["annotations"]["description"] == NOT_A_DEVICE


def test_rules_watch_the_bucket_that_they_were_made_for() -> None:
    text = files("north")["alerting/rules.yaml"]

    assert 'from(bucket: "north")' in text
    assert 'bucket: "vitals"' not in text


def test_what_grafana_would_replace_is_only_what_it_should() -> None:
    found = {
        path: set(re.findall(r"\$[^\s'\"]+", "\n".join(texts(yaml.safe_load(text))))) for path, text in files().items()
    }

    assert found == {
        "datasources/vitalloom.yaml": {
            "$__env{VITALLOOM_INFLUX_URL}", "$__env{VITALLOOM_INFLUX_ORG}",
            "$__file{/run/secrets/vitalloom-reader-token}",
        },
        "dashboards/vitalloom.yaml": {"$__env{VITALLOOM_DASHBOARDS}"},
        "alerting/rules.yaml": set(),
        "alerting/people.yaml": {"$VITALLOOM_BACKSTOP_WEBHOOK"},
    }  # fmt: skip


def test_the_policy_leads_to_a_contact_point_that_is_there_and_groups_nothing() -> None:
    found = provisioned("alerting/people.yaml")

    (policy,) = found["policies"]
    assert policy["receiver"] == PEOPLE
    assert PEOPLE in {one["name"] for one in found["contactPoints"]}
    assert policy["group_by"] == ["..."]
    assert policy["group_wait"] == "0s"


def test_no_message_carries_a_value_or_a_name_of_a_patient() -> None:
    for rule in provisioned("alerting/rules.yaml")["groups"][0]["rules"]:
        said = rule["annotations"]["summary"]
        assert set(re.findall(r"\{\{(.*?)\}\}", said)) <= {" .Labels.bed ", " .Labels.hop "}
    for query in (flux.rule_red_unanswered("b"), flux.rule_no_data("b")):
        assert "patient: r.patient" not in query.rsplit("_value:", 1)[1]


def test_dashboards_come_from_the_folder_and_into_it() -> None:
    (provider,) = provisioned("dashboards/vitalloom.yaml")["providers"]

    assert (provider["folder"], provider["folderUid"], provider["type"]) == (FOLDER, FOLDER, "file")
    assert dashboard_json("ward")["uid"] == "vitalloom-ward"
