#!/bin/bash
# The commands of docs/tutorial.md, one after the other, in a guest:
#   make tutorial
set -u
python=build/venv/bin/python
say() { printf '\n$ %s\n' "$*"; }
trace() { say livedump-trace "$@"; $python -c 'from livedump.cli.trace import main; main()' "$@"; }
rm -rf build/tutorial
mkdir -p build/tutorial
cd build/tutorial || exit 1
python=../../$python
export PYTHONPATH=../..
insmod "$LIVEDUMP_KO/livedump.ko"
service="$python -m tools.load.requests"

trace record -o before --kind user --comm ldservice -- $service 5
trace record -o after --kind user --comm ldservice -- $service 5 --huge
trace diff before after --fail-on 'p99(user)>+50%'
echo "exit status $?"
trace report after
trace record -o caught --comm ldservice --snapshot-when 'p99(user)>1ms for 1s' \
	--dump "$LIVEDUMP_DISK" -- $service 12 --huge
echo "exit status $?"
trace report caught --kind user
trace report caught --kind cow
rmmod livedump
