#!/usr/bin/env bash
# Builds the bootstrap program (eng/bootstrap, C#, no packages) when it is missing or old, then runs it: prepare | resolve | test.
set -euo pipefail
root=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd -P)
cd "$root"
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1

fail() { echo "iptnative: $*" >&2; exit 1; }

tool=artifacts/bootstrap
if [ ! -f "$tool/bootstrap.dll" ] || [ -n "$(find eng/bootstrap Directory.Build.props global.json -newer "$tool/bootstrap.dll" -print -quit)" ]; then
  command -v dotnet >/dev/null || fail "the .NET SDK was not found: there is no 'dotnet' on PATH. Install the .NET SDK 10 (dotnet.microsoft.com/download) and try again; nothing is installed for you."
  dotnet --version >/dev/null 2>&1 </dev/null || fail "this needs the .NET SDK 10.0.100 or newer of the 10.0 line (global.json); found: $(dotnet --list-sdks 2>/dev/null </dev/null | sed 's/ .*//' | paste -sd' ' - || true). Install the .NET SDK 10 and try again."
  # Built in a folder of its own, then renamed: two starts at once do not meet, and a killed one leaves nothing that counts.
  temporary="artifacts/bootstrap.$$"
  trap 'rm -rf "$temporary"' EXIT
  mkdir -p artifacts "$temporary"
  if ! dotnet build eng/bootstrap/Bootstrap.csproj -c Release -v q -nologo -tl:off -nodeReuse:false \
      -p:ArtifactsPath="$root/$temporary/" -p:UseSharedCompilation=false >"$temporary/build.log" 2>&1 </dev/null; then
    grep -m 5 ': error ' "$temporary/build.log" >&2 || cat "$temporary/build.log" >&2
    fail "the bootstrap program (eng/bootstrap) did not build; see above."
  fi
  touch "$temporary/bin/Bootstrap/release/bootstrap.dll"
  rm -rf "$temporary/old"
  [ ! -e "$tool" ] || mv "$tool" "$temporary/old" 2>/dev/null || true
  mv "$temporary/bin/Bootstrap/release" "$tool" 2>/dev/null || [ -f "$tool/bootstrap.dll" ] || fail "cannot write $root/$tool."
  rm -rf "$temporary"
  trap - EXIT
fi
command -v dotnet >/dev/null || fail "the .NET SDK was not found: there is no 'dotnet' on PATH. Install the .NET SDK 10 and try again."
exec dotnet "$tool/bootstrap.dll" "$root" "$@"
