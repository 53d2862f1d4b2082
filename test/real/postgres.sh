# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154,SC2034 # variables are the runner's
#
# A PostgreSQL cluster of its own with a table, and a psql session that stays open: the tree that is
# dumped is a shell, psql, the server and its processes.  Shared memory is not restored lazily, so
# the session has 200 MiB in a temporary table, which lives in its backend's private memory.
#
# The same checksums before and after: of the table in a new session, of both in the old one.

modes="off full"
nr_rows=1500000
min_missing=10000

pg_bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -1)
pg=$dir/pg
not_root=(env "LD_PRELOAD=$dir/not-root.so") # why: see there
psql=(psql -X -h "$pg" -U postgres -d postgres -At)

needs() {
	[ -n "$pg_bin" ] && [ -x "$pg_bin/postgres" ] || skip "postgresql is not installed"
	"${CC:-gcc}" -shared -fPIC -o "$dir/not-root.so" "$here/not-root.c" ||
		fail "not-root.c does not compile"
}

sum="SELECT count(*), md5(string_agg(md5(id || ':' || body), '' ORDER BY id)) FROM"

# A session of its own.
query() { "${psql[@]}" -c "$1" 2>>"$dir/psql.err"; }

# The open session: writes what it answers to answer.N.
nr_said=0
say() {
	nr_said=$((nr_said + 1))
	printf '%s\n' "\\o $pg/answer.new" "$1" '\o' "\\! mv $pg/answer.new $pg/answer.$nr_said" \
		>>"$pg/says"
	until_ "psql to answer" answered
	[ -e "$pg/answer.$nr_said" ] || fail "psql has ended"
	answer=$(cat "$pg/answer.$nr_said")
}
answered() { [ -e "$pg/answer.$nr_said" ] || ended "$root"; }

start() {
	install -d -m 700 "$pg"
	install -d -m 700 -o 65534 "$pg/data" # nobody, whom it thinks it is
	"${not_root[@]}" "$pg_bin/initdb" -D "$pg/data" -U postgres -A trust -N --no-locale -E UTF8 \
		>"$dir/initdb.log" 2>&1 || fail "initdb"
	cat >>"$pg/data/postgresql.conf" <<-END
		listen_addresses = ''
		unix_socket_directories = '$pg'
		shared_buffers = 64MB
		dynamic_shared_memory_type = mmap
		temp_buffers = 256MB
		work_mem = 64MB
		max_parallel_workers_per_gather = 0
		fsync = off
		autovacuum = off
		jit = off
	END
	: >"$pg/says"
	# psql reads what is appended to a file: no pipe leads out of the tree.
	cat >"$pg/session" <<-END
		${not_root[@]} "$pg_bin/postgres" -D "$pg/data" >"$pg/server.log" 2>&1 &
		until ${psql[@]} -c 'SELECT 1' >/dev/null 2>&1; do sleep 0.05; done
		tail -n +1 -s 0.02 ---disable-inotify -f "$pg/says" |
			${psql[@]} -v ON_ERROR_STOP=1 >"$pg/psql.log" 2>&1
	END
	# System V shared memory needs an IPC namespace inside the dumped tree.
	launch unshare --ipc bash "$pg/session"
	say "CREATE TABLE t AS SELECT i AS id, repeat(md5(i::text), 3) AS body
		FROM generate_series(1, $nr_rows / 10) i;
		CREATE TEMP TABLE p AS SELECT i AS id, repeat(md5(i::text), 3) AS body
		FROM generate_series(1, $nr_rows) i;"
}

remember() {
	say "$sum t; $sum p;"
	wanted=$answer
	table=$(query "$sum t;")
	[ "${table%%|*}" = $((nr_rows / 10)) ] || fail "the table is wrong before the dump: $table"
	[ "$wanted" = "$table"$'\n'"$nr_rows|${wanted##*|}" ] || fail "before the dump: $wanted"
	until_ "the other session to be gone" one_session
}
one_session() {
	[ "$(pgrep -c -f "postgres: postgres postgres" || true)" = 1 ]
}

ask() {
	say "SELECT body FROM p WHERE id = 4711 LIMIT 1;"
	[ "$answer" = "$(printf "$(printf 4711 | md5sum | cut -d' ' -f1)%.0s" 1 2 3)" ] ||
		fail "wrong row: $answer"
	[ "$(query "SELECT count(*) FROM t;")" = $((nr_rows / 10)) ] || fail "a new session fails"
	seen="a new session and the open one answer"
}

compare() {
	say "$sum t; $sum p;"
	[ "$answer" = "$wanted" ] || fail "the open session has other checksums: $answer"
	[ "$(query "$sum t;")" = "$table" ] || fail "the table has another checksum"
	seen+="; same checksums"
}
