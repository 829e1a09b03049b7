#!/usr/bin/env bash
# Checks what people deploy: systemd units, Kubernetes manifests, dashboard, scripts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# systemd-analyze wants the binaries to exist: the copies name one that does.
if have systemd-analyze; then
    cp deploy/systemd/*.service deploy/systemd/*.timer "$work/"
    sed -i 's|/usr/local/bin/recurd|/bin/true|' "$work"/*.service
    systemd-analyze verify --man=no "$work"/*.service "$work"/*.timer
    echo "ok   systemd units"
else
    echo "SKIPPED: systemd-analyze is not here: units are not checked" >&2
fi

if have kubectl; then
    for kustomization in deploy/kubernetes/base deploy/kubernetes/overlays/*; do
        kubectl kustomize "$kustomization" >"$work/manifests.yaml"
        grep -q '^kind:' "$work/manifests.yaml"
        echo "ok   kustomize $kustomization"
    done
else
    echo "SKIPPED: kubectl is not here: manifests are not checked" >&2
fi

for dashboard in deploy/grafana/*.json; do
    [ -e "$dashboard" ] || continue
    python3 -m json.tool "$dashboard" >/dev/null
    echo "ok   $dashboard"
done

# A panel or an alert about a metric that nobody exports is silent for ever.
exported=$(grep -rhE -A1 '(gauge|counter|histogram)!\(' src | grep -oE '"recurd_[a-z_]+"' | tr -d '"' | sort -u)
named=$(grep -ohE 'recurd_[a-z_]+' deploy/grafana/*.json deploy/alerts/*.yaml | sed -E 's/_(bucket|sum|count)$//' | sort -u)
unknown=$(comm -13 <(echo "$exported") <(echo "$named"))
[ -z "$unknown" ] || die "deploy/ names metrics that src/ does not export:" $unknown
unseen=$(comm -23 <(echo "$exported") <(echo "$named"))
[ -z "$unseen" ] || die "src/ exports metrics that no panel and no alert shows:" $unseen
echo "ok   $(wc -l <<<"$exported") metrics, all shown and all exported"

for script in scripts/*.sh .ci/run; do
    bash -n "$script"
    if have shellcheck; then shellcheck -x -S warning "$script"; fi
    echo "ok   $script"
done
