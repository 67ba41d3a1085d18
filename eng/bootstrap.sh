#!/usr/bin/env bash
# Resolves the packages that the configured sources lack; writes .deps/ and eng/resolved.props. Nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -f .deps/onnxruntime/.complete ] && exit 0
echo "bootstrap: fetching ONNX Runtime from the npm registry" >&2
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
cp eng/npm/package.json eng/npm/package-lock.json eng/npm/.npmrc "$tmp/"
(cd "$tmp" && npm ci --ignore-scripts --no-audit --no-fund --silent >&2)
src="$tmp/node_modules/com.github.asus4.onnxruntime"
rm -rf .deps/onnxruntime; mkdir -p .deps/onnxruntime/native/linux-x64
cp -r "$src/Runtime" "$src/LICENSE" "$src/ThirdPartyNotices.txt" .deps/onnxruntime/
cp "$src"/Plugins/Linux/x64/*.so .deps/onnxruntime/native/linux-x64/
find .deps/onnxruntime -name '*.meta' -delete
touch .deps/onnxruntime/.complete
