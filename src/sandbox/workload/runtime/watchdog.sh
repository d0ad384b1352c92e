# Outlives lhrun: when its end of the pipe closes, whatever the reason, the process groups that are still registered
# are killed and the folder of the run is removed. Lines: "+ PID" registers a group, "- PID" forgets it.
trap '' HUP INT TERM
groups=' '
while read -r change pid; do
    case $change in
    +) groups="$groups$pid " ;;
    -) groups="${groups%% "$pid" *} ${groups#* "$pid" }" ;;
    esac
done
for pid in $groups; do
    kill -s KILL -- "-$pid" 2>/dev/null
done
# Children of a killed process may need a moment to notice, and write files until then.
for _ in 1 2 3 4 5; do
    rm -rf -- "$1" 2>/dev/null && break
    sleep 1
done
