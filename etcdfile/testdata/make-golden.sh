#!/usr/bin/env bash
# Makes the golden files of this folder with a real etcd. Needs etcd, etcdctl, etcdutl (3.7.3), curl and jq;
# ETCD_BIN names the folder that holds the three. Usage: ETCD_BIN=… ./make-golden.sh
#
#   example.db.gz   the short history of the HashKV rule: a=2,3,4 b=5,6,7 c=8 del c=9 a=10 d=11, compacted at 9
#   golden.db.gz    one of everything: branch and overflow pages, transactions, tombstones, leases, a learner, a removed
#                   member, users, roles, enabled auth, an alarm, a compaction exactly at a tombstone
#   bumped.db.gz    golden as `etcdutl snapshot restore --bump-revision 1000 --mark-compacted` leaves it in member/snap/db:
#                   no digest, an empty row at the new revision, a compaction scheduled and not finished
#   members.snap.gz a raft .snap file of a cluster with a learner and a removed member; members.db.gz, its database
#   *.txt           what etcdutl says of them: "status <json>" and "hashkv <rev> <hash> <compact revision>"
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
bin=${ETCD_BIN:?folder with etcd, etcdctl and etcdutl}
work=$(mktemp -d)
client=http://127.0.0.1:23791 peer=http://127.0.0.1:23801
ctl() { "$bin/etcdctl" --endpoints "$client" "$@" >/dev/null; }
post() { curl -sf "$client/v3/$1" -d "$2" >/dev/null; }

start() { # start <name> <flag…>: a fresh single member
	local name=$1
	shift
	"$bin/etcd" --name golden --data-dir "$work/$name" --listen-client-urls "$client" --advertise-client-urls "$client" \
		--listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "golden=$peer" \
		--logger zap --log-outputs "$work/$name.log" "$@" &
	etcd_pid=$!
	until curl -sf "$client/health" | grep -q true; do sleep 0.2; done
	until curl -sf "$client/version" | grep -q '"etcdcluster":"3.7.0"'; do sleep 0.2; done
	sleep 5 # the storage version follows the cluster version on a timer
}

save() { # save <name> <user flag…>: snapshot, end the member
	local name=$1
	shift
	ctl "$@" snapshot save "$work/$name.db"
	kill "$etcd_pid" && wait "$etcd_pid" || true
	record "$name"
}

record() { # record <name>: keep $work/<name>.db and what etcdutl says of it
	local name=$1 rev last
	gzip -9 -n -c "$work/$name.db" >"$here/$name.db.gz"
	last=$("$bin/etcdutl" -w json snapshot status "$work/$name.db" | jq .revision)
	{
		echo "status $("$bin/etcdutl" -w json snapshot status "$work/$name.db")"
		for rev in 0 $(seq $((last > 60 ? last - 60 : 1)) "$last"); do
			cp "$work/$name.db" "$work/hash.db"
			"$bin/etcdutl" -w json hashkv --rev "$rev" "$work/hash.db" 2>/dev/null |
				jq -r "\"hashkv $rev \(.hash) \(.compactRevision)\"" || true
		done
	} >"$here/$name.txt"
}

start example
for v in 1 2 3; do ctl put a "a$v"; done
for v in 1 2 3; do ctl put b "b$v"; done
ctl put c c1
ctl del c
ctl put a a4
ctl put d d1
ctl compact 9 --physical
save example

start golden
for i in $(seq 1 400); do ctl put "/registry/pods/$((i % 150))" "pod $i of the golden history"; done
ctl put /large "$(head -c 9000 /dev/zero | tr '\0' x)"
ctl put /larger "$(head -c 30000 /dev/zero | tr '\0' y)"
printf 'value("/large") != ""\n\nput /txn/a 1\nput /txn/b 2\ndel /registry/pods/7\n\n\n' | ctl txn
post lease/grant '{"TTL":"3600","ID":"1001"}'
post lease/grant '{"TTL":"60000","ID":"9223372036854775807"}'
post lease/grant '{"TTL":"77","ID":"2"}'
post kv/put "{\"key\":\"$(echo -n /leased/a | base64)\",\"value\":\"$(echo -n v | base64)\",\"lease\":\"1001\"}"
post kv/put "{\"key\":\"$(echo -n /leased/b | base64)\",\"lease\":\"1001\"}"
post kv/put "{\"key\":\"$(echo -n /leased/c | base64)\",\"value\":\"$(printf '\x00\xff\x80' | base64)\",\"lease\":\"9223372036854775807\"}"
ctl del /registry/pods/1 /registry/pods/2
ctl put /registry/pods/1 again
ctl del /larger
tomb=$("$bin/etcdctl" --endpoints "$client" get /nothing -w json | jq .header.revision)
ctl put /after 1
ctl compact "$tomb" --physical
for i in $(seq 1 40); do ctl put "/registry/nodes/$((i % 7))" "node $i"; done
ctl del /registry/nodes/3
ctl member add first --learner --peer-urls http://127.0.0.1:23811
learner=$("$bin/etcdctl" --endpoints "$client" member list | grep true | cut -d, -f1)
ctl member remove "$learner"
ctl member add second --learner --peer-urls http://127.0.0.1:23821,http://127.0.0.1:23822
ctl role add reader
ctl role grant-permission reader read /registry/ --prefix
ctl role grant-permission reader readwrite /leases
ctl role add empty
ctl user add root:secret
ctl user add alice:wonderland
ctl user add nopass --no-password
ctl user grant-role root root
ctl user grant-role alice reader
ctl auth enable
post_auth() { curl -sf -H "Authorization: $token" "$client/v3/$1" -d "$2" >/dev/null; }
token=$(curl -sf "$client/v3/auth/authenticate" -d '{"name":"root","password":"secret"}' | jq -r .token)
post_auth maintenance/alarm '{"action":"ACTIVATE","memberID":"0","alarm":"NOSPACE"}'
member=$("$bin/etcdctl" --endpoints "$client" --user root:secret member list | grep golden | cut -d, -f1)
post_auth maintenance/alarm "{\"action\":\"ACTIVATE\",\"memberID\":\"$(printf %u "0x$member")\",\"alarm\":\"CORRUPT\"}"
save golden --user root:secret
"$bin/etcdutl" snapshot restore "$work/golden.db" --data-dir "$work/bumped" --bump-revision 1000 --mark-compacted
cp "$work/bumped/member/snap/db" "$work/bumped.db"
record bumped

start members --snapshot-count 3
ctl member add first --learner --peer-urls http://127.0.0.1:23811
ctl member remove "$("$bin/etcdctl" --endpoints "$client" member list | grep true | cut -d, -f1)"
ctl member add second --learner --peer-urls http://127.0.0.1:23821,http://127.0.0.1:23822
for i in $(seq 1 12); do ctl put "$i" "$i"; done
sleep 1
gzip -9 -n -c "$(ls "$work"/members/member/snap/*.snap | tail -n 1)" >"$here/members.snap.gz"
save members
rm -rf "$work"
