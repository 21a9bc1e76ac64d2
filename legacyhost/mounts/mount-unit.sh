#!/bin/sh
# The steps around the program of a mount, run as root in the host's mount namespace.
#
#   mount-unit.sh prepare DIRECTORY             before it: DIRECTORY/mounts shows DIRECTORY/bare, read-only
#   mount-unit.sh await MOUNTPOINT SOURCE       after its start: wait until its mount is there and answers
#   mount-unit.sh release MOUNTPOINT SOURCE     after its end: detach what a killed program leaves behind
#
# SOURCE is the source of the mount in mountinfo, which no other mount has: the unit of one mount ends while the next one
# is made on the same mountpoint, and must never take that for its own. MAINPID (set by systemd) is the program's process.
# sshfs mounts before it connects, so a line in mountinfo says nothing about the connection: only the first answer does.
# The stat is made here, by a process that may hang and be killed.
set -u

top() { # the source of the mount on top at that mountpoint, empty where nothing is mounted
    escaped=$(printf '%s' "$1" | sed 's/\\/\\134/g; s/ /\\040/g; s/\t/\\011/g')
    found=
    while read -r _ _ _ _ where rest; do
        [ "$where" = "$escaped" ] || continue
        rest=${rest#* - }
        rest=${rest#* }
        found=${rest%% *}
    done </proc/self/mountinfo
    printf '%s\n' "$found"
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
await)
    pause=0.01
    while kill -0 "$MAINPID" 2>/dev/null; do
        if [ "$(top "$2")" = "$3" ] && stat -- "$2" >/dev/null 2>&1 && [ "$(top "$2")" = "$3" ]; then
            exit 0
        fi
        sleep "$pause"
        # Many mounts at once would otherwise spend the processor on looking.
        case $pause in 0.01) pause=0.02 ;; 0.02) pause=0.05 ;; *) pause=0.1 ;; esac
    done
    exit 1
    ;;
release)
    while [ "$(top "$2")" = "$3" ]; do
        umount --lazy -- "$2" || exit 1
    done
    ;;
*)
    echo "usage: mount-unit.sh prepare DIRECTORY | await MOUNTPOINT SOURCE | release MOUNTPOINT SOURCE" >&2
    exit 2
    ;;
esac
