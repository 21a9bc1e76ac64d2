#!/bin/sh
# The steps around the program of a mount, run as root in the host's mount namespace.
#
#   mount-unit.sh prepare DIRECTORY             before it: DIRECTORY/mounts shows DIRECTORY/bare, read-only
#   mount-unit.sh release MOUNTPOINT SOURCE     after its end: detach what a killed program leaves behind
#   mount-unit.sh discard FOLDER                after the end of a shared connection: its files, and nothing deeper
#
# SOURCE is the source of the mount in mountinfo, which no other mount has: the unit of one mount ends while the next one
# is made on the same mountpoint, and must never take that for its own.
set -u

top() { # source of the mount on top at that mountpoint, nothing where none is; in one process, not line by line
    WHERE=$1 awk '
        BEGIN {
            where = ENVIRON["WHERE"]
            gsub(/\\/, "\\134", where); gsub(/ /, "\\040", where); gsub(/\t/, "\\011", where)
        }
        $5 == where { for (i = 6; $i != "-"; i++); found = $(i + 2) }
        END { print found }' /proc/self/mountinfo
}

case $1 in
prepare)
    [ -n "$(top "$2/mounts")" ] && exit 0
    exec 9<"$2"
    flock 9
    [ -n "$(top "$2/mounts")" ] && exit 0
    # "bare" is made a mount of its own and private, so that what is mounted below "mounts" does not appear there too;
    # "mounts" is shared, so that a sandboxed service sees what is mounted.
    [ -n "$(top "$2/bare")" ] || mount --bind "$2/bare" "$2/bare" || exit 1
    mount --make-private "$2/bare" || exit 1
    exec mount --bind -o ro "$2/bare" "$2/mounts"
    ;;
release)
    while [ "$(top "$2")" = "$3" ]; do
        umount --lazy -- "$2" || exit 1
    done
    ;;
discard)
    [ -d "$2" ] || exit 0
    rm -f -- "$2"/*
    rmdir -- "$2"
    ;;
*)
    echo "usage: mount-unit.sh prepare DIRECTORY | release MOUNTPOINT SOURCE | discard FOLDER" >&2
    exit 2
    ;;
esac
