#!/bin/sh
# The steps around the program of a mount, run as root in the host's mount namespace.
#
#   mount-unit.sh prepare DIRECTORY             before it: DIRECTORY/mounts shows DIRECTORY/bare, read-only
#   mount-unit.sh await MOUNTPOINT SOURCE       after its start: wait until its mount is there and answers
#   mount-unit.sh release MOUNTPOINT SOURCE     after its end: detach what a killed program leaves behind
#   mount-unit.sh discard FOLDER                after the end of a shared connection: its files, and nothing deeper
#
# SOURCE is the source of the mount in mountinfo, which no other mount has: the unit of one mount ends while the next one
# is made on the same mountpoint, and must never take that for its own. MAINPID (set by systemd) is the program's process.
# sshfs mounts before it connects, so a line in mountinfo says nothing about the connection: only the first answer does.
# The stat is made here, by a process that may hang and be killed.
set -u

# Kilobytes the kernel reads ahead: FUSE's own 128 leave a line with a round trip of 10 ms mostly idle. More than this
# gains nothing more, and costs those who read at random.
READ_AHEAD=2048

top() { # source and device of the mount on top at that mountpoint, nothing where none is; in one process, not line by line
    WHERE=$1 awk '
        BEGIN {
            where = ENVIRON["WHERE"]
            gsub(/\\/, "\\134", where); gsub(/ /, "\\040", where); gsub(/\t/, "\\011", where)
        }
        $5 == where { for (i = 6; $i != "-"; i++); found = $(i + 2) " " $3 }
        END { print found }' /proc/self/mountinfo
}

read_ahead() { # of the mount with that device; what is known about it without touching the mount
    file=/sys/class/bdi/$1/read_ahead_kb
    # Where /sys cannot be written, in a container for example, the mount is only slower.
    { echo $READ_AHEAD >"$file"; } 2>/dev/null ||
        echo "the kernel reads no more than $(cat "$file" 2>/dev/null || echo '?') KiB ahead: $file cannot be written" >&2
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
        mounted=$(top "$2")
        # When it has answered, the kernel has settled what it reads ahead, which may be changed then.
        if [ "${mounted% *}" = "$3" ] && stat -- "$2" >/dev/null 2>&1 && [ "$(top "$2")" = "$mounted" ]; then
            # Three requests more, so that transport/early.py can let the mount's own connection speak to sshfs itself.
            [ -z "${LEGACYHOST_SHARED:-}" ] || stat -f -- "$2" "$2" "$2" >/dev/null 2>&1
            read_ahead "${mounted#* }"
            exit 0
        fi
        sleep "$pause"
        # Many mounts at once would otherwise spend the processor on looking.
        case $pause in 0.01) pause=0.02 ;; 0.02) pause=0.05 ;; *) pause=0.1 ;; esac
    done
    exit 1
    ;;
release)
    while mounted=$(top "$2") && [ "${mounted% *}" = "$3" ]; do
        umount --lazy -- "$2" || exit 1
    done
    ;;
discard)
    [ -d "$2" ] || exit 0
    rm -f -- "$2"/*
    rmdir -- "$2"
    ;;
*)
    echo "usage: mount-unit.sh prepare DIRECTORY | await MOUNTPOINT SOURCE | release MOUNTPOINT SOURCE | discard FOLDER" >&2
    exit 2
    ;;
esac
