#!/usr/bin/env bash
# Prints a CSV of tests/data with its day offsets (+12d, -3d) turned into dates counted from today, so that the sample
# calendar always has something overdue and something due tomorrow.
#   scripts/calendar.sh tests/data/calendar.csv
set -euo pipefail

# Days are counted in UTC: where clocks changed meanwhile, `date` would be an hour off, and near midnight a day.
today=$(date +%F)
while IFS= read -r line; do
  if [[ $line =~ ^(.*,)([+-][0-9]+)d(,.*)$ ]]; then
    line=${BASH_REMATCH[1]}$(date -u -d "$today ${BASH_REMATCH[2]} days" +%F)${BASH_REMATCH[3]}
  fi
  printf '%s\n' "$line"
done <"$1"
