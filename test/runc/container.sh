# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154 # variables are run-one's
#
# A container of the test, made from nothing but our own program.  For run-one.
#
# There can be two hosts: a host is a folder with a bundle, runc's state and what examples/ leave
# there, $dir/HOST.  runc knows a container under the same name on each; its cgroup is the host's.

box=box

# make_host HOST: the bundle of a container that runs our program.
make_host() {
	local b=$dir/$1/bundle
	mkdir -p "$b/rootfs/"{bin,proc,dev,sys,tmp,report,etc} "$dir/$1/report"
	cp "$C_BIN/memory" "$b/rootfs/bin/"
	echo "network-lock $network_lock" >"$dir/$1/criu.conf"
	config "$dir/$1" "$C_CGROUP-$1" >"$b/config.json"
	[ $userns = 0 ] || chown -R $first_id:$first_id "$b/rootfs" "$dir/$1/report"
}
userns=0 first_id=100000 # 1: with a user namespace, whose ids begin there

# A container's network is locked while its state is read.  Without iptables on the machine CRIU can
# do it with nftables, if it is told to; runc hands on a configuration file that an annotation
# names.  Our container has nobody to talk to, so that not to lock it is right, too.
network_lock=skip
! criu check --feature network_lock_nftables >/dev/null 2>&1 || network_lock=nftables

config() {
	local mapping="[ { \"containerID\": 0, \"hostID\": $first_id, \"size\": 65536 } ]" map='' user=''
	if [ $userns = 1 ]; then
		map="\"uidMappings\": $mapping, \"gidMappings\": $mapping,"
		user=', { "type": "user" }'
	fi
	cat <<-JSON
	{
	  "ociVersion": "1.0.2",
	  "process": {
	    "terminal": false,
	    "user": { "uid": 0, "gid": 0 },
	    "args": [ ${args:-"\"/bin/memory\", \"serve\", \"/report/socket\", \"24\""} ],
	    "env": [ "PATH=/bin" ],
	    "cwd": "/",
	    "capabilities": { "bounding": [ "CAP_KILL" ], "effective": [ "CAP_KILL" ],
	                      "permitted": [ "CAP_KILL" ] },
	    "rlimits": [ { "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 } ],
	    "noNewPrivileges": true
	  },
	  "root": { "path": "rootfs", "readonly": true },
	  "hostname": "lazy-box",
	  "annotations": { "org.criu.config": "$1/criu.conf" },
	  "mounts": [
	    { "destination": "/proc", "type": "proc", "source": "proc" },
	    { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
	      "options": [ "nosuid", "strictatime", "mode=755", "size=65536k" ] },
	    { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
	      "options": [ "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620" ] },
	    { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
	      "options": [ "nosuid", "noexec", "nodev", "mode=1777", "size=65536k" ] },
	    { "destination": "/sys", "type": "sysfs", "source": "sysfs",
	      "options": [ "nosuid", "noexec", "nodev", "ro" ] },
	    { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
	      "options": [ "nosuid", "nodev", "size=16m" ] },
	    { "destination": "/report", "type": "bind", "source": "$1/report",
	      "options": [ "bind", "rw" ] }
	  ],
	  "linux": {
	    $map
	    "cgroupsPath": "/$2",
	    "resources": { "devices": [ { "allow": false, "access": "rwm" } ] },
	    "namespaces": [ { "type": "pid" }, { "type": "network" }, { "type": "ipc" },
	                    { "type": "uts" }, { "type": "mount" }$user ]
	  }
	}
	JSON
}

# on HOST COMMAND...: in the host's bundle, with a runc that knows the host's containers; examples/
# find in the environment what they use.
on() {
	local host=$1
	shift
	(
		cd "$dir/$host/bundle" || exit 1
		export RUNC="runc --root $dir/$host/state --log $dir/$host/runc.log" CRIU_LAZY=$helper
		exec "$@"
	)
}
runc_on() {
	local host=$1
	shift
	on "$host" runc --root "$dir/$host/state" --log "$dir/$host/runc.log" "$@"
}
example() {
	local host=$1 script=$2
	shift 2
	on "$host" "$C_TOP/examples/$script" "$@"
}
helper=criu-lazy # or criu

is_known() { [ -n "$(runc_on "$1" list -q)" ]; }

run_box() {
	# What it has as its standard error must be in the container, too, when it is dumped.
	runc_on "$1" run --detach $box >/dev/null 2>&1 || fail "runc run: $(tail -n 1 "$dir/$1/runc.log")"
}
start_box() {
	run_box "$1"
	until_ "the container's program" asked "$1" rounds
}

# add_program HOST PATH: with the libraries that it needs.
add_program() {
	local root=$dir/$1/bundle/rootfs file
	for file in "$2" $(ldd "$2" | grep -o '/[^ ]*'); do
		mkdir -p "$root${file%/*}"
		cp -L "$file" "$root$file"
	done
	[ "$2" -ef "$root/bin/${2##*/}" ] || cp -L "$2" "$root/bin/"
}

# Not a case that one can ask for: whether runc works at all on this machine.
case_probe() {
	make_host a
	start_box a
}

# ask HOST REQUEST: the program's answer, in $reply; false if it is not good.
ask() {
	reply=$(cd "$dir/$1/report" && timeout "$C_TIMEOUT" "$C_BIN/memory" ask socket "$2" 2>&1)
}
asked() { ask "$@"; }

# check HOST CHANGES: every byte is what it must be.  The same pages each time, 152 MiB of them.
nr_pages=38912
check() {
	ask "$1" check || fail "after the restore: $reply"
	[ "$reply" = "ok $nr_pages pages, $2 changes" ] || fail "unexpected answer: $reply"
}
change() { ask "$1" change || fail "change: $reply"; }

box_pid() { runc_on "$1" state $box | sed -n 's/.*"pid": \([0-9]*\).*/\1/p'; }

# The namespaces are the container's own.
check_namespaces() {
	local pid ns all="pid mnt net ipc uts"
	[ $userns = 0 ] || all+=" user"
	pid=$(box_pid "$1")
	for ns in $all; do
		[ -e "/proc/$pid/ns/$ns" ] || fail "no namespace $ns of pid '$pid'"
		[ ! "/proc/$pid/ns/$ns" -ef "/proc/self/ns/$ns" ] || fail "$ns is not the container's own"
	done
}

# check_helper HOST: what our helper says at its end of all that it has brought.
summary() { sed -n "s/.*[^0-9]\([0-9][0-9]*\) $2.*/\1/p" "$dir/$1/work/helper.log" | tail -1; }
check_helper() {
	local fault background
	[ "$helper" = criu-lazy ] || return 0
	[ "$(summary "$1" 'pages lost')" = 0 ] || fail "the helper has lost pages"
	fault=$(summary "$1" 'pages by fault') background=$(summary "$1" 'by background')
	[ $((fault + background)) -ge 16384 ] || fail "the helper has brought $fault + $background pages"
	note "$fault pages by fault, $background by background"
}
