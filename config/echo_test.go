package config

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"holdfast/util/jsonlog"
)

// etcdsLine is what etcd 3.7.3 printed with the flags of TestEcho, from the name on.
const etcdsLine = `"name":"m1","data-dir":"m1.etcd","wal-dir":"","wal-dir-dedicated":"","member-dir":"m1.etcd/member",` +
	`"force-new-cluster":false,"heartbeat-interval":"100ms","election-timeout":"1s","initial-election-tick-advance":true,` +
	`"snapshot-count":10000,"max-wals":5,"max-snapshots":5,"snapshot-catchup-entries":1000,` +
	`"initial-advertise-peer-urls":["http://localhost:2380"],"listen-peer-urls":["http://localhost:2380"],` +
	`"advertise-client-urls":["http://localhost:2379"],"listen-client-urls":["http://localhost:2379"],` +
	`"listen-metrics-urls":["http://127.0.0.1:2381"],"local-address":"","cors":["http://a:1","http://b:1"],"host-whitelist":["*"],` +
	`"initial-cluster":"m1=http://localhost:2380","initial-cluster-state":"new","initial-cluster-token":"etcd-cluster",` +
	`"quota-backend-bytes":8589934592,"max-request-bytes":1572864,"max-concurrent-streams":4294967295,"pre-vote":true,` +
	`"feature-gates":"CompactHashCheck=true","initial-corrupt-check":false,"corrupt-check-time-interval":"1h0m0s",` +
	`"compact-check-time-interval":"1m0s","auto-compaction-mode":"revision","auto-compaction-retention":"1µs",` +
	`"auto-compaction-interval":"1µs","discovery-token":"","discovery-endpoints":"","discovery-dial-timeout":"2s",` +
	`"discovery-request-timeout":"5s","discovery-keepalive-time":"2s","discovery-keepalive-timeout":"6s",` +
	`"discovery-insecure-transport":true,"discovery-insecure-skip-tls-verify":false,"discovery-cert":"","discovery-key":"",` +
	`"discovery-cacert":"","discovery-user":"","downgrade-check-interval":"5s","max-learners":1,"v2-deprecation":"write-only"}` + "\n"

// Goal: the start-up line tells the settings as etcd's does, byte for byte.
func TestEcho(t *testing.T) {
	c, _, err := Parse(Sources{Args: []string{"--name=m1", "--snapshot-catchup-entries=1000", "--auto-compaction-mode=revision",
		"--auto-compaction-retention=1000", "--corrupt-check-time=1h", "--quota-backend-bytes=8589934592", "--cors=http://b:1,http://a:1",
		"--feature-gates=CompactHashCheck=true", "--listen-metrics-urls=http://127.0.0.1:2381"}})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	out := jsonlog.NewOutputs(&b, slog.LevelInfo)
	r := slog.NewRecord(time.Time{}, slog.LevelInfo, "starting an etcd server", 0)
	r.AddAttrs(c.Echo(false, "")...)
	if err := jsonlog.NewHandler(out, out, jsonlog.JSON).Handle(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(b.String(), `server",`)
	if got != etcdsLine {
		t.Errorf("got\n%s\nwant\n%s", got, etcdsLine)
	}
}

func TestEchoHidesSecrets(t *testing.T) {
	c := Default()
	c.Discovery.User, c.Discovery.Password = "me:hidden", "hidden"
	for _, a := range c.Echo(true, "") {
		if strings.Contains(a.Value.String(), "hidden") {
			t.Errorf("%s", a)
		}
		if a.Key == "initial-cluster" && a.Value.String() != "" {
			t.Errorf("a member with data has no initial cluster: %s", a)
		}
	}
}
