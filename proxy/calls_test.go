package proxy

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// TestLoggedContent: messages are logged as JSON, forwarded ones too, but nothing of what concerns users.
func TestLoggedContent(t *testing.T) {
	raw := func(m proto.Message) *frame {
		body, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return &frame{body}
	}
	login := &pb.AuthenticateRequest{Name: "alice", Password: "geheim"}
	for _, c := range []struct {
		method string
		m      any
		sent   bool
		want   string
	}{
		{"/etcdserverpb.KV/Put", &pb.PutRequest{Key: []byte("k")}, false, `{"key":"aw=="}`},
		{"/etcdserverpb.Maintenance/MoveLeader", raw(&pb.MoveLeaderRequest{TargetID: 7}), false, `{"targetID":"7"}`},
		{"/etcdserverpb.Lease/LeaseGrant", raw(&pb.LeaseGrantResponse{ID: 7}), true, `{"ID":"7"}`},
		{"/etcdserverpb.Auth/Authenticate", login, false, withheld},
		{"/etcdserverpb.Auth/Authenticate", raw(login), false, withheld},
		{"/etcdserverpb.Auth/Authenticate", raw(&pb.AuthenticateResponse{Token: "geheim"}), true, withheld},
		{"/v3lockpb.Lock/Lock", raw(login), false, ""},
		{"/etcdserverpb.KV/Put", (*pb.PutResponse)(nil), true, ""},
	} {
		got := content(c.method, c.m, c.sent)
		if strings.ReplaceAll(got, " ", "") != c.want { // protobuf puts spaces in at random
			t.Errorf("%s: %s, want %s", c.method, got, c.want)
		}
	}
}
