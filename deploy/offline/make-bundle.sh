#!/bin/sh
# Makes a folder from which a node is installed on a machine without network: all wheels, the program, the units, a
# list of Debian packages, and the checksums of all that. Run it on a machine with network and with the same Debian,
# the same minor version of Python and the same processor as the target.
#
#   deploy/offline/make-bundle.sh FOLDER [cpu|cuda]
#
# TORCH_INDEX names another index that has torch without CUDA; empty, if the usual ones of pip have it.
set -eu
folder=${1:?usage: make-bundle.sh FOLDER [cpu|cuda]}
kind=${2:-cpu}
python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")/../.." && pwd)

[ ! -e "$folder" ] || { echo "$folder is there already" >&2; exit 2; }
mkdir -p "$folder/wheels" "$folder/systemd"
folder=$(cd "$folder" && pwd)

cp "$here/deploy/constraints.txt" "$folder/pins.txt"
set --
case "$kind" in
cpu)
    index=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}
    [ -z "$index" ] || set -- --extra-index-url "$index"
    sed -i -E 's/^(torch==[0-9.]+)$/\1+cpu/' "$folder/pins.txt"
    ;;
cuda) ;;
*)
    echo "cpu or cuda, not $kind" >&2
    exit 2
    ;;
esac

"$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder/wheels" "$here"
# wheel, for what is published as source only: whoever installs has no compiler and no network
"$python" -m pip wheel --quiet "$@" --wheel-dir "$folder/wheels" --requirement "$folder/pins.txt"

cp "$here/deploy/offline/install.sh" "$here/deploy/README.md" "$here/LICENSE" "$here/NOTICE" "$folder"
cp "$here"/deploy/systemd/* "$folder/systemd"
cp "$here/config/node.toml" "$folder"
printf '%s\n' python3-venv >"$folder/debian-packages.txt"
"$python" -c 'import platform, sys
print("python=%d.%d" % sys.version_info[:2])
print("machine=" + platform.machine())' >"$folder/made-for.txt"
echo "kind=$kind" >>"$folder/made-for.txt"
(cd "$folder" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) >"$folder.sums"
mv "$folder.sums" "$folder/SHA256SUMS"
du -sh "$folder" | cut -f1 | sed "s|\$| in $folder; its checksum, to be carried separately:|"
sha256sum "$folder/SHA256SUMS"
