#!/bin/sh
# Stands in for this program in both containers of a box: `worker --session DIR --tools-socket PATH`, which takes the
# session and does nothing else, and `box-tools --socket PATH`, which runs /box/repo/do when there is one and answers in
# /box/repo/did. TOY in the environment of the plan says what else to do; both end after two minutes in any case.
turns=2400

case $1 in
worker)
    dir=$3
    trap 'echo yes >"$dir/graceful"; exit 0' TERM
    [ -e "$dir/stubborn" ] && trap '' TERM
    [ -e "$dir/pid" ] && exit 3
    token=$(cat "$dir/bootstrap") || exit 4
    printf '{"pid":%d,"start_ticks":1}' $$ >"$dir/.pid.new"
    mv "$dir/.pid.new" "$dir/pid"
    rm "$dir/bootstrap"
    echo "toy: took the session, token of ${#token} characters" >&2
    env >"$dir/environment"
    while [ $turns -gt 0 ]; do
        [ -e "$dir/end" ] && exit "$(cat "$dir/end")"
        if [ -e "$dir/do" ]; then
            sh "$dir/do" >"$dir/did.new" 2>&1
            rm "$dir/do"
            mv "$dir/did.new" "$dir/did"
        fi
        sleep 0.05
        turns=$((turns - 1))
    done
    exit 9
    ;;
box-tools)
    case $TOY in
    broken) echo "toy: cannot come up" >&2; exit 7 ;;
    esac
    while [ $turns -gt 0 ]; do
        if [ -e /box/repo/do ]; then
            sh /box/repo/do >/box/repo/did.new 2>&1
            echo "code $?" >>/box/repo/did.new
            rm /box/repo/do
            mv /box/repo/did.new /box/repo/did
        fi
        sleep 0.05
        turns=$((turns - 1))
    done
    ;;
*)
    exit 2
    ;;
esac
