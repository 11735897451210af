#!/usr/bin/env python3
"""What belongs together in deploy/ is together: every alert has a paragraph in the runbook and a test, every metric that is named
exists, compose.yaml mounts files that are there, and systemd finds the service well protected."""

import json
import re
import subprocess

import yaml

from support import ROOT

PROMETHEUS = ROOT / "deploy/prometheus"
#: `systemd-analyze security` counts from 0 (safe) to 10; the unit has 1.7 with systemd 252.
MOST_EXPOSED = 2.0


def check_alerts():
    [group] = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    tests = yaml.safe_load((ROOT / "tests/deploy/alerts.test.yml").read_text())["tests"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(set(names)) == len(names)
    # A further test of an alert says in its name of what it is.
    assert sorted(test["name"] for test in tests if " " not in test["name"]) == sorted(names), "each alert has a test"
    assert {test["name"].split()[0] for test in tests} == set(names)
    for test in tests:
        expected = json.dumps([expression["exp_samples"] for expression in test["promql_expr_test"]])
        assert test["name"].split()[0] in expected, f"the test of {test['name']} never sees it"
    runbook = (ROOT / "docs/RUNBOOK.md").read_text()
    paragraphs = dict(re.findall(r"^### (\w+)\n(.+(?:\n.+)*)", runbook, re.MULTILINE))
    assert list(sorted(paragraphs)) == sorted(names), set(paragraphs) ^ set(names)
    for rule in group["rules"]:
        name, critical = rule["alert"], rule["labels"]["severity"] == "critical"
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert set(rule["annotations"]) == {"summary", "look_at", "runbook"}, name
        assert rule["annotations"]["runbook"] == f"docs/RUNBOOK.md#{name.lower()}"
        assert paragraphs[name].startswith("Critical: ") == critical, f"{name}: severity and runbook differ"
    return len(names)


def check_metrics():
    known = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/METRICS.md").read_text(), re.MULTILINE))
    assert len(known) > 60, known
    known |= {"ssegate_build_info", "ssegate"}
    recorded = set(re.findall(r"record: \S+?:(ssegate_\w+):", (PROMETHEUS / "rules.yml").read_text()))
    recorded |= {"ssegate_http_server_errors"}
    for path in ("deploy/prometheus/rules.yml", "deploy/prometheus/alerts.yml", "deploy/grafana/ssegate.json",
                 "tests/deploy/alerts.test.yml", "deploy/README.md", "deploy/helm/ssegate/values.yaml", "docs/RUNBOOK.md",
                 "deploy/helm/ssegate/templates/horizontalpodautoscaler.yaml"):
        for name in set(re.findall(r"\bssegate_\w+", (ROOT / path).read_text())):
            if name not in known | recorded and re.sub(r"_(bucket|sum|count)$", "", name) not in known:
                assert any(metric.startswith(name) for metric in known) and path.endswith(".md"), f"{path}: {name}"


def check_compose():
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source not in compose["volumes"]:
                assert (ROOT / "deploy" / source).exists(), f"{name}: {source}"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} publishes {port}"
    mounts = {volume.split(":")[1]: volume.split(":")[0] for volume in compose["services"]["grafana"]["volumes"]}
    provider = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/ssegate.yaml").read_text())
    [provider] = provider["providers"]
    assert provider["options"]["path"] + "/ssegate.json" in mounts
    source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yaml").read_text())
    assert source["datasources"][0]["url"].split("//")[1].split(":")[0] in compose["services"]


def check_dashboard():
    dashboard = json.loads((ROOT / "deploy/grafana/ssegate.json").read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in dashboard["panels"]:
        where = panel["gridPos"]
        assert where["x"] + where["w"] <= 24, panel["title"]
        if panel["type"] != "row":
            assert panel["targets"] and panel["description"], panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
    return len(ids)


def check_security():
    unit = ROOT / "deploy/ssegate.service"
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    report = subprocess.run(command, capture_output=True, text=True, check=False)
    [level] = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", report.stdout) or [None]
    assert level is not None, report
    assert float(level) <= MOST_EXPOSED, report.stdout
    return level


if __name__ == "__main__":
    check_metrics()
    check_compose()
    print(f"{check_alerts()} alerts, {check_dashboard()} panels, exposure {check_security()} of 10")
