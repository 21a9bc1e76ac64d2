#!/bin/sh
# The two steps around the program of a mount, run as root in the host's mount namespace.
#
#   mount-unit.sh prepare DIRECTORY     before it: DIRECTORY/mounts shows DIRECTORY/bare, read-only
#   mount-unit.sh await MOUNTPOINT      after its start: wait until the mount is there and answers
#
# MOUNTPOINT is written as in mountinfo; MAINPID (set by systemd) is the program's process.
# sshfs mounts before it connects, so a line in mountinfo alone says nothing about the connection: only the first
# answer does. The stat is made here, by a process that may hang and be killed.
set -u

is_mounted() {
    while read -r _ _ _ _ where _; do
        [ "$where" = "$1" ] && return 0
    done </proc/self/mountinfo
    return 1
}

escaped() {
    printf '%s' "$1" | sed 's/\\/\\134/g; s/ /\\040/g; s/\t/\\011/g'
}

case $1 in
prepare)
    bare=$(escaped "$2/bare")
    mounts=$(escaped "$2/mounts")
    is_mounted "$mounts" && exit 0
    exec 9<"$2"
    flock 9
    is_mounted "$mounts" && exit 0
    # "bare" is made a mount of its own and private, so that what is mounted below "mounts" does not appear there too;
    # "mounts" is shared, so that a sandboxed service sees what is mounted.
    is_mounted "$bare" || mount --bind "$2/bare" "$2/bare" || exit 1
    mount --make-private "$2/bare" || exit 1
    exec mount --bind -o ro "$2/bare" "$2/mounts"
    ;;
await)
    path=$(printf '%b' "$(printf '%s' "$2" | sed 's/\\\([0-7][0-7][0-7]\)/\\0\1/g')")
    while kill -0 "$MAINPID" 2>/dev/null; do
        if is_mounted "$2" && stat -- "$path" >/dev/null 2>&1 && is_mounted "$2"; then
            exit 0
        fi
        sleep 0.01
    done
    exit 1
    ;;
*)
    echo "usage: mount-unit.sh prepare DIRECTORY | await MOUNTPOINT" >&2
    exit 2
    ;;
esac
