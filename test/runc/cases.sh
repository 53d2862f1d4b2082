# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034,SC2154 # variables are run-one's and container.sh's
#
# The cases of test/runc/run: case_NAME is NAME with "_" for "-".

# --- on one host ----------------------------------------------------------------------------------

checkpoint_here() {
	make_host a
	start_box a
	change a
	check a 1
	example a runc-local checkpoint $box "$dir/a" >"$dir/checkpoint.out" 2>&1 ||
		fail "runc-local checkpoint: exit status $?"
	! is_known a || fail "the container is still there after its checkpoint"
}

# restored HOST CHANGES SCRIPT-PID: the container is compared at once, while its memory arrives; the
# script must end well; then it is changed and compared once more.
restored() {
	until_ "the restored container" asked_or_ended "$1" "$3"
	check "$1" "$2"
	finish "the example's restore" "$3"
	check_helper "$1"
	change "$1"
	check "$1" $(($2 + 1))
	check_namespaces "$1"
}
asked_or_ended() {
	asked "$1" rounds && return 0
	! ended "$2" || finish "the example's restore" "$2"
	! ended "$2" || fail "restored, but: $reply"
	return 1
}

restore_here() {
	example "$1" runc-local restore $box "$dir/$1" >"$dir/restore.out" 2>&1 &
	restored "$1" "$2" $!
}

case_local() {
	checkpoint_here
	restore_here a 1
}

case_local_criu() {
	helper=criu
	case_local
}

# The comparison must see a single wrong byte.
case_local_damaged() {
	local pages
	checkpoint_here
	pages=$(find "$dir/a/images" -name 'pages-*.img' -printf '%s %p\n' | sort -n | tail -n 1)
	pages=${pages#* }
	printf '\377' | dd of="$pages" bs=1 seek=$(($(stat -c %s "$pages") / 2 + 1)) conv=notrunc \
		2>"$dir/dd.err" || fail "dd"
	example a runc-local restore $box "$dir/a" >"$dir/restore.out" 2>&1 ||
		fail "runc-local restore: exit status $?"
	! ask a check || fail "a wrong byte in ${pages##*/} was not seen: $reply"
	case $reply in
	"bad: task "*": 1 pages differ"*) note "$reply" ;;
	*) fail "not the answer that was expected: $reply" ;;
	esac
}

# Its own user namespace, too: root in the container is nobody outside.
case_userns() {
	userns=1
	case_local
}

case_userns_criu() {
	helper=criu
	case_userns
}

# A program that is not ours, with its libraries and threads.  DEBUG DIGEST is a hash of all that it
# holds.
case_redis() {
	local p
	for p in redis-server redis-cli; do
		command -v $p >/dev/null || skip "$p is not installed"
	done
	args='"/bin/redis-server", "--port", "0", "--unixsocket", "/report/redis", "--dir", "/tmp",
		"--save", "", "--appendonly", "no", "--enable-debug-command", "yes"'
	make_host a
	add_program a "$(command -v redis-server)"
	run_box a
	until_ "redis-server" redis_is PONG ping
	redis eval "for i = 1, 100000 do redis.call('set', i, (redis.sha1hex(i)):rep(25)) end" 0 \
		>"$dir/fill.out"
	digest=$(redis debug digest)
	[ ${#digest} = 40 ] && [ "$digest" != "${digest//[^0]/}" ] || fail "no digest: $digest"
	until_ "the last client to be gone" redis_is_alone
	example a runc-local checkpoint $box "$dir/a" >"$dir/checkpoint.out" 2>&1 ||
		fail "runc-local checkpoint: exit status $?"
	example a runc-local restore $box "$dir/a" >"$dir/restore.out" 2>&1 &
	until_ "the restored redis-server" redis_is PONG ping
	redis_is "$digest" debug digest || fail "DEBUG DIGEST differs"
	finish "runc-local restore" $!
	check_helper a
	redis_is "$digest" debug digest || fail "DEBUG DIGEST differs when all is there"
	redis_is OK set new value || fail "it cannot be written to"
}
redis() { (cd "$dir/a/report" && timeout "$C_TIMEOUT" redis-cli -s redis "$@" 2>&1); }
redis_is() {
	local want=$1
	shift
	[ "$(redis "$@")" = "$want" ]
}
redis_is_alone() { [ "$(find "/proc/$(box_pid a)/fd" -lname 'socket:*' | wc -l)" = 1 ]; }

# --- from one host to another ---------------------------------------------------------------------

free_port() {
	local port
	while :; do
		port=$((20000 + RANDOM % 10000))
		grep -q ":$(printf %04X $port) " /proc/net/tcp /proc/net/tcp6 || break
	done
	echo $port
}

is_ready() { grep -q '^ready: ' "$dir/source.out" || ended "$1"; }

# The source's container still exists, stopped, until the last page has been fetched.
case_remote() {
	local source at
	at=127.0.0.1:$(free_port)
	make_host a
	make_host b
	start_box a
	change a
	example a runc-remote source $box "$dir/a" "$at" >"$dir/source.out" 2>&1 &
	source=$!
	until_ "the source to be ready" is_ready $source
	is_known a || fail "the source's container is gone before its memory was fetched"
	mkdir "$dir/b/images"
	cp -a "$dir/a/images/." "$dir/b/images/"
	example b runc-remote target $box "$dir/b" "$at" >"$dir/target.out" 2>&1 &
	restored b 1 $!
	finish "the source" $source
	! is_known a || fail "the source's container is still there"
}

case_remote_criu() {
	helper=criu
	case_remote
}

# --- memory sent to a page server, and restored from what it has stored ---------------------------

# page_server DIR PORT: in the background, as $server; returns when it is ready.
page_server() {
	mkdir -p "$1"
	mkfifo "$1.status"
	exec {ready_in}<>"$1.status"
	exec {ready_out}>"$1.status"
	"$server_program" page-server -D "$1" -o "$1.log" -v3 --address 127.0.0.1 --port "$2" \
		--status-fd "$ready_out" 2>"$1.err" &
	server=$!
	exec {ready_out}>&-
	until_ "the page server" byte_or_ended "$ready_in" "$server"
	! ended "$server" || fail "the page server does not start"
	exec {ready_in}<&-
}
byte_or_ended() { read -r -t 0 -u "$1" || ended "$2"; }
server_program=criu-lazy # or criu

# What a page server does not get is on the machine where the container was; all of it together is
# an image directory.
case_store() {
	make_host a
	make_host b
	start_box a
	change a
	sent_checkpoint images
	restore_here b 1
}

case_store_criu() {
	helper=criu server_program=criu
	case_store
}

# runc asks CRIU first whether memory tracking works.  Where it does not there is nothing to be had:
# runc refuses, also what has --parent-path, and `criu pre-dump` by itself ends with a failed
# assertion.
no_tracking() {
	case $(criu check --feature mem_dirty_track 2>&1) in
	*"Dirty tracking is OFF"*) ;;
	*) return 1 ;;
	esac
	! runc_on a checkpoint --pre-dump --image-path "$dir/a/pre" --work-path "$dir/a/pre-work" \
		$box >/dev/null 2>&1 || return 1
	grep -q 'CRIU is missing features' "$dir/a/runc.log"
}

# sent_checkpoint SET OPTION...: memory goes to a page server on b, the rest follows.
sent_checkpoint() {
	local set=$1 port
	shift
	port=$(free_port)
	page_server "$dir/b/$set" "$port"
	mkdir -p "$dir/a/$set" "$dir/a/work"
	runc_on a checkpoint --page-server "127.0.0.1:$port" --image-path "$dir/a/$set" \
		--work-path "$dir/a/work" "$@" $box 2>"$dir/$set.err" ||
		fail "runc checkpoint: exit status $?"
	finish "the page server" "$server" # which ends by itself after one client
	[ -z "$(find "$dir/a/$set" -name 'pages-*')" ] || fail "there are pages that were not sent"
	cp -a "$dir/a/$set/." "$dir/b/$set/"
}

case_predump() {
	local kept sent
	make_host a
	make_host b
	start_box a
	! no_tracking || skip "no soft-dirty memory tracking in this kernel"
	sent_checkpoint pre --pre-dump
	change a
	check a 1
	mkdir "$dir/b/images"
	ln -s ../pre "$dir/b/images/parent"
	sent_checkpoint images --parent-path ../pre
	kept=$(pages_bytes "$dir/b/pre") sent=$(pages_bytes "$dir/b/images")
	note "pre-dump $((kept >> 20)) MiB, then $((sent >> 20)) MiB"
	# A fifth was changed, but a huge page is dirty as a whole.
	[ "$sent" -lt "$kept" ] || fail "the second set has all pages once more: $seen"
	restore_here b 1
}
pages_bytes() { cat "$1"/pages-*.img | wc -c; }

case_predump_criu() {
	helper=criu server_program=criu
	case_predump
}
