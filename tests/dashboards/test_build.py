"""The generated files: up to date, and restricted to features of Grafana 9.3."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import flux
from dashboards.boards.base import TAG
from dashboards.build import DASHBOARDS, MAX_SCHEMA_VERSION, dashboard_json
from dashboards.errors import FilesOutdated
from dashboards.files import HERE, build, check, generated_files
from dashboards.panels import NOT_A_DEVICE, POINTS, SOURCE
from dashboards.provisioning import CONTACT_POINT, EXPRESSIONS, FOLDER, files
from vitals import news2
from vitals.signs import SIGNS

# Core panels of Grafana 9.3.
PANELS = {
    "alertlist",
    "annolist",
    "barchart",
    "bargauge",
    "candlestick",
    "dashlist",
    "gauge",
    "geomap",
    "heatmap",
    "histogram",
    "logs",
    "news",
    "nodeGraph",
    "piechart",
    "row",
    "stat",
    "state-timeline",
    "status-history",
    "table",
    "text",
    "timeseries",
    "traces",
}
PROPERTIES = {
    "color",
    "custom.cellOptions",
    "custom.displayMode",
    "custom.fillBelowTo",
    "custom.fillOpacity",
    "custom.hidden",
    "custom.lineWidth",
    "custom.width",
    "decimals",
    "displayName",
    "links",
    "mappings",
    "thresholds",
    "unit",
}
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


def test_generated_files_are_up_to_date() -> None:
    check()


def test_changed_and_superfluous_files_are_named(tmp_path: Path) -> None:
    assert len(build(tmp_path)) == len(generated_files()) == 8
    assert build(tmp_path) == []
    (tmp_path / "grafana" / "ward.json").write_text("{}", encoding="utf-8")
    (tmp_path / "grafana" / "old.json").write_text("{}", encoding="utf-8")

    with pytest.raises(FilesOutdated, match=r"grafana/old\.json, grafana/ward\.json; run `vitalloom dashboards build`"):
        check(tmp_path)
    assert build(tmp_path) == ["grafana/ward.json"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_uses_only_features_of_grafana_9_3(name: str) -> None:
    board = on_disk(name)

    assert board["schemaVersion"] <= MAX_SCHEMA_VERSION
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
def test_panels_have_unique_ids_and_do_not_overlap(name: str) -> None:
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
def test_every_query_uses_the_provisioned_data_source(name: str) -> None:
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
def test_every_used_variable_is_defined(name: str) -> None:
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
def test_every_variable_has_an_id_for_grafana_9_3(name: str) -> None:
    variables = on_disk(name)["templating"]["list"]

    assert variables
    assert [one["id"] for one in variables] == [one["name"] for one in variables]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_dashboard_has_the_disclaimer_and_links_to_the_others(name: str) -> None:
    board = on_disk(name)

    assert any(panel["type"] == "text" and NOT_A_DEVICE in panel["options"]["content"] for panel in board["panels"])
    assert board["tags"] == [TAG]
    (link,) = board["links"]
    assert (link["type"], link["tags"], link["includeVars"]) == ("dashboards", [TAG], True)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_lines_are_interrupted_at_gaps(name: str) -> None:
    for panel in on_disk(name)["panels"]:
        if panel["type"] == "timeseries":
            assert panel["fieldConfig"]["defaults"]["custom"]["spanNulls"] is False
            assert "createEmpty: true" in panel["targets"][0]["query"]


def test_sign_panels_follow_the_table_of_signs() -> None:
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
        (None, POINTS[3]),
        (92, POINTS[2]),
        (94, POINTS[1]),
        (96, POINTS[0]),
    ]
    for step in steps[1:]:
        assert step["color"] == POINTS[news2.SPO2_SCALE_1.points(step["value"])]


def test_colours_of_cells_are_set_for_old_and_new_versions() -> None:
    for name in DASHBOARDS:
        for panel in on_disk(name)["panels"]:
            for rule in panel["fieldConfig"]["overrides"]:
                used = {one["id"] for one in rule["properties"]}
                assert ("custom.displayMode" in used) == ("custom.cellOptions" in used)


def test_colours_of_cells_match_their_texts() -> None:
    table = next(panel for panel in on_disk("ward")["panels"] if panel["title"] == "Patients by severity")
    rules = {
        one["matcher"]["options"]: [
            (re.compile(rule["options"]["pattern"].strip("/")), rule["options"]["result"]["color"])
            for item in one["properties"]
            if item["id"] == "mappings"
            for rule in item["value"]
        ]
        for one in table["fieldConfig"]["overrides"]
    }

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


def test_alert_rules_fire_without_data_and_on_errors() -> None:
    (group,) = provisioned("alerting/rules.yaml")["groups"]

    assert group["folder"] == FOLDER
    assert {rule["title"] for rule in group["rules"]} == {
        "Patient not attended to",
        "Pipeline silent",
    }
    for rule in group["rules"]:
        assert (rule["noDataState"], rule["execErrState"]) == ("Alerting", "Alerting")
        assert rule["condition"] in {one["refId"] for one in rule["data"]}
        assert re.fullmatch(r"\d+[smh]", rule["for"])
        assert len(rule["uid"]) <= 40  # Grafana's limit
        query, reduction = rule["data"]
        assert query["datasourceUid"] == SOURCE.uid
        assert (reduction["datasourceUid"], reduction["model"]["type"]) == (EXPRESSIONS, "reduce")
        assert reduction["model"]["expression"] == query["refId"]
        assert rule["annotations"]["description"] == NOT_A_DEVICE


def test_rules_query_the_given_bucket() -> None:
    text = files("north")["alerting/rules.yaml"]

    assert 'from(bucket: "north")' in text
    assert 'bucket: "vitals"' not in text


def test_only_environment_variables_begin_with_a_dollar() -> None:
    found = {
        path: set(re.findall(r"\$[^\s'\"]+", "\n".join(texts(yaml.safe_load(text))))) for path, text in files().items()
    }

    assert found == {
        "datasources/vitalloom.yaml": {
            "$__env{VITALLOOM_INFLUX_URL}",
            "$__env{VITALLOOM_INFLUX_ORG}",
            "$__file{/run/secrets/vitalloom-reader-token}",
        },
        "dashboards/vitalloom.yaml": {"$__env{VITALLOOM_DASHBOARDS}"},
        "alerting/rules.yaml": set(),
        "alerting/people.yaml": {"$VITALLOOM_BACKSTOP_WEBHOOK"},
    }


def test_each_stay_is_one_message_and_the_site_is_another() -> None:
    found = provisioned("alerting/people.yaml")

    (policy,) = found["policies"]
    assert policy["receiver"] == CONTACT_POINT
    assert CONTACT_POINT in {one["name"] for one in found["contactPoints"]}
    assert policy["group_by"] == ["stay"]
    query = flux.alert_rules.patient_unattended("b")
    assert query.endswith('|> group(columns: ["bed", "patient", "stay"])')


def test_no_message_says_that_an_alarm_is_resolved() -> None:
    (point,) = provisioned("alerting/people.yaml")["contactPoints"]

    assert [one["disableResolveMessage"] for one in point["receivers"]] == [True]


def test_query_that_hangs_is_an_error_before_the_next_evaluation() -> None:
    (source,) = provisioned("datasources/vitalloom.yaml")["datasources"]
    (group,) = provisioned("alerting/rules.yaml")["groups"]

    assert source["jsonData"]["timeout"] == 15
    assert group["interval"] == "30s"


def test_alert_messages_say_that_the_database_does_not_answer_where_there_is_no_label() -> None:
    for rule in provisioned("alerting/rules.yaml")["groups"][0]["rules"]:
        said = rule["annotations"]["summary"]
        with_label, without = said.rsplit("{{ else }}", 1)
        assert with_label.startswith(('{{ if index .Labels "bed" }}', '{{ if index .Labels "stage" }}'))
        assert without.startswith("The database does not answer")
        assert ".Labels" not in without
        assert ".Values" not in without


def test_alert_messages_name_bed_and_reference_and_no_value_of_a_sign() -> None:
    for rule in provisioned("alerting/rules.yaml")["groups"][0]["rules"]:
        said = rule["annotations"]["summary"]
        assert set(re.findall(r"\.Labels\.\w+", said)) <= {".Labels.bed", ".Labels.patient", ".Labels.stage"}
        assert set(re.findall(r"\.Values\.\w+\.\w+", said)) <= {".Values.B.Value"}
    (row,) = flux.alert_rules.patient_unattended("b").rsplit("_time: stop", 1)[1:]
    assert "minutes(" in row
    assert "at_least" not in row


def test_dashboards_are_provisioned_in_the_folder() -> None:
    (provider,) = provisioned("dashboards/vitalloom.yaml")["providers"]

    assert (provider["folder"], provider["folderUid"], provider["type"]) == (FOLDER, FOLDER, "file")
    assert dashboard_json("ward")["uid"] == "vitalloom-ward"
