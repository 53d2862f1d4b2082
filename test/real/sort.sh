# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154,SC2034 # variables are the runner's
#
# A shell pipeline: something that writes 4 million lines, then waits, then writes a few more, into
# `sort --parallel=4`, which keeps them in memory.  Dumped while it waits: three processes and a
# pipe; after the restore sort starts four threads, and all of them need what is missing.

modes="off full"
nr_lines=4000000
min_missing=20000

needs() { command -v sort awk >/dev/null || skip "no sort or awk"; }

# lines FROM TO: no two alike, in no order.
lines='function h(i) { return (i * 2654435761) % 4294967296 }
BEGIN { for (i = from; i < to; i++) printf "%010d line %d with some words to fill it\n", h(i), i }'

start() {
	cat >"$dir/pipeline" <<-END
		{
			awk -v from=0 -v to=$nr_lines '$lines'
			: >"$dir/written"
			until [ -e "$dir/go" ]; do sleep 0.02; done
			awk -v from=$nr_lines -v to=$((nr_lines + 1000)) '$lines'
			awk -v from=-1000 -v to=0 '$lines'
		} | LC_ALL=C sort --parallel=4 -S 2G -T "$dir" >"$dir/sorted"
		echo "\${PIPESTATUS[*]}" >"$dir/status.new"
		mv "$dir/status.new" "$dir/exit"
	END
	launch bash "$dir/pipeline"
	until_ "the lines to be written" exists "$dir/written"
}

remember() {
	awk -v from=-1000 -v to=$((nr_lines + 1000)) "$lines" | LC_ALL=C sort -T "$dir" -S 1G |
		sha256sum >"$dir/wanted"
	[ ! -e "$dir/exit" ] || fail "sort has ended already"
}

# It sorts while memory is missing.
ask() { : >"$dir/go"; }

compare() {
	until_ "sort to end" exists "$dir/exit"
	[ "$(cat "$dir/exit")" = "0 0" ] || fail "exit status $(cat "$dir/exit")"
	[ "$(sha256sum <"$dir/sorted")" = "$(cat "$dir/wanted")" ] || fail "it is sorted wrongly"
	[ -s "$dir/wanted" ] && seen="sorted right"
}
