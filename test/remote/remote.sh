# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154 # $img, $dir, $root are the runner's
#
# Memory from another "host", for the runners test/zdtm/run-one and test/real/run-one, which read this
# in.  They run in a pid and a network namespace of their own, so ports are free.
#
#   R_REMOTE       ours|criu|dump: who serves: our page-server, CRIU's page-server, or CRIU's
#                  dump --lazy-pages; empty: nobody, the memory is in the local images
#   R_SERVER       the program that serves
#   R_SERVER_OPTS  more options for it
#   R_STORE        ours|criu: the dump's memory goes to this page server, and from there into $img
#   R_STORE_SERVER the program that stores
#   R_STORE_OPTS   more options for the dump; R_PRE=1: after a pre-dump into the same server
#   R_PROXY        the proxy in between, if R_PROXIED is 1; R_PROXY_OPTS its options
#   R_EXPECT       what it must have done at least: words like cuts=1
#
# The runner provides fail, until_, finish, and $R_CRIU; $img is the folder of images.
#
#   remote_prepare        with $img complete (not with dump): starts the server and the proxy
#   remote_store_dump PID in place of a dump, with R_STORE
#   remote_store_chain N  a chain of N parents in $img goes through the page server, level by level
#   remote_dump PID       in place of a dump, with R_REMOTE=dump
#   "${remote_helper[@]}" options for the helper
#   remote_restore OPT... criu restore, in a pid namespace of its own where the dumped tree lives on
#   remote_gone           has the restored tree ended?
#   remote_end            the server must end well, and the proxy have done what it should
#
# The destination cannot cheat: the helper's images have no pages files at all, and in those that
# criu restore reads for what is not lazy, lazy pages are overwritten.

remote_here=$(dirname "${BASH_SOURCE[0]}")
remote_helper=() remote_port='' remote_server_pid='' remote_proxy_pid='' remote_shell_pid=''

[ -z "${R_REMOTE:=}${R_STORE:=}" ] || ip link set lo up || exit 1
# Pids of the dumped tree must be free in a second namespace, where the restore itself has low ones.
[ "$R_REMOTE" != dump ] || echo 1000 >/proc/sys/kernel/ns_last_pid

remote_ended() { ! kill -0 "$1" 2>/dev/null; }
remote_has() { [ -s "$1" ]; }

remote_tails() {
	local f
	for f in "$dir"/server.log "$dir"/server.err "$dir"/src/server.log "$dir"/store.err \
		"$dir"/store*/store.log "$dir"/proxy.err; do
		if [ -s "$f" ]; then
			echo "-- end of ${f##*/}"
			tail -n 6 "$f" | cut -c1-300
		fi
	done
}

# A server PID writes its one byte to FILE when it listens, or ends.
remote_ready() { remote_has "$2" || remote_ended "$1"; }

remote_launch() {
	: >"$dir/server.ready"
	"$R_SERVER" "$@" --status-fd 9 9>"$dir/server.ready" >"$dir/server.out" 2>"$dir/server.err" &
	remote_server_pid=$!
	until_ "the server to listen" remote_ready $remote_server_pid "$dir/server.ready"
	[ -s "$dir/server.ready" ] || fail "the server ended at its start"
}

remote_start_proxy() {
	[ "${R_PROXIED:-0}" = 1 ] || return 0
	# shellcheck disable=SC2086 # options are words
	"$R_PROXY" --to "127.0.0.1:$remote_port" $R_PROXY_OPTS >"$dir/proxy.out" 2>"$dir/proxy.err" &
	remote_proxy_pid=$!
	until_ "the proxy to listen" remote_ready $remote_proxy_pid "$dir/proxy.out"
	remote_port=$(sed -n 's/^port //p' "$dir/proxy.out")
	[ -n "$remote_port" ] || fail "the proxy ended at its start: $(cat "$dir/proxy.err")"
}

# remote_relink NAME: the parents of a chain NAME, NAME-1, NAME-2... in $dir are links to the next.
remote_relink() {
	local n=0 level=$dir/$1
	while [ -L "$level/parent" ]; do
		n=$((n + 1))
		ln -sfn "../$1-$n" "$level/parent"
		level=$dir/$1-$n
	done
}

# The restorer's images, a copy, and the helper's: everything but pages, at every level of a chain.
remote_split() {
	local from to
	for from in "$dir/src"*; do
		to=$img${from#"$dir/src"}
		[ -d "$to" ] || cp -a "$from" "$to"
		to=$dir/lean${from#"$dir/src"}
		mkdir -p "$to"
		find "$from" -mindepth 1 -maxdepth 1 ! -name 'pages-*.img' -exec cp -a -t "$to" {} +
	done
	remote_relink "${img##*/}"
	remote_relink lean
	python3 "$remote_here/overwrite" "$img" "$img"-[0-9] >"$dir/overwrite.log" 2>&1 ||
		fail "overwrite: $(tail -n 3 "$dir/overwrite.log")"
	remote_helper=(-D "$dir/lean" -W "$img" --page-server --address 127.0.0.1
		--port "$remote_port")
}

remote_prepare() {
	local level
	[ -n "$R_REMOTE" ] || return 0
	if [ "$R_REMOTE" != dump ]; then
		for level in "$img" "$img"-[0-9]; do
			[ ! -d "$level" ] || mv "$level" "$dir/src${level#"$img"}"
		done
		remote_relink src
		remote_serve
	fi
	remote_start_proxy
	remote_split
}

remote_serve() {
	# shellcheck disable=SC2086 # options are words
	case $R_REMOTE in
	ours)
		remote_launch page-server --lazy-pages --keep -D "$dir/src" -W "$dir" -o server.log -v3 \
			--address 127.0.0.1 $R_SERVER_OPTS
		remote_port=$(sed -n 's/^port //p' "$dir/server.out")
		[ -n "$remote_port" ] || fail "our server has not told its port"
		;;
	criu)
		remote_port=12345
		remote_launch page-server --no-default-config --lazy-pages -D "$dir/src" -o server.log \
			-v2 --address 127.0.0.1 --port $remote_port $R_SERVER_OPTS
		;;
	esac
}

# remote_dump PID: the tree stays, frozen, until the helper says that it has everything.
remote_dump() {
	mkdir -p "$dir/src"
	remote_port=12345
	# shellcheck disable=SC2086 # options are words
	remote_launch dump --no-default-config -t "$1" -D "$dir/src" -o dump.log -v2 --lazy-pages \
		--address 127.0.0.1 --port $remote_port $R_SERVER_OPTS "${dump_opts[@]}"
	cp -aT "$dir/src" "$img"
}

# remote_store NAME PARENT COMMAND...: a page server stores into $dir/NAME what the command sends to
# $store_port; PARENT is the name of the images before it, or empty.
store_port=12346
remote_store() {
	local name=$1 parent=$2 server opts=()
	shift 2
	mkdir -p "$dir/$name"
	[ "$R_STORE" = ours ] || opts+=(--no-default-config)
	[ -z "$parent" ] || ln -s "../$parent" "$dir/$name/parent"
	: >"$dir/store.ready"
	# shellcheck disable=SC2086 # options are words
	"$R_STORE_SERVER" page-server "${opts[@]}" -D "$dir/$name" -o store.log -v2 --address 127.0.0.1 \
		--port $store_port --status-fd 9 $R_SERVER_OPTS 9>"$dir/store.ready" \
		>"$dir/store.out" 2>"$dir/store.err" &
	server=$!
	until_ "the storing server to listen" remote_ready $server "$dir/store.ready"
	"$@" >"$dir/store-client.err" 2>&1 &
	finish "${1##*/} to send its pages" $! ||
		fail "${1##*/}: exit status $? $(tail -n 2 "$dir/store-client.err")"
	finish "the storing server to end" $server || fail "the storing server: exit status $?"
}

# remote_take FROM TO: what a page server has stored into a folder of the other images.
remote_take() {
	compgen -G "$dir/$2/pages-*.img" >/dev/null && fail "the dump has also written pages itself"
	compgen -G "$dir/$1/pages-*.img" >/dev/null || fail "the storing server has written no pages"
	mv "$dir/$1"/pagemap-*.img "$dir/$1"/pages-*.img "$dir/$2"
}

# shellcheck disable=SC2086 # options are words
remote_store_dump() {
	local opts=(--no-default-config -t "$1" -o dump.log -v2 --page-server --address 127.0.0.1
		--port "$store_port") before=''
	if [ "${R_PRE:-0}" = 1 ]; then
		"$R_CRIU" check --feature mem_dirty_track >/dev/null 2>&1 ||
			skip "CRIU cannot pre-dump here: the kernel has no soft-dirty tracking"
		mkdir "$dir/img-1"
		remote_store store-1 '' "$R_CRIU" pre-dump "${opts[@]}" -D "$dir/img-1" $R_STORE_OPTS
		remote_take store-1 img-1
		before=store-1 opts+=(--track-mem --prev-images-dir ../img-1)
		ln -sf ../img-1/pagemap-*.img ../img-1/pages-*.img "$dir/store-1"
	fi
	remote_store store "$before" "$R_CRIU" dump "${opts[@]}" -D "$img" $R_STORE_OPTS
	remote_take store img
	until_ "the dumped program to be gone" remote_ended "$1"
}

remote_store_chain() {
	local n=$1 before='' from to version layout=24
	version=$("$R_CRIU" --version | sed -n 's/^Version: *//p')
	[ "$(printf '4.2\n%s\n' "$version" | sort -V | head -n 1)" != 4.2 ] || layout=32
	for ((; n >= 0; n--)); do
		from=img-$n to=store-$n
		[ $n != 0 ] || from=img to=store
		remote_store $to "$before" python3 "$remote_here/push" $store_port "$dir/$from" $layout
		rm "$dir/$from"/pagemap-*.img "$dir/$from"/pages-*.img
		before=$to
	done
	for to in "$dir"/store "$dir"/store-[0-9]; do
		from=$img${to#"$dir/store"}
		[ ! -d "$to" ] || mv "$to"/pagemap-*.img "$to"/pages-*.img "$from"
	done
}

remote_restore() {
	if [ "$R_REMOTE" != dump ]; then
		"$R_CRIU" restore "$@" >"$dir/restore.err" 2>&1 &
		finish "criu restore" $!
		return
	fi
	# shellcheck disable=SC2016 # variables are the inner shell's
	unshare --pid --fork --mount --mount-proc --kill-child bash -c '
		root=$1 status=$2
		shift 2
		"$@"
		echo $? >"$status.new" && mv "$status.new" "$status"
		exec {tick}<>"$status.tick"
		while [ -e "/proc/$root/stat" ]; do read -r -t 0.005 -u "$tick"; done' \
		restore "$root" "$dir/restored" "$R_CRIU" restore "$@" >"$dir/restore.err" 2>&1 &
	remote_shell_pid=$!
	until_ "criu restore" remote_has "$dir/restored"
	return "$(cat "$dir/restored")"
}

remote_gone() {
	if [ -n "$remote_shell_pid" ]; then
		remote_ended $remote_shell_pid
	else
		[ ! -e "/proc/$root/stat" ]
	fi
}

remote_end() {
	local word got status
	[ -n "$R_REMOTE" ] || return 0
	[ "$R_REMOTE" != ours ] || kill -TERM $remote_server_pid
	finish "the server to end" $remote_server_pid
	status=$?
	[ $status = 0 ] || fail "the server's exit status is $status"
	[ "$R_REMOTE" != dump ] || until_ "the dumped program to be gone" remote_ended "$root"
	[ -n "$remote_proxy_pid" ] || return 0
	kill -TERM $remote_proxy_pid
	finish "the proxy to end" $remote_proxy_pid || fail "the proxy failed"
	for word in $R_EXPECT; do
		got=$(sed -n "s/^proxy: \(.*, \)\?${word%=*} \([0-9]*\),.*/\2/p" "$dir/proxy.err")
		[ "${got:-0}" -ge "${word#*=}" ] || fail "the proxy: $word was expected, it was ${got:-?}"
	done
}
