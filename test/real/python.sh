# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154,SC2034 # variables are the runner's
#
# python3 with a heap of some 400 MiB in dicts, lists, bytes and objects, threads that work on it
# all the time, and a subprocess with a heap of its own at the other end of a pipe.  It computes a
# hash over all of it before the dump, and again afterwards: python-heap.py, beside this.

modes="off full"
min_missing=30000

needs() { [ -x /usr/bin/python3 ] || skip "python3 is not installed"; }

start() {
	launch /usr/bin/python3 "$here/python-heap.py" "$dir"
	until_ "the program to be ready" ready
	[ -e "$dir/ready" ] || fail "the program ended before it was ready"
}
ready() { [ -e "$dir/ready" ] || ended "$root"; }

remember() { :; }

# The first thing it is asked is a little: a few entries and the subprocess.
ask() {
	: >"$dir/ask"
	until_ "the first answer" verdict_in answer
	[ "$(cat "$dir/answer")" = PASS ] || fail "first answer: $(cat "$dir/answer")"
	seen="first answer $(($(now_ms) - restore_began)) ms after criu restore began"
}
verdict_in() { [ -s "$dir/$1" ] || gone; }
gone() { [ ! -e "/proc/$root/stat" ]; }

compare() {
	: >"$dir/go"
	until_ "the verdict" verdict_in verdict
	[ "$(cat "$dir/verdict" 2>/dev/null)" = PASS ] ||
		fail "$(cat "$dir/verdict" 2>/dev/null || echo 'it ended without a verdict')"
	until_ "the program to end" gone
	seen+="; same hashes"
}
