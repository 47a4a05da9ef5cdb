#!/bin/sh
# The independent programs that tests run beside the node. Without root they are left as they are, and the
# tests that need them say that they were skipped.
set -eu
PATH="$PATH:/usr/sbin" # where Debian puts Orthanc
missing=""
command -v dcmdump >/dev/null || missing="$missing dcmtk"
command -v dciodvfy >/dev/null || missing="$missing dicom3tools"
command -v plastimatch >/dev/null || missing="$missing plastimatch"
command -v Orthanc >/dev/null || missing="$missing orthanc"
[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || missing="$missing orthanc-dicomweb"
command -v systemd-analyze >/dev/null || missing="$missing systemd"
[ -n "$(find /usr/lib/postgresql -name initdb 2>/dev/null)" ] || missing="$missing postgresql"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    # RUNLEVEL: tests start an Orthanc and a PostgreSQL of their own; the system's services are not to be started
    # shellcheck disable=SC2086  # a list of words is meant
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
    case "$missing" in
    *orthanc*) ! command -v systemctl >/dev/null || systemctl disable --now orthanc 2>/dev/null || true ;;
    esac
    case "$missing" in
    *postgresql*) ! command -v systemctl >/dev/null || systemctl disable --now postgresql 2>/dev/null || true ;;
    esac
else
    echo "Not installed:$missing. Tests that need them are skipped; install them with your package manager." >&2
fi
