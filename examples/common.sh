# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What runc-local and runc-remote share: a lazy restore of a runc container.  To be sourced.
#
#   RUNC        how to start runc (runc); more words are options, as in RUNC="runc --root DIR"
#   CRIU_LAZY   how to start the helper (criu-lazy)

read -r -a runc <<<"${RUNC:-runc}"
read -r -a criu_lazy <<<"${CRIU_LAZY:-criu-lazy}"

say() { echo "${0##*/}: $*" >&2; }
die() { say "$*"; exit 1; }

# wait_for_byte FD PID: until a byte arrives on FD, which is what --status-fd promises.  False if
# process PID ends before.  Polls, since `read` with a timeout may lose a byte that comes with it.
wait_for_byte() {
	until read -r -t 0 -u "$1"; do
		kill -0 "$2" 2>/dev/null || return 1
		sleep 0.05
	done
	read -r -d '' -u "$1"
}

# status_pipe DIR: opens a pipe to get such a byte through: $status_in to read from, $status_out to
# hand to a program.  runc 1.1 refuses a descriptor that can be read as well as written, therefore
# two; none of them waits, since each of them finds the pipe open at both ends.
status_pipe() {
	rm -f "$1/status"
	mkfifo "$1/status" || die "no pipe in $1"
	exec {status_in}<>"$1/status"
	exec {status_out}>"$1/status"
	rm -f "$1/status"
}

# lazy_restore CONTAINER DIR [OPTION...]: from DIR/images, in the work directory DIR/work.  The
# options are the helper's.  Returns when all memory has arrived: the container runs long before.
#
# runc resolves neither path against its own idea of where it is: DIR must be absolute.  Helper and
# restore meet at a socket in the work directory.
lazy_restore() {
	local container=$1 images=$2/images work=$2/work helper
	shift 2
	mkdir -p "$work"
	status_pipe "$work"
	"${criu_lazy[@]}" lazy-pages -D "$images" -W "$work" -o helper.log -v3 \
		--status-fd "$status_out" "$@" {status_in}<&- &
	helper=$!
	exec {status_out}>&-
	wait_for_byte "$status_in" $helper || die "the helper does not start: see $work/helper.log"

	# A container that runs on by itself gets these as its input and output if they were pipes;
	# what it has of ours would be in the way of its next checkpoint.
	if ! "${runc[@]}" --log "$work/runc.log" restore --lazy-pages --image-path "$images" \
		--work-path "$work" --detach "$container" {status_in}<&- </dev/null >/dev/null 2>&1; then
		kill $helper 2>/dev/null # it knows whether it may go already
		wait $helper
		cat "$work/runc.log" >&2
		die "the restore failed: see $work/restore.log"
	fi
	say "$container runs; its memory is on its way"
	wait $helper || die "the helper failed: see $work/helper.log"
	say "all memory of $container has arrived"
}
