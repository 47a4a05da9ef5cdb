#!/bin/sh
# Installs the node from the folder in which this script lies, without network. As root:
#
#   ./install.sh [CHECKSUM OF SHA256SUMS]
#
# It puts the program into /opt/orgseg and the units where systemd finds them; nothing is started, and no configuration
# that is there already is changed. Another place than / for all of it, as for a trial: DESTDIR=/tmp/trial.
set -eu
expected=${1:-}
here=$(cd "$(dirname "$0")" && pwd)
root=${DESTDIR:-}
python=${PYTHON:-python3}
cd "$here"

refuse() {
    echo "$1; nothing was installed" >&2
    exit 1
}

if [ -n "$expected" ]; then
    [ "$(sha256sum SHA256SUMS | cut -d' ' -f1)" = "$expected" ] || refuse "SHA256SUMS is not the expected one"
fi
sha256sum --check --quiet --strict SHA256SUMS || refuse "The bundle was damaged or changed"
found=$(find . -type f ! -name SHA256SUMS | LC_ALL=C sort)
listed=$(cut -c67- SHA256SUMS | LC_ALL=C sort)
[ "$found" = "$listed" ] || refuse "The bundle holds files that are not in SHA256SUMS"

needs=$(sed -n 's/^python=//p' made-for.txt)
has=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$needs" = "$has" ] || refuse "The bundle is for Python $needs, and $python is $has"
[ "$(sed -n 's/^machine=//p' made-for.txt)" = "$(uname -m)" ] || refuse "The bundle is for another processor"

# A new environment beside the old one, put in its place when it is whole: an upgrade that fails changes nothing.
new="$root/opt/orgseg/venv-new"
rm -rf "$new"
mkdir -p "$root/opt/orgseg/share"
"$python" -m venv "$new"
"$new/bin/pip" --isolated install --quiet --disable-pip-version-check --no-index --find-links wheels \
    --constraint pins.txt 'orgseg-node[fast]'
"$new/bin/pip" --isolated check --disable-pip-version-check
"$new/bin/orgseg" --version
# the programs in bin/ name their interpreter by its whole path
grep -rlIF "$new" "$new/bin" "$new/pyvenv.cfg" | xargs sed -i "s|$new|${root}/opt/orgseg/venv|g"
rm -rf "$root/opt/orgseg/venv-before"
[ ! -d "$root/opt/orgseg/venv" ] || mv "$root/opt/orgseg/venv" "$root/opt/orgseg/venv-before"
mv "$new" "$root/opt/orgseg/venv"

cp README.md LICENSE NOTICE "$root/opt/orgseg/share"
install -D -m 0644 systemd/orgseg.sysusers.conf "$root/usr/lib/sysusers.d/orgseg.conf"
install -D -m 0644 systemd/orgseg.tmpfiles.conf "$root/opt/orgseg/share/orgseg.tmpfiles.conf"
for unit in systemd/*.service systemd/*.target; do
    install -D -m 0644 "$unit" "$root/etc/systemd/system/$(basename "$unit")"
done
for config in node.toml systemd/receiver.toml systemd/worker.toml; do
    name=$(basename "$config")
    [ -e "$root/etc/orgseg/$name" ] || install -D -m 0644 "$config" "$root/etc/orgseg/$name"
done
echo "Installed in ${root}/opt/orgseg. Next: README.md there."
