#!/bin/bash
# Stands in for node:20-bookworm-slim where no registry can be reached: Debian by debootstrap, with this machine's Node
# and npm at the places where that image has them. Needs root, debootstrap and podman.
#
#   test/containers/base-image.sh NAME
set -euo pipefail
NAME=$1
ROOT=$(mktemp -d)
trap 'rm -rf "$ROOT"' EXIT
debootstrap --variant=minbase --include=libstdc++6 bookworm "$ROOT" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
rm -rf "$ROOT"/var/cache/apt/* "$ROOT"/var/lib/apt/lists/* "$ROOT"/usr/share/{doc,man,locale}/*

npm=$(dirname "$(dirname "$(realpath "$(command -v npm)")")")
include=$(node -p 'path.resolve(process.execPath, "../../include/node")')
mkdir -p "$ROOT"/usr/local/lib/node_modules "$ROOT"/usr/local/include
cp "$(node -p process.execPath)" "$ROOT"/usr/local/bin/node
cp -a "$npm" "$ROOT"/usr/local/lib/node_modules/npm
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$ROOT"/usr/local/bin/npm
ln -s ../lib/node_modules/npm/bin/npx-cli.js "$ROOT"/usr/local/bin/npx
cp -a "$include" "$ROOT"/usr/local/include/node
tar -C "$ROOT" -c . | podman import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$NAME"
