#!/usr/bin/env bash
# Installs, runs and removes what `make dist` has built, as users do: the Debian package, /install.sh of a running
# gateway, the archives, the image, the Windows installer under Wine. Everything happens in a mount namespace whose
# folders are thrown away: the machine stays as it is. Needs root. What can not be tried here is said at the end.
#
#   test/packaging/run.sh             all parts
#   test/packaging/run.sh PART…       archives, deb, script, image, windows
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ "${1:-}" != inside ]; then
  [ "$(id -u)" -eq 0 ] || {
    echo "packaging: this needs root, for mount namespaces" >&2
    exit 1
  }
  [ -s dist/SHA256SUMS ] || {
    echo "packaging: dist/ is missing: run make dist" >&2
    exit 1
  }
  exec unshare -m --propagation private "$0" inside "$@"
fi
shift
[ $# -gt 0 ] || set -- archives deb script image windows

work=$(mktemp -d)
processes=()
finish() {
  local code=$?
  for process in "${processes[@]+"${processes[@]}"}"; do
    kill "$process" 2>/dev/null || true
    wait "$process" 2>/dev/null || true
  done
  if [ -d "$work/wine" ]; then WINEPREFIX=$work/wine "${wine%/*}/wineserver" -k -w 2>/dev/null || true; fi
  umount -l "$work/layers" 2>/dev/null || true
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT
untried=()

fail() {
  echo "packaging: FAILED: $*" >&2
  exit 1
}
ok() { echo "packaging: ok: $*"; }
untried() {
  untried+=("$*")
  echo "packaging: NOT TRIED: $*" >&2
}
only() { # only PATTERN: the one file of dist/
  # shellcheck disable=SC2086 # a pattern
  set -- dist/$1
  [ -f "$1" ] || fail "there is no $1"
  echo "$1"
}
until_true() { # until_true COMMAND…: within ten seconds
  for _ in $(seq 100); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  return 1
}

# What is written from here on is in memory, and gone at the end.
mkdir "$work/layers"
mount -t tmpfs tmpfs "$work/layers"
for folder in etc usr var run; do
  mkdir -p "$work/layers/$folder/new" "$work/layers/$folder/work"
  mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$work/layers/$folder/new,workdir=$work/layers/$folder/work" "/$folder"
done
# As in a chroot that becomes an image: systemd writes and removes units, and starts nothing.
mkdir -p /run/systemd/system
export SYSTEMD_OFFLINE=1
unset SHAREAI_TOKEN SHAREAI_GATEWAY SHAREAI_DATA_DIR XDG_CONFIG_HOME
export HOME=$work/home
mkdir "$HOME"

leftovers() { # leftovers: what of ours was written and is there
  find "$work/layers"/*/new "$HOME" -iname '*shareai*' -print
}
verified() { # verified UNIT: systemd prints what it does not know, and exits with 0
  local said
  said=$(systemd-analyze verify --man=no "$1" 2>&1 | grep -F "$(basename "$1")" || true)
  [ -z "$said" ] || fail "systemd says of $1: $said"
}

# start_gateway starts a demo from the archive, whose program is then $program and whose address is $gateway, and makes
# a token, which is in $token.
start_gateway() {
  local dir=$work/gateway
  [ -n "${gateway:-}" ] || {
    mkdir "$dir"
    program=$dir/shareai
    tar -xzf "$(only 'shareai_*_linux_amd64.tar.gz')" -C "$dir" shareai
    "$program" demo --listen 127.0.0.1:0 --data-dir "$dir" >"$dir/log" 2>&1 &
    processes+=($!)
    until_true test -s "$dir/gateway.url" || fail "the demo does not start: $(tail -n 5 "$dir/log")"
    gateway=$(cat "$dir/gateway.url")
  }
  token=$("$program" nodes token --config "$dir/shareai.yaml" --data-dir "$dir" --organization demo | sed -n 's/^  \(nt-shareai-[A-Za-z0-9_-]*\)$/\1/p')
  [ -n "$token" ] || fail "there is no token"
}

# closed fails if a process listens anywhere.
closed() { # closed PID
  local found
  found=$(ss -H -lntup | grep -F "pid=$1," || true)
  [ -z "$found" ] || fail "the agent listens: $found"
  ss -H -ntp | grep -F "pid=$1," >/dev/null || fail "the scan sees nothing of the agent, not even its link"
}

part_archives() {
  (cd dist && sha256sum --quiet -c SHA256SUMS) || fail "SHA256SUMS is not right"
  for platform in linux_amd64 linux_arm64 darwin_amd64 darwin_arm64; do
    for file in shareai LICENSE NOTICE; do
      tar -tzf "$(only "shareai_*_$platform.tar.gz")" | grep -x "$file" >/dev/null || fail "$platform: $file is missing"
    done
  done
  for file in README.txt shareai-node.plist; do
    tar -tzf "$(only 'shareai_*_darwin_arm64.tar.gz')" | grep -x "$file" >/dev/null || fail "macOS: $file is missing"
  done
  python3 - packaging/macos/shareai-node.plist <<'PY'
import plistlib, sys
agent = plistlib.load(open(sys.argv[1], "rb"))
assert agent["ProgramArguments"][1:] == ["node", "run"] and agent["RunAtLoad"] is True, agent
PY
  python3 -m zipfile -l "$(only 'shareai_*_windows_amd64.zip')" | grep '^shareai.exe' >/dev/null || fail "the zip has no shareai.exe"
  mkdir "$work/archive"
  tar -xzf "$(only 'shareai_*_linux_amd64.tar.gz')" -C "$work/archive"
  "$work/archive/shareai" version >/dev/null || fail "the program of the archive does not run"
  # The names of other processors are in the files' own words.
  case $(od -An -tx1 -j18 -N2 dist/linux_arm64/shareai) in *b7*00*) ;; *) fail "linux_arm64 is not for arm64" ;; esac
  case $(od -An -tx1 -N8 dist/darwin_arm64/shareai) in *"cf fa ed fe 0c 00 00 01"*) ;; *) fail "darwin_arm64 is not for arm64" ;; esac
  ok "archives: checksums, contents, platforms; the Linux one runs"
  untried "the macOS builds were not run, and launchd read no property list: there is no macOS here"
}

part_deb() {
  local deb
  deb=$(only 'shareai_*_amd64.deb')
  [ "$(dpkg-deb -f "$(only 'shareai_*_arm64.deb')" Architecture)" = arm64 ] || fail "the package for arm64 is for another processor"
  [ -z "$(leftovers)" ] || fail "there is something of ours already: $(leftovers)"
  dpkg -i "$deb" >"$work/dpkg" 2>&1 || fail "dpkg: $(cat "$work/dpkg")"
  grep -q 'shareai node install' "$work/dpkg" || fail "the package does not say what to do next"
  [ "$(command -v shareai)" = /usr/bin/shareai ] || fail "shareai is not in the path"
  verified /usr/lib/systemd/system/shareai.service
  [ "$(stat -c %a /etc/shareai/environment)" = 600 ] || fail "others can read /etc/shareai/environment"
  { systemctl enable shareai >/dev/null 2>&1 && [ -L /etc/systemd/system/multi-user.target.wants/shareai.service ]; } || fail "the unit can not be enabled"

  # What the unit starts, in the foreground.
  mkdir "$work/deb"
  SHAREAI_DATA_DIR=$work/deb SHAREAI_LISTEN=127.0.0.1:0 /usr/bin/shareai serve >"$work/deb.log" 2>&1 &
  local process=$!
  processes+=("$process")
  until_true grep -q serving "$work/deb.log" || fail "the gateway does not start: $(cat "$work/deb.log")"
  { kill "$process" && wait "$process"; } || fail "the gateway does not end in order: $(cat "$work/deb.log")"
  ok "deb: installed, its unit is understood, the gateway runs"

  start_gateway
  installed_node /usr/bin/shareai

  # An upgrade keeps the service; a removal ends it and keeps data; purging keeps nothing.
  dpkg -i "$deb" >"$work/dpkg" 2>&1 || fail "upgrade: $(cat "$work/dpkg")"
  [ -f /etc/systemd/system/shareai-node.service ] || fail "the upgrade has removed the service"
  dpkg -r shareai >"$work/dpkg" 2>&1 || fail "removal: $(cat "$work/dpkg")"
  { [ ! -e /usr/bin/shareai ] && [ ! -e /etc/systemd/system/shareai-node.service ]; } || fail "the removal leaves the service"
  [ -f /var/lib/shareai-node/identity.json ] || fail "the removal has removed the node's key"
  dpkg -P shareai >"$work/dpkg" 2>&1 || fail "purging: $(cat "$work/dpkg")"
  systemctl disable shareai >/dev/null 2>&1 || true
  [ -z "$(leftovers)" ] || fail "purging leaves: $(leftovers)"
  ok "deb: upgraded, removed, purged without leftovers"
}

# installed_node makes this machine a node with the program's `node install`, and runs what the unit runs.
installed_node() { # installed_node PROGRAM
  if "$1" node install --gateway "$gateway" --token "${token%?}x" >"$work/said" 2>&1; then fail "a bad token was taken"; fi
  grep -q 'did not enrol' "$work/said" || fail "a bad token: $(cat "$work/said")"
  [ ! -e /etc/systemd/system/shareai-node.service ] || fail "a bad token leaves a service"
  { HTTPS_PROXY='' NO_PROXY=127.0.0.1 "$1" node install --gateway "$gateway" --token "$token" --discover usual --concurrency 3 >"$work/said" 2>&1 &&
    grep -q 'of demo' "$work/said"; } || fail "node install: $(cat "$work/said")"
  check_unit
}

# check_unit runs what the unit of the node runs, and scans its ports.
check_unit() {
  local unit=/etc/systemd/system/shareai-node.service command process
  verified "$unit"
  ! grep -q nt-shareai "$unit" || fail "the token is in the unit"
  [ "$(stat -Lc %a /var/lib/shareai-node)" = 700 ] || fail "others can look into /var/lib/shareai-node"
  command=$(sed -n 's/^ExecStart=//p' "$unit")
  # shellcheck disable=SC2086 # the words of a command line, none of which is quoted here
  $command >"$work/agent.log" 2>&1 &
  process=$!
  processes+=("$process")
  until_true linked "${command%% *}" || fail "the agent has no link: $(cat "$work/agent.log")"
  closed "$process"
  { kill "$process" && wait "$process"; } || fail "the agent does not end in order: $(cat "$work/agent.log")"
  ok "node: enrolled, unit verified, what it runs is linked, and no port is open"
}
linked() { "$1" node status --json | grep -q '"replica"'; }

part_script() {
  start_gateway
  curl -fsSL "$gateway/install.sh" >"$work/install.sh"
  sh "$work/install.sh" --token "$token" --discover usual >"$work/said" 2>&1 || fail "install.sh: $(cat "$work/said")"
  [ -x /usr/local/bin/shareai ] || fail "install.sh has put the program elsewhere: $(cat "$work/said")"
  check_unit
  # Again: the program is replaced, the token is not asked for.
  sh "$work/install.sh" --discover off --engine http://127.0.0.1:9 >"$work/said" 2>&1 || fail "install.sh again: $(cat "$work/said")"
  grep -q 'engine=http://127.0.0.1:9' /etc/systemd/system/shareai-node.service || fail "the flags of the second time are not in the unit"
  shareai node uninstall --purge >"$work/said" 2>&1 || fail "node uninstall: $(cat "$work/said")"
  rm /usr/local/bin/shareai
  [ -z "$(leftovers)" ] || fail "removing leaves: $(leftovers)"

  # Where there is no service manager the token is not used up.
  start_gateway
  rmdir /run/systemd/system
  if SYSTEMD_OFFLINE='' "$program" node install --gateway "$gateway" --token "$token" >"$work/said" 2>&1; then fail "there is a service manager"; fi
  { grep -q 'no service manager' "$work/said" && grep -q 'shareai node run' "$work/said"; } || fail "without a service manager: $(cat "$work/said")"
  mkdir /run/systemd/system
  "$program" node install --gateway "$gateway" --token "$token" >"$work/said" 2>&1 || fail "the token was used up: $(cat "$work/said")"
  "$program" node uninstall --purge >/dev/null
  [ -z "$(leftovers)" ] || fail "removing leaves: $(leftovers)"
  ok "install.sh: installs, enrols, installs again; removed without leftovers"
}

part_image() {
  if docker info >/dev/null 2>&1; then
    docker build -q -t shareai-packaging-test -f packaging/Dockerfile dist >/dev/null || fail "the image can not be built"
    docker run --rm shareai-packaging-test version >/dev/null || fail "the image does not run"
    docker rmi -f shareai-packaging-test >/dev/null
    docker compose -f packaging/compose.yaml --profile node config -q || fail "compose.yaml is not right"
    ok "image: built, and runs"
    return
  fi
  # The same files in an empty root, by the user of the image.
  local root=$work/image
  mkdir -p "$root/etc/ssl/certs" "$root/data"
  cp dist/linux_amd64/shareai "$root/shareai"
  cp dist/ca-certificates.crt "$root/etc/ssl/certs/"
  chown 65532:65532 "$root/data"
  chmod 755 "$work"
  chroot --userspec=65532:65532 "$root" /shareai version >/dev/null || fail "the program does not run in an empty root"
  SHAREAI_DATA_DIR=/data HOME=/data chroot --userspec=65532:65532 "$root" /shareai serve --listen 127.0.0.1:0 >"$work/image.log" 2>&1 &
  processes+=($!)
  until_true grep -q serving "$work/image.log" || fail "the gateway does not start in an empty root: $(cat "$work/image.log")"
  python3 -c 'import sys, re; t = open(sys.argv[1]).read(); assert re.search("(?m)^services:", t)' packaging/compose.yaml
  ok "image: its files run in an empty root"
  untried "the image was not built and compose.yaml not started: no Docker daemon is running here"
}

part_windows() {
  local msi
  msi=$(only 'shareai_*_amd64.msi')
  msiinfo export "$msi" ServiceInstall | grep shareai-node >/dev/null || fail "the installer has no service"
  msiinfo export "$msi" Environment | grep INSTALLDIR >/dev/null || fail "the installer does not set the path"
  msiextract -C "$work" -l "$msi" | grep 'shareai.exe' >/dev/null || fail "the installer has no program"
  untried "install.ps1 was not run: there is no PowerShell here"
  if ! [ -x /usr/lib/wine/wine64 ] && ! command -v wine64 >/dev/null; then
    untried "the Windows build and its installer were looked at, but not run: there is no Wine here"
    return
  fi
  wine=/usr/lib/wine/wine64
  [ -x "$wine" ] || wine=$(command -v wine64)
  export WINEPREFIX=$work/wine WINEDEBUG=-all WINEARCH=win64
  timeout 300 "$wine" wineboot -i >/dev/null 2>&1 || fail "Wine does not start"
  x86_64-w64-mingw32-gcc -shared -O2 -s -o "$WINEPREFIX/drive_c/windows/system32/bcryptprimitives.dll" test/packaging/bcryptprimitives.c -ladvapi32
  windows() { timeout 120 "$wine" "$@" </dev/null 2>&1 | tr -d '\r'; }
  windows dist/windows_amd64/shareai.exe version | grep 'windows/amd64' >/dev/null || fail "shareai.exe does not run"
  windows dist/windows_amd64/shareai.exe node --help | grep 'node install' >/dev/null || fail "shareai.exe node --help"
  { windows dist/windows_amd64/shareai.exe node install --user --gateway http://127.0.0.1:9 --token x || true; } | grep 'no services of a user' >/dev/null || fail "--user on Windows"

  windows msiexec /i "$msi" /qn || fail "the installer fails"
  local registry=$WINEPREFIX/system.reg
  windows 'C:\Program Files\ShareAI\shareai.exe' version | grep 'windows/amd64' >/dev/null || fail "the installed program does not run"
  until_true grep -qF 'Services\\shareai-node]' "$registry" || fail "the service is not registered"
  grep -q '^"PATH".*ShareAI' "$registry" || fail "the program is not in the path"
  windows msiexec /x "$msi" /qn || fail "the removal fails"
  [ ! -e "$WINEPREFIX/drive_c/Program Files/ShareAI/shareai.exe" ] || fail "the removal leaves the program"
  until_true bash -c "! grep -qF 'Services\\\\\\\\shareai-node]' '$registry'" || fail "the removal leaves the service"
  ok "windows: shareai.exe runs under Wine; the installer registers service and path, and removes them"
  untried "the service was not started by Windows: Wine does not tell a program that it is a service"
}

for part; do
  declare -F "part_$part" >/dev/null || fail "unknown part '$part'"
  "part_$part"
done
if [ ${#untried[@]} -gt 0 ]; then
  echo "packaging: everything that was tried is well. NOT TRIED on this machine:"
  printf '  - %s\n' "${untried[@]}"
fi
