package kv

import (
	"bytes"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// TestLeaseInternal puts messages into their envelope and takes them out, also where the envelope holds what nobody knows, or
// the message in parts.
func TestLeaseInternal(t *testing.T) {
	body, err := proto.Marshal(&pb.LeaseTimeToLiveRequest{ID: -5, Keys: true})
	if err != nil {
		t.Fatal(err)
	}
	envelope := AppendLeaseInternal(nil, body)
	if want := append([]byte{0x0a, byte(len(body))}, body...); !bytes.Equal(envelope, want) {
		t.Errorf("envelope %x, want %x", envelope, want)
	}
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 9, protowire.VarintType), 300)
	n := len(body) - 2 // Keys
	for name, in := range map[string][]byte{
		"alone":          envelope,
		"among unknowns": append(append(bytes.Clone(unknown), envelope...), unknown...),
		"in parts":       AppendLeaseInternal(AppendLeaseInternal(nil, body[:n]), body[n:]),
	} {
		got, err := DecodeLeaseInternal(in)
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	if got, err := DecodeLeaseInternal(nil); len(got) != 0 || err != nil {
		t.Errorf("an empty envelope: %x, %v", got, err)
	}
	for n := 1; n < len(envelope); n++ {
		if got, err := DecodeLeaseInternal(envelope[:n]); err == nil {
			t.Errorf("the first %d bytes: %x", n, got)
		}
	}
}
