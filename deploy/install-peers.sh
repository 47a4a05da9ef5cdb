#!/bin/sh
# The independent programs that tests run beside the node. Without root they are left as they are, and the
# tests that need them say that they were skipped.
set -eu
missing=""
command -v dcmdump >/dev/null || missing="$missing dcmtk"
command -v dciodvfy >/dev/null || missing="$missing dicom3tools"
command -v plastimatch >/dev/null || missing="$missing plastimatch"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of words is meant
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
else
    echo "Not installed:$missing. Tests that need them are skipped; install them with your package manager." >&2
fi
