#!/usr/bin/env bash
# Builds what is released into dist/: archives for Linux, macOS and Windows, Debian packages, a Windows installer, what
# the Dockerfile needs, and SHA256SUMS. Everything is cross-compiled on one Linux machine. Needs wixl (Debian: wixl).
set -euo pipefail
cd "$(dirname "$0")/.."

version=${1:?"usage: scripts/dist.sh VERSION"}
version=${version#v}
# A build between releases has no number of its own; packages need one that begins with a digit.
[[ $version =~ ^[0-9]+\.[0-9]+ ]] || version=0.0.0~$version
# Windows Installer knows three numbers and nothing else.
[[ $version =~ ^([0-9]+\.[0-9]+(\.[0-9]+)?) ]]
numbers=${BASH_REMATCH[1]}

command -v wixl >/dev/null || {
  echo "dist: wixl is needed for the Windows installer (Debian: sudo apt-get install wixl)" >&2
  exit 1
}

rm -rf dist
mkdir dist
for target in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64; do
  os=${target%/*} arch=${target#*/}
  place=dist/${os}_$arch
  program=$place/shareai
  [ "$os" = windows ] && program=$program.exe
  echo "dist: $target"
  CGO_ENABLED=0 GOOS=$os GOARCH=$arch go build -trimpath -ldflags "-s -w -X main.version=$version" -o "$program" ./cmd/shareai
  cp LICENSE NOTICE "$place"
  case $os in
  linux)
    tar -C "$place" --owner=0 --group=0 -czf "dist/shareai_${version}_${os}_$arch.tar.gz" shareai LICENSE NOTICE
    PROGRAM=$program ARCH=$arch VERSION=$version go tool -modfile=tools/go.mod nfpm package \
      --config packaging/nfpm.yaml --packager deb --target "dist/shareai_${version}_$arch.deb"
    ;;
  darwin)
    tar -C "$place" --owner=0 --group=0 -czf "dist/shareai_${version}_${os}_$arch.tar.gz" shareai LICENSE NOTICE
    ;;
  windows)
    python3 -m zipfile -c "dist/shareai_${version}_${os}_$arch.zip" "$program" LICENSE NOTICE
    wixl -a x64 -D "Version=$numbers" -D "Program=$program" -o "dist/shareai_${version}_$arch.msi" packaging/shareai.wxs
    ;;
  esac
done
cp /etc/ssl/certs/ca-certificates.crt dist/

(cd dist && sha256sum shareai_* >SHA256SUMS)
echo "dist: $(wc -l <dist/SHA256SUMS) files, with checksums in dist/SHA256SUMS"
