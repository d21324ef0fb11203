"""Alerts, dashboard and Kubernetes example against the service they are about: no name in them is a stranger's."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Histogram

from service.documents.metrics_page import render_metrics
from service.door.access import PROBES
from service.environment import load_settings
from service.observing.metrics import Metrics
from service.problems import KINDS, REJECTIONS
from service.settings import PREFIX, Settings, SettingsError

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "reco.json"
KUBERNETES = DEPLOY / "kubernetes" / "base" / "reco.yaml"
NAME = re.compile(r"\breco_[a-z0-9_]+\b")


def exposed() -> set[str]:
    """Every series name that `/metrics` can have. A histogram has three, but no sum where values can be negative."""
    metrics = Metrics()
    signed = {one._name for one in vars(metrics).values() if isinstance(one, Histogram) and one._upper_bounds[0] < 0}
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", metrics.render().decode(), re.MULTILINE))
    parts = {
        f"{name}_{part}" for name, kind in kinds.items() if kind == "histogram" for part in ("bucket", "sum", "count")
    }
    return ({name for name, kind in kinds.items() if kind != "histogram"} | parts) - {f"{name}_sum" for name in signed}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


@pytest.mark.parametrize(
    "path",
    [DASHBOARD, DEPLOY / "prometheus" / "alerts.yml", DEPLOY / "kubernetes" / "prometheus-adapter.yaml",
     KUBERNETES],
    ids=lambda path: path.name,
)  # fmt: skip
def test_every_metric_named_is_exposed(path: Path) -> None:
    named = set(NAME.findall(path.read_text())) - {"reco_data"}
    assert named
    assert not named - exposed()


def test_the_dashboard_shows_what_there_is() -> None:
    told = json.dumps([panel["targets"] for panel in panels()])
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed()}
    hidden = {name for name in families if name not in told} - {"reco_build_info"}
    assert not {name for name in hidden if not name.startswith(("python_", "process_"))}


def test_the_page_of_metrics_is_that_of_the_code() -> None:
    """Renew it with `python -m service.documents.metrics_page > docs/metrics.md`."""
    page = (DEPLOY.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert page == render_metrics()
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed()} - set(NAME.findall(page)) == {
        name for name in exposed() if name.startswith("process_")
    }


def test_the_dashboard_is_whole() -> None:
    board = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24
        assert panel["targets"] and all(target["expr"] for target in panel["targets"])
    cells = [
        (x, y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"


def test_every_problem_of_ours_has_an_alert_and_no_clients_fault_has_one() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    told = {rule["alert"]: rule["expr"] for rule in rules}
    codes = {
        alert: set(re.search(label + r'=~"([^"]+)"', told[alert])[1].split("|"))  # type: ignore[index]
        for alert, label in (("RecoErrors", "code"), ("RecoRefuses", "reason"))
    }
    assert codes["RecoRefuses"] <= REJECTIONS
    ours = {code for code, kind in KINDS.items() if kind.status >= 500}
    # A probe is answered not_ready while a service loads or drains: a restart would be an error. It has its own rule.
    assert "job" not in told["RecoNotReady"], "it is the service's own word, whatever the job is called"
    assert codes["RecoErrors"] | codes["RecoRefuses"] == ours - {"not_ready"}
    assert not codes["RecoErrors"] & codes["RecoRefuses"]
    failing = next(panel for panel in panels() if panel["title"] == "Failing")["targets"][0]["expr"]
    assert set(re.search(r'code=~"([^"]+)"', failing)[1].split("|")) == codes["RecoErrors"]  # type: ignore[index]
    for expression in (told["RecoErrors"], failing):  # else a quiet service's errors would be lost among its probes
        left_out = re.search(r'reco_requests_total\{.*endpoint!~"([^"]+)"', expression)[1]  # type: ignore[index]
        assert set(left_out.split("|")) == PROBES | {"/metrics"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool: Debian's package `prometheus` has it")
@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts.test.yml")], ids=lambda one: one[0]
)
def test_promtool_accepts(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool: Debian's package `prometheus` has it")
def test_every_query_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    queries = [target["expr"] for panel in panels() for target in panel["targets"]]
    rules = [
        {"record": f"query:{number}", "expr": re.sub(r"\$__rate_interval", "5m", query)}
        for number, query in enumerate(queries)
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", "rules.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_kubernetes_sets_only_settings_that_exist() -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    parts = {one["kind"]: one for one in documents(KUBERNETES)}
    container = parts["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    named = set(parts["ConfigMap"]["data"]) | {one["name"] for one in container["env"]}
    assert named <= known


def test_kubernetes_adds_no_setting_after_the_name_of_a_service() -> None:
    """A Service `reco` becomes RECO_PORT=tcp://... in every pod beside it, and a setting unknown stops the start."""
    links = {"RECO_PORT": "tcp://10.0.0.1:80", "RECO_SERVICE_HOST": "10.0.0.1", "RECO_PORT_80_TCP": "tcp://10.0.0.1:80"}
    with pytest.raises(SettingsError, match="unknown setting RECO_PORT_80_TCP"):
        load_settings(links)
    parts = {one["kind"]: one for one in documents(KUBERNETES)}
    pod = parts["Deployment"]["spec"]["template"]["spec"]
    assert not parts["Service"]["metadata"]["name"].upper().startswith("RECO") or pod["enableServiceLinks"] is False


def test_kubernetes_waits_longer_than_the_service_drains() -> None:
    parts = {one["kind"]: one for one in documents(KUBERNETES)}
    pod = parts["Deployment"]["spec"]["template"]["spec"]
    fields = Settings.model_fields
    drains = fields["drain_delay_s"].default + fields["graceful_shutdown_s"].default
    assert pod["terminationGracePeriodSeconds"] > drains
    assert {probe: pod["containers"][0][probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")} == {
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }


@pytest.mark.parametrize(
    "path", sorted((DEPLOY / "kubernetes").rglob("kustomization.yaml")), ids=lambda p: p.parent.name
)
def test_kustomize_builds_on_no_folder_around_it(path: Path) -> None:
    """It calls that a cycle, and builds nothing."""
    [one] = documents(path)
    for name in one["resources"]:
        resource = (path.parent / name).resolve()
        assert resource.exists()
        assert resource not in path.parents


@pytest.mark.parametrize("folder", [".", "gpu"])
def test_kustomize_makes_a_whole_of_each_folder(folder: str) -> None:
    command = next((one for one in (["kubectl", "kustomize"], ["kustomize", "build"]) if shutil.which(one[0])), None)
    if command is None:
        pytest.skip("neither kubectl nor kustomize is here")
    done = subprocess.run([*command, DEPLOY / "kubernetes" / folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [deployment] = [one for one in yaml.safe_load_all(done.stdout) if one["kind"] == "Deployment"]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    gpus = container["resources"]["limits"].get("nvidia.com/gpu", 0)
    assert (container["image"], gpus) == (("reco:gpu", 1) if folder == "gpu" else ("reco:cpu", 0))


@pytest.mark.parametrize("path", sorted((DEPLOY / "kubernetes").rglob("*.yaml")), ids=lambda path: path.name)
def test_kubernetes_accepts_the_manifests(path: Path) -> None:
    validator = pytest.importorskip(
        "kubernetes_validate", reason="no kubernetes-validate: pip install kubernetes-validate"
    )
    for one in documents(path):
        if "kind" not in one or one["kind"] == "Kustomization" or path.name == "gpu.yaml":  # a patch is no whole
            continue
        validator.validate(one, validator.latest_version(), strict=True)


def test_what_compose_mounts_from_the_repository_is_there() -> None:
    services = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text())["services"]
    mounted = {volume.split(":")[0] for name in ("prometheus", "grafana") for volume in services[name]["volumes"]}
    missing = {path for path in mounted if path.startswith("./") and not (DEPLOY.parent / path).is_dir()}
    assert not missing
    assert all(services[name]["profiles"] == ["monitoring"] for name in ("prometheus", "grafana"))
    assert all("127.0.0.1" in port for name in ("prometheus", "grafana") for port in services[name]["ports"])
