# How full the file system of $1 is; fails at more than $2 percent.
set -eu
used=$(df -P "$1" | awk 'NR == 2 { sub("%", "", $5); print $5 }')
echo "$1 is $used % full"
printf '{"used_percent": %d}\n' "$used" >"$MUSTER_TASK_OUTPUTS"
test "$used" -le "$2"
