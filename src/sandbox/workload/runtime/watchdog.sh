# Outlives lhrun: when its end of the pipe closes, whatever the reason, the process groups that are still registered
# are ended and the folder of the run is removed. Lines: "+ PID" registers a group, "- PID" forgets it.
trap '' HUP INT TERM
groups=' '
while read -r change pid; do
    case $change in
    +) groups="$groups$pid " ;;
    -) groups="${groups%% "$pid" *} ${groups#* "$pid" }" ;;
    esac
done
# PostgreSQL answers QUIT by ending at once, but gives its System V memory back first.
for signal in QUIT KILL; do
    for pid in $groups; do
        kill -s "$signal" -- "-$pid" 2>/dev/null
        for _ in 1 2 3 4 5; do
            kill -s 0 -- "-$pid" 2>/dev/null || break
            sleep 0.2
        done
    done
done
# Children of a killed process may need a moment to notice, and write files until then.
for _ in 1 2 3 4 5; do
    rm -rf -- "$1" 2>/dev/null && break
    sleep 1
done
