package clients

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/test/cli"
	"holdfast/test/etcd"
	"holdfast/test/run"
)

// TestEtcdctl runs etcd's etcdctl against the server and against etcd. Status, standard output and standard error of
// each command must be equal, but for the few numbers that a server draws or measures.
func TestEtcdctl(t *testing.T) {
	sides := bothSides(t)
	left := unserved(t, sides[1])
	var calls [2][]cli.Call
	for i, side := range sides {
		for _, c := range cli.Commands(side.Dir) {
			if !left[c.Part] {
				calls[i] = append(calls[i], c)
			}
		}
	}
	cli.Compare(t, sides, calls)
	t.Logf("%d of %d calls", len(calls[0]), len(cli.Commands("")))
}

// TestAlarm raises the alarm that space is short on both servers and compares what etcdctl says and can still do.
func TestAlarm(t *testing.T) {
	sides := bothSides(t)
	for _, side := range sides {
		api := dial(t, side.Server)
		alarm := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE, MemberID: api.hash(t, 0).Header.MemberId}
		side.OK(t, "put", "a", "1")
		if _, err := api.maintenance.Alarm(t.Context(), alarm); err != nil {
			t.Fatal(err)
		}
	}
	var calls []cli.Call
	for _, line := range []string{"alarm list", "alarm list -w json", "endpoint health", "endpoint status", "endpoint status -w json",
		"put a 2", "lease grant 10", "get a", "del a", "compaction 2", "alarm disarm", "alarm list", "alarm disarm -w json", "endpoint health",
		"put a 3", "get a -w json"} {
		calls = append(calls, cli.Call{Args: strings.Fields(line)})
	}
	cli.Compare(t, sides, [2][]cli.Call{calls, calls})
}

// bothSides returns etcdctl pointed at an etcd and at the server under test, in this order.
func bothSides(t *testing.T) [2]*cli.Tool {
	t.Helper()
	var sides [2]*cli.Tool
	for i, server := range []string{etcd.Binary(t, "etcd"), binary(t)} {
		// Equal addresses give equal ids of member and cluster.
		sides[i] = cli.New(t, etcd.Binary(t, "etcdctl"), serveWith(t, run.Config{Binary: server, Dir: t.TempDir(),
			Args:          []string{"--quota-backend-bytes=2147483648"}, // it is reported, and the defaults differ
			AdvertisePeer: "http://127.0.0.1:12380", AdvertiseClient: "http://127.0.0.1:12379"}))
	}
	return sides
}
