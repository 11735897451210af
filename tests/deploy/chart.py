#!/usr/bin/env python3
"""The chart in deploy/helm: Helm's own engine lints and renders it, the manifests are held against the schemas of
Kubernetes, and the gateway runs with the configuration and the probe that come out."""

import json
import subprocess
import sys

import kubernetes_validate
import yaml
from helm_python import HelmError
from helm_python.chart import Chart, lint

from support import ROOT, SSEGATE, Stage, eventually, free_port, get

CHART = ROOT / "deploy/helm/ssegate"
#: The oldest Kubernetes that Chart.yaml promises, and a new one.
VERSIONS = ("1.30", "1.37")
#: Kinds whose schemas come with the Prometheus Operator.
OF_THE_OPERATOR = {"ServiceMonitor", "PrometheusRule"}

EVERYTHING = {
    "image": {"repository": "registry.example/ssegate", "tag": "7"},
    "imagePullSecrets": [{"name": "registry"}],
    "env": {"BACKEND_URL": "http://app:8000"},
    "tls": {"secret": "certificate"},
    "trustedProxies": ["10.0.0.0/8"],
    "service": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "annotations": {"a/b": "c"}},
    "autoscaling": {"enabled": True},
    "podDisruptionBudget": {"maxUnavailable": "25%"},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"},
                       "authorization": {"credentials": {"name": "scrape", "key": "token"}}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    # The token of Prometheus is "scrape".
    "config": {"admin": {"auth": {"tokens": [{
        "name": "prometheus", "sha256": "174591972de079bef8971d5fedc541bc537fef2640c29b956dae76e5176f044e"}]}}},
    "networkPolicy": {"enabled": True, "adminFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]},
    "podAnnotations": {"a/b": "c"},
    "podLabels": {"team": "web"},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "edge", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
}
NOTHING = {"podDisruptionBudget": {"enabled": False}, "probes": {"readinessExclude": []}, "resources": {}}

#: Values that values.schema.json must refuse.
WRONG = [
    {"replicaz": 2},
    {"replicas": 0},
    {"replicas": "two"},
    {"image": {"repository": ""}},
    {"config": {"listeners": []}},
    {"config": {"drain": "1s"}},
    {"config": {"admin": {"address": "0.0.0.0:80"}}},
    {"networkPolicy": {"adminFrom": "prometheus"}},
    {"config": {"routes": []}},
    {"shutdown": {"preStopSeconds": 0}},
    {"shutdown": {"graceSeconds": 0}},
    {"probes": {"readinessExclude": ["drain"]}},
    {"podDisruptionBudget": {"maxUnavailable": 0}},
    {"podDisruptionBudget": {"maxUnavailable": "all"}},
    {"service": {"type": "ExternalName"}},
    {"env": {"PORT": 80}},
]


def render(chart, values):
    """The manifests, by kind (and the admin service as `Service/admin`)."""
    found = {}
    for name, text in chart.render(values, name="demo", namespace="web").items():
        if name.endswith("NOTES.txt"):
            continue
        for manifest in filter(None, yaml.safe_load_all(text)):
            key = manifest["kind"]
            if manifest["metadata"]["name"].endswith("-admin"):
                key += "/admin"
            assert key not in found, f"two of {key}"
            found[key] = manifest
    return found


def check_manifests(manifests):
    for key, manifest in manifests.items():
        if key not in OF_THE_OPERATOR:
            for version in VERSIONS:
                kubernetes_validate.validate(manifest, version, strict=True)
    deployment = manifests["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    labels = deployment["template"]["metadata"]["labels"]
    selected = [deployment["selector"]["matchLabels"]]
    selected += [manifests[key]["spec"]["selector"] for key in ("Service", "Service/admin")]
    if "PodDisruptionBudget" in manifests:
        selected.append(manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"])
    for selector in selected:
        assert selector.items() <= labels.items(), selector
    names = {port["name"] for port in container["ports"]}
    if "NetworkPolicy" in manifests:
        policy = manifests["NetworkPolicy"]["spec"]
        selected = policy["podSelector"]["matchLabels"]
        assert selected.items() <= labels.items(), selected
        clients, admin = policy["ingress"]
        assert {port["port"] for port in clients["ports"]} == names - {"admin"} and "from" not in clients
        assert [port["port"] for port in admin["ports"]] == ["admin"] and admin["from"], admin
    for key in ("Service", "Service/admin"):
        assert {port["targetPort"] for port in manifests[key]["spec"]["ports"]} <= names
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}, mounted
    assert container["securityContext"]["readOnlyRootFilesystem"] and pod["securityContext"]["runAsNonRoot"]
    config = yaml.safe_load(manifests["ConfigMap"]["data"]["gateway.yaml"])
    wait = container["lifecycle"]["preStop"]["sleep"]["seconds"] + int(config["drain"].removesuffix("s"))
    assert pod["terminationGracePeriodSeconds"] >= wait + 5, "Kubernetes would cut the drain off"
    assert container["readinessProbe"]["httpGet"]["path"].split("?")[0] == "/readyz"
    return config


def check_operator(stage, manifests):
    monitor = manifests["ServiceMonitor"]
    admin = manifests["Service/admin"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= admin["metadata"]["labels"].items()
    assert not monitor["spec"]["selector"]["matchLabels"].items() <= manifests["Service"]["metadata"]["labels"].items()
    assert admin["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "ssegate", "the job of the alerts"
    assert monitor["spec"]["endpoints"][0]["authorization"]["credentials"]["name"] == "scrape"
    assert monitor["spec"]["endpoints"][0]["port"] == admin["spec"]["ports"][0]["name"]
    groups = manifests["PrometheusRule"]["spec"]["groups"]
    shipped = []
    for name in ("rules.yml", "alerts.yml"):
        shipped += yaml.safe_load((ROOT / "deploy/prometheus" / name).read_text())["groups"]
    assert groups == shipped, "the rules as deploy/prometheus has them"
    rules = stage.write("rules.yml", yaml.safe_dump({"groups": groups}))
    subprocess.run(["promtool", "check", "rules", rules], check=True, stdout=subprocess.DEVNULL)
    target = manifests["HorizontalPodAutoscaler"]["spec"]
    assert target["scaleTargetRef"]["name"] == manifests["Deployment"]["metadata"]["name"]
    assert "replicas" not in manifests["Deployment"]["spec"], "the autoscaler decides"


def run_gateway(stage, manifests):
    """With the configuration of the ConfigMap, on other ports; Redis goes away, and comes no more."""
    redis_process, redis = stage.redis()
    ports = [free_port() for _ in range(3)]
    text = manifests["ConfigMap"]["data"]["gateway.yaml"]
    for port, free in zip((8080, 8443, 9464), ports):
        text = text.replace(f'"0.0.0.0:{port}"', f'"127.0.0.1:{free}"')
    text = text.replace("/etc/ssegate/tls", str(stage.dir))
    assert str(ports[1]) in text and str(ports[2]) in text, text
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                    "/CN=demo", "-keyout", stage.dir / "tls.key", "-out", stage.dir / "tls.crt"],
                   check=True, capture_output=True)
    env = {"REDIS_URL": f"redis://127.0.0.1:{redis}", "BACKEND_URL": "http://127.0.0.1:1", "STATE_DIRECTORY": str(stage.dir)}
    config = stage.write("gateway.yaml", text)
    stage.start(SSEGATE, "run", "-c", config, port=ports[2], **env)
    [container] = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    ready = f"http://127.0.0.1:{ports[2]}" + container["readinessProbe"]["httpGet"]["path"]
    alive = f"http://127.0.0.1:{ports[2]}" + container["livenessProbe"]["httpGet"]["path"]
    # As kubelet asks: by the address of the pod.
    eventually("ready", lambda: get(ready, Host="10.1.2.3:9464")[0] == 200)
    # The metrics are for who has the token, and the probes for everybody.
    metrics = f"http://127.0.0.1:{ports[2]}/metrics"
    assert (get(metrics)[0], get(metrics, Authorization="Bearer scrape")[0]) == (401, 200)
    stage.end(redis_process)
    eventually("without Redis", lambda: get(f"http://127.0.0.1:{ports[2]}/readyz")[0] == 503)
    assert (get(ready)[0], get(alive)[0]) == (200, 200), "the proxied site stays up"
    # One that starts meanwhile waits for Redis: it could not resume the streams of the others.
    ports = [free_port() for _ in range(3)]
    parsed = yaml.safe_load(config.read_text())
    for listener, port in zip([*parsed["listeners"], parsed["admin"]], ports):
        listener["address"] = f"127.0.0.1:{port}"
    stage.start(SSEGATE, "run", "-c", stage.write("second.yaml", json.dumps(parsed)), port=ports[2], **env)
    second = ready.replace(ready.split("/")[2], f"127.0.0.1:{ports[2]}")
    assert get(second)[0] == 503, get(second + "&verbose")


def main():
    report = lint(CHART, EVERYTHING, strict=True)
    problems = [message for message in report["messages"] if message["severity"] >= 2]
    assert not problems and not report["errors"], report
    with Chart.load(CHART) as chart, Stage() as stage:
        for values in ({}, NOTHING, EVERYTHING):
            manifests = render(chart, values)
            check_manifests(manifests)
        check_operator(stage, manifests)
        shipped = {path.stem for path in (CHART / "templates").glob("*.yaml")}
        assert len(manifests) == 9 and len(shipped) == 7, (list(manifests), shipped)
        for values in WRONG:
            try:
                chart.validate_schema(values)
            except HelmError:
                continue
            sys.exit(f"values.schema.json takes {values}")
        run_gateway(stage, manifests)
    print(f"{len(manifests)} manifests, {len(WRONG)} wrong values refused")


if __name__ == "__main__":
    main()
