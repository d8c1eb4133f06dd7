#!/bin/sh
# Stands in for `bgagent worker --session DIR`: speaks the protocol of the session folder and does nothing else.
# TOY says what to do; DIR/ready appears when that has begun. Ends by itself when
# DIR/end says with which code; it and all it starts end after a minute in any case.
if [ "$TOY_DETACHED" != yes ]; then
    TOY_DETACHED=yes exec setsid "$0" "$@"
fi
dir=$3

case $TOY in
broken)
    echo "toy: cannot come up" >&2
    exit 7
    ;;
esac

exec 9>>"$dir/lock"
flock -n 9 || exit 0
[ -e "$dir/pid" ] && exit 3
token=$(cat "$dir/bootstrap" 9>&-) || exit 4
printf '{"pid":%d,"start_ticks":%s}' $$ "$(cut -d ' ' -f 22 /proc/$$/stat 9>&-)" >"$dir/.pid.new"
mv "$dir/.pid.new" "$dir/pid"
rm "$dir/bootstrap"
echo "toy: took the session, token of ${#token} characters" >&2

case $TOY in
graceful)
    trap 'echo yes >"$dir/graceful"; exit 0' TERM
    ;;
stubborn)
    trap '' TERM
    ;;
environment)
    env >"$dir/environment"
    ;;
tree)
    # A child that ignores TERM.
    sh -c 'trap "" TERM; echo $$ >"$1/tree.stubborn"; sleep 60; :' sh "$dir" 9>&- &
    # A daemon: forked twice, in a POSIX session of its own, its parents gone.
    (setsid sh -c 'trap "" TERM; (echo $$ >"$1/tree.daemon"; exec sleep 60) & wait' sh "$dir" 9>&- &)
    # One that forgot its environment and its parents, but not the worker's POSIX session.
    (env -i /bin/sh -c 'echo $$ >"$1/tree.bare"; exec sleep 60' sh "$dir" 9>&- &)
    # One that goes on forking.
    sh -c 'trap "" TERM; echo $$ >"$1/tree.forking"; n=2000
        while [ $((n -= 1)) -gt 0 ]; do (trap "" TERM; sleep 0.2) & sleep 0.02; done' \
        sh "$dir" 9>&- &
    ;;
esac

echo yes >"$dir/ready"

turns=1200
while [ ! -e "$dir/end" ] && [ $turns -gt 0 ]; do
    sleep 0.05 9>&-
    turns=$((turns - 1))
done
[ -e "$dir/end" ] && exit "$(cat "$dir/end" 9>&-)"
exit 9
