package peer

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// TestCompare holds pairs of answers against each other and expects exactly the differences that differences.txt does not
// excuse.
func TestCompare(t *testing.T) {
	head := func(rev int64, term uint64) *pb.ResponseHeader {
		return &pb.ResponseHeader{ClusterId: 1, MemberId: 2, Revision: rev, RaftTerm: term}
	}
	kv := func(key, value string, mod int64) *mvccpb.KeyValue {
		return &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), ModRevision: mod}
	}
	ranged := func(kvs ...*mvccpb.KeyValue) *pb.RangeResponse { return &pb.RangeResponse{Kvs: kvs} }
	byValue := &pb.RangeRequest{SortTarget: pb.RangeRequest_VALUE, SortOrder: pb.RangeRequest_ASCEND}
	for _, c := range []struct {
		name      string
		request   proto.Message
		want, got proto.Message
		found     string // part of the only line, "" for none
	}{
		{"equal", nil, &pb.PutResponse{Header: head(3, 2)}, &pb.PutResponse{Header: head(3, 2)}, ""},
		{"another term", nil, &pb.PutResponse{Header: head(3, 2)}, &pb.PutResponse{Header: head(3, 9)}, ""},
		{"no term", nil, &pb.PutResponse{Header: head(3, 2)}, &pb.PutResponse{Header: head(3, 0)}, "raft_term"},
		{"another revision", nil, &pb.PutResponse{Header: head(3, 2)}, &pb.PutResponse{Header: head(4, 2)}, "PutResponse.header.revision: etcd 3, ours 4"},
		{"no header", nil, &pb.PutResponse{Header: head(3, 2)}, &pb.PutResponse{}, "header"},
		{"empty header in place of none", nil, &pb.DefragmentResponse{}, &pb.DefragmentResponse{Header: &pb.ResponseHeader{}}, "header"},
		{"a second less to live", nil, &pb.LeaseTimeToLiveResponse{TTL: 10}, &pb.LeaseTimeToLiveResponse{TTL: 9}, ""},
		{"two seconds less to live", nil, &pb.LeaseTimeToLiveResponse{TTL: 10}, &pb.LeaseTimeToLiveResponse{TTL: 8}, "TTL"},
		{"lease keys in another order", nil, &pb.LeaseTimeToLiveResponse{Keys: [][]byte{[]byte("a"), []byte("b")}},
			&pb.LeaseTimeToLiveResponse{Keys: [][]byte{[]byte("b"), []byte("a")}}, ""},
		{"another lease key", nil, &pb.LeaseTimeToLiveResponse{Keys: [][]byte{[]byte("a"), []byte("b")}},
			&pb.LeaseTimeToLiveResponse{Keys: [][]byte{[]byte("b"), []byte("c")}}, "keys"},
		{"a chosen id", nil, &pb.LeaseGrantResponse{ID: 70}, &pb.LeaseGrantResponse{ID: 80}, ""},
		{"an id nobody chose", nil, &pb.LeaseGrantResponse{ID: 71}, &pb.LeaseGrantResponse{ID: 80}, "ID"},
		{"equal values change places", byValue, ranged(kv("a", "1", 2), kv("b", "1", 3)), ranged(kv("b", "1", 3), kv("a", "1", 2)), ""},
		{"keys change places", &pb.RangeRequest{}, ranged(kv("a", "1", 2), kv("b", "2", 3)), ranged(kv("b", "2", 3), kv("a", "1", 2)), ""},
		{"a value", byValue, ranged(kv("a", "1", 2)), ranged(kv("a", "2", 2)), "value"},
		{"a key less", byValue, ranged(kv("a", "1", 2)), ranged(), "length"},
		{"unknown fields", nil, ranged(), withUnknown(ranged()), "unknown fields"},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := loadDifferences(differencesText).compare(c.request, reply(c.want), reply(c.got), map[int64]int64{70: 80})
			text := strings.Join(found, "\n")
			if c.name == "keys change places" { // every field of both
				if len(found) == 0 {
					t.Fatal("nothing found")
				}
				return
			}
			if c.found == "" && len(found) > 0 || c.found != "" && (len(found) != 1 || !strings.Contains(text, c.found)) {
				t.Fatalf("found %q, want %q", text, c.found)
			}
		})
	}
}

// TestCompareErrors does the same for statuses.
func TestCompareErrors(t *testing.T) {
	d := loadDifferences(differencesText)
	compacted := answer{code: codes.OutOfRange, text: "etcdserver: mvcc: required revision has been compacted"}
	for _, c := range []struct {
		name      string
		want, got answer
		found     int
	}{
		{"equal", compacted, compacted, 0},
		{"another text", compacted, answer{code: codes.OutOfRange, text: "mvcc: required revision has been compacted"}, 1},
		{"another code", compacted, answer{code: codes.Unknown, text: compacted.text}, 1},
		{"decoders differ", answer{text: "grpc: error unmarshalling request: x"}, answer{text: "grpc: failed to unmarshal the received message: y"}, 0},
	} {
		if found := d.compare(nil, c.want, c.got, nil); len(found) != c.found {
			t.Errorf("%s: found %q", c.name, found)
		}
	}
}

// TestDifferencesAreExplained refuses a line without a reason or about a field that does not exist.
func TestDifferencesAreExplained(t *testing.T) {
	for _, line := range []string{
		"etcdserverpb.ResponseHeader.raft_term | any",
		"etcdserverpb.ResponseHeader.raft_term | any | ",
		"etcdserverpb.ResponseHeader.no_such | any | because",
		"etcdserverpb.ResponseHeader.raft_term | somehow | because",
		"etcdserverpb.LeaseTimeToLiveResponse.TTL | within | because",
		"etcdserverpb.Watcher | unbuilt | because",
		"etcdserverpb.Watch.Follow | unbuilt | because",
		"etcdserverpb.WatchQuestion | answered | because",
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("taken: %s", line)
				}
			}()
			loadDifferences(line)
		}()
	}
}

func reply(m proto.Message) answer { return answer{messages: []proto.Message{m}} }

func withUnknown(m proto.Message) proto.Message {
	m.ProtoReflect().SetUnknown([]byte{0x98, 0x06, 0x01})
	return m
}
