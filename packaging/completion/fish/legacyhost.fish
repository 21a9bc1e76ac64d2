# Completion of legacyhost(1) for fish: the command itself says what can come next.

function __legacyhost_complete
    set -l before (commandline -opc)
    set -l typed (commandline -ct)
    set -l candidates (legacyhost __complete $before[2..-1] "$typed" 2>/dev/null </dev/null)
    if test "$candidates" = /
        __fish_complete_path "$typed"
    else
        string join \n -- $candidates
    end
end
complete -c legacyhost -f -a '(__legacyhost_complete)'
