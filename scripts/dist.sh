#!/usr/bin/env bash
# Builds what is released into dist/: archives for Linux, macOS and Windows, Debian packages, a Windows installer, what
# the Dockerfile needs, and SHA256SUMS. Everything is cross-compiled on one Linux machine. The same sources give the
# same files, but for the Windows installer, which has to have another number each time.
#
#   scripts/dist.sh VERSION            all platforms (make dist)
#   scripts/dist.sh VERSION OS/ARCH…   these alone
set -euo pipefail
cd "$(dirname "$0")/.."

version=${1:?"usage: scripts/dist.sh VERSION [OS/ARCH]..."}
shift
[ $# -gt 0 ] || set -- linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64
version=${version#v}
# A build between releases has no number of its own; packages need one that begins with a digit.
[[ $version =~ ^[0-9]+\.[0-9]+ ]] || version=0.0.0~$version
# Windows Installer knows three numbers and nothing else.
[[ $version =~ ^([0-9]+\.[0-9]+(\.[0-9]+)?) ]]
numbers=${BASH_REMATCH[1]}

for tool in wixl msibuild python3 gzip; do
  command -v "$tool" >/dev/null || {
    echo "dist: $tool is missing: run scripts/install-test-deps.sh dist" >&2
    exit 1
  }
done

# Every file is as old as the commit, for whoever wants to compare two builds.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 315532800)} # zip knows no time before 1980
export SOURCE_DATE_EPOCH TZ=UTC
umask 022

archive() { # archive FOLDER TARGET FILE…
  local folder=$1 target=$2
  shift 2
  tar -C "$folder" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -cf - "$@" | gzip -9n >"$target"
}

# installer makes the one for Windows. wixl does not know the path of programs: those rows are added here.
installer() { # installer PROGRAM TARGET
  wixl -a x64 -D "Version=$numbers" -D "Program=$1" -o "$2" packaging/shareai.wxs
  # shellcheck disable=SC2016 # these quotes are of the installer's SQL
  for statement in \
    'CREATE TABLE `Environment` (`Environment` CHAR(72) NOT NULL, `Name` CHAR(255) NOT NULL LOCALIZABLE, `Value` CHAR(255) LOCALIZABLE, `Component_` CHAR(72) NOT NULL PRIMARY KEY `Environment`)' \
    'INSERT INTO `Environment` (`Environment`, `Name`, `Value`, `Component_`) VALUES ("path", "=-*PATH", "[~];[INSTALLDIR]", "program")' \
    'INSERT INTO `InstallExecuteSequence` (`Action`, `Sequence`) VALUES ("RemoveEnvironmentStrings", 3300)' \
    'INSERT INTO `InstallExecuteSequence` (`Action`, `Sequence`) VALUES ("WriteEnvironmentStrings", 5200)'; do
    msibuild "$2" -q "${statement//\"/\'}"
  done
}

rm -rf dist
mkdir dist
for target; do
  os=${target%/*} arch=${target#*/}
  place=dist/${os}_$arch
  program=$place/shareai
  [ "$os" != windows ] || program=$program.exe
  name=dist/shareai_${version}_${os}_$arch
  echo "dist: $target"
  CGO_ENABLED=0 GOOS=$os GOARCH=$arch go build -buildvcs=false -trimpath -ldflags "-s -w -X main.version=$version" -o "$program" ./cmd/shareai
  cp LICENSE NOTICE "$place"
  case $os in
  linux)
    archive "$place" "$name.tar.gz" shareai LICENSE NOTICE
    PROGRAM=$program ARCH=$arch VERSION=$version go tool -modfile=tools/packaging/go.mod nfpm package \
      --config packaging/nfpm.yaml --packager deb --target "dist/shareai_${version}_$arch.deb"
    ;;
  darwin)
    cp packaging/macos/* "$place"
    archive "$place" "$name.tar.gz" shareai LICENSE NOTICE README.txt shareai-node.plist
    ;;
  windows)
    touch -d "@$SOURCE_DATE_EPOCH" "$program" "$place/LICENSE" "$place/NOTICE"
    python3 -m zipfile -c "$name.zip" "$program" "$place/LICENSE" "$place/NOTICE"
    installer "$program" "dist/shareai_${version}_$arch.msi"
    ;;
  esac
done

# For the image: docker build -f packaging/Dockerfile dist
cp /etc/ssl/certs/ca-certificates.crt dist/
mkdir dist/data

(cd dist && sha256sum shareai_* >SHA256SUMS)
echo "dist: $(wc -l <dist/SHA256SUMS) files, with checksums in dist/SHA256SUMS"
