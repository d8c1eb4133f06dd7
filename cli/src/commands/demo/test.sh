#!/bin/sh
# Each line: two numbers and their sum.
failed=0
while read -r a b want; do
  got=$(sh add.sh "$a" "$b")
  if [ "$got" = "$want" ]; then
    echo "ok: $a + $b = $got"
  else
    echo "FAILED: $a + $b is $want, not $got"
    failed=1
  fi
done <<CASES
1 2 3
0 0 0
5 -3 2
-4 -6 -10
CASES
exit $failed
