package ctl

import (
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/test/cli"
	"holdfast/test/run"
)

// raise raises an alarm of the one member there is.
func raise(t *testing.T, s *run.Server, kind pb.AlarmType) {
	t.Helper()
	conn, err := s.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	api := pb.NewMaintenanceClient(conn)
	status, err := api.Status(t.Context(), &pb.StatusRequest{})
	for deadline := time.Now().Add(30 * time.Second); err == nil && status.StorageVersion < "3.7"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) { // etcd writes the version of its data some seconds after its start
			t.Fatalf("the storage version stays %s", status.StorageVersion)
		}
		status, err = api.Status(t.Context(), &pb.StatusRequest{})
	}
	if err != nil {
		t.Fatal(err)
	}
	request := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: kind, MemberID: status.Header.MemberId}
	if _, err := api.Alarm(t.Context(), request); err != nil {
		t.Fatal(err)
	}
}

// TestAlarms makes the calls that show an alarm, that it concerns, and that end it, for each kind of alarm.
func TestAlarms(t *testing.T) {
	raised := slices.Concat(
		inEach("alarm list", "alarm list --hex", "endpoint health", "endpoint status", "endpoint hashkv", "member list"),
		once("put a 2", "get a", "del none", "defrag", "snapshot save DIR/alarm.db", "role add r", "auth status", "move-leader 1234", "downgrade validate 3.6",
			"member promote MEMBER"))
	cleared := inEach("alarm list", "alarm disarm", "endpoint health", "put a FORMAT")
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) {
		d := readDifferences(t)
		for _, kind := range []pb.AlarmType{pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT} {
			for _, format := range formats { // disarming ends it, so that each form of the answer needs an alarm of its own
				for _, side := range sides {
					raise(t, side.Server, kind)
				}
				if format == "simple" {
					d.compare(t, sides, raised)
				}
				d.compare(t, sides, once("alarm disarm -w "+format))
			}
			d.compare(t, sides, cleared)
		}
	}, flags("--quota-backend-bytes=2147483648"))
}

// TestUnreachable asks where nobody answers, alone and beside a member that does.
func TestUnreachable(t *testing.T) {
	const nobody, limit = "127.0.0.1:1", " --command-timeout=500ms"
	var calls []cli.Call
	for _, endpoints := range []string{nobody, "SERVER," + nobody, nobody + ",SERVER"} {
		calls = append(calls, inEach("endpoint status --endpoints="+endpoints+limit, "endpoint hashkv --endpoints="+endpoints+limit)...)
		calls = append(calls, once("defrag --endpoints="+endpoints+limit, "move-leader 1234 --endpoints="+endpoints+limit)...)
	}
	calls = append(calls, inEach("endpoint health --endpoints="+nobody+limit)...)
	for _, line := range []string{"member list", "member add m --peer-urls=http://127.0.0.1:2", "member remove 1234", "member promote 1234",
		"endpoint status --cluster", "endpoint health --cluster", "defrag --cluster", "alarm list", "alarm disarm", "auth status", "auth enable", "auth disable",
		"downgrade validate 3.6", "downgrade cancel", "snapshot save DIR/u.db", "member list --user=a:b", "endpoint status --dial-timeout=100ms"} {
		calls = append(calls, once(line+" --endpoints="+nobody+limit)...)
	}
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) {
		readDifferences(t).compareAtOnce(t, sides, calls)
	})
}
