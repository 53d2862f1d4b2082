# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154,SC2034 # variables are the runner's
#
# redis-server with 600,000 strings of 1,000 bytes, no two alike, and some lists, hashes and sorted
# sets.  DEBUG DIGEST, a hash over all of it, must be the same after the restore.
#
#   bgsave   as off, but the first thing after the restore is BGSAVE: a child is forked while
#            nearly everything is missing, and reads all of it, fault by fault.  A fresh
#            redis-server loads the file; its digest must be the same as well.

modes="off full bgsave"
nr_keys=600000
min_missing=100000

cli() { redis-cli -s "$dir/${server:-redis}.sock" "$@" 2>>"$dir/redis-cli.err"; }

# serve NAME: a redis-server of ours, in a folder of its own.
serve() {
	mkdir -p "$dir/$1"
	[ -z "${2:-}" ] || mv "$2" "$dir/$1/dump.rdb"
	launch redis-server --port 0 --unixsocket "$dir/$1.sock" --dir "$dir/$1" --save "" \
		--appendonly no --enable-debug-command yes --daemonize no --logfile "$dir/$1.log"
	until_ "redis-server to listen" exists "$dir/$1.sock"
	server=$1 until_ "redis-server to load" server_answers "$1"
}
server_answers() { [ "$(server=$1 cli ping)" = PONG ]; }

needs() {
	command -v redis-server redis-cli >/dev/null || skip "redis-server is not installed"
}

nr_sockets() { find "/proc/$root/fd" -lname 'socket:*' | wc -l; }
no_clients() { [ "$(nr_sockets)" = 1 ]; }

start() {
	local step=50000 i
	serve redis
	for ((i = 0; i < nr_keys; i += step)); do
		cli eval "for i = $i, $((i + step - 1)) do
			redis.call('set', 'key:' .. i, (redis.sha1hex(i)):rep(25)) end" 0 >/dev/null ||
			fail "redis cannot be filled"
	done
	cli eval "for i = 1, 20000 do
		redis.call('rpush', 'list:' .. i % 100, redis.sha1hex(i), i)
		redis.call('hset', 'hash:' .. i % 100, redis.sha1hex(i), i)
		redis.call('zadd', 'zset:' .. i % 100, i % 777, redis.sha1hex(i)) end" 0 >/dev/null
	[ "$(cli dbsize)" = $((nr_keys + 300)) ] || fail "redis has $(cli dbsize) keys"
}

remember() {
	digest=$(cli debug digest)
	[ ${#digest} = 40 ] && [ "$digest" != "${digest//[^0]/}" ] || fail "no digest: $digest"
	until_ "the last client to be gone" no_clients
}

# value N: what key:N must hold.
value() {
	local sum
	sum=$(printf %s "$1" | sha1sum | cut -d' ' -f1)
	printf "$sum%.0s" {1..25}
}

ask() {
	local i took
	if [ "$mode" = bgsave ]; then
		save
		return
	fi
	[ "$(cli dbsize)" = $((nr_keys + 300)) ] || fail "wrong number of keys"
	took=$(($(now_ms) - restore_began))
	for i in 0 1 77777 299999 $((nr_keys - 1)); do
		[ "$(cli get key:$i)" = "$(value $i)" ] || fail "wrong value of key:$i"
	done
	[ "$(cli llen list:7)" = 400 ] || fail "wrong length of list:7"
	[ "$(cli set new:1 hello)" = OK ] && [ "$(cli del new:1)" = 1 ] || fail "cannot write"
	seen="first answer $took ms after criu restore began"
}

persistence() { cli info persistence | tr -d '\r' | sed -n "s/^$1://p"; }
saved() { [ "$(persistence rdb_bgsave_in_progress)" = 0 ]; }

save() {
	[ "$(cli bgsave)" = "Background saving started" ] || fail "BGSAVE does not start"
	until_ "BGSAVE" saved
	[ "$(persistence rdb_last_bgsave_status)" = ok ] || fail "BGSAVE fails"
}

# What the child has saved must be right, whatever the parent has.
compare_saved() {
	local spaces
	finish "the helper to end" $helper_pid
	spaces=$(summary 'address spaces')
	[ "$spaces" = 2 ] || fail "the helper served ${spaces:-?} address spaces, not the child's too"
	cli shutdown nosave >/dev/null
	serve fresh "$dir/redis/dump.rdb"
	server=fresh
	[ "$(cli debug digest)" = "$digest" ] || fail "what BGSAVE wrote has another digest"
	seen="saved by a child forked while pages were missing, loaded, same digest"
}

compare() {
	[ "$(cli debug digest)" = "$digest" ] || fail "DEBUG DIGEST differs"
	if [ "$mode" = bgsave ]; then
		compare_saved
	else
		seen+="; same digest"
	fi
}
