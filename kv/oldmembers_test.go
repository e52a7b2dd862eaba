package kv

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// oldEntry is a write of etcd's v2 API as its raft log has it: every field is written, zero or not.
func oldEntry(id uint64, method, path, value string) []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), id)
	for i, text := range []string{method, path, value} {
		b = protowire.AppendString(protowire.AppendTag(b, protowire.Number(i+2), protowire.BytesType), text)
	}
	for num := protowire.Number(5); num <= 16; num++ {
		if num == 6 {
			b = protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), "")
			continue
		}
		b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), 0)
	}
	return b
}

// TestOldMembers reads what etcd 3.5 has in its raft log about members: it counts as the commands that say the same since. What is
// of the v2 API's own keys is refused, and so is what only looks alike.
func TestOldMembers(t *testing.T) {
	c, err := DecodeCommand(oldEntry(77, "PUT", "/0/members/8e9e05c52164694d/attributes", `{"name":"m1","clientURLs":["http://a:2379"]}`))
	if err != nil || c.ID != 77 || c.Cold.GetClusterMemberAttrSet().GetMember_ID() != 0x8e9e05c52164694d ||
		c.Cold.ClusterMemberAttrSet.MemberAttributes.Name != "m1" || c.Cold.ClusterMemberAttrSet.MemberAttributes.ClientUrls[0] != "http://a:2379" {
		t.Errorf("attributes: %+v, %v", c, err)
	}
	c, err = DecodeCommand(oldEntry(78, "PUT", "/0/version", "3.5.0"))
	if err != nil || c.ID != 78 || c.Cold.GetClusterVersionSet().GetVer() != "3.5.0" {
		t.Errorf("version: %+v, %v", c, err)
	}
	for _, bad := range [][]byte{
		oldEntry(1, "PUT", "/1/foo", "bar"), oldEntry(1, "DELETE", "/0/version", ""), oldEntry(1, "PUT", "/0/members/x/attributes", "{}"),
		oldEntry(1, "PUT", "/0/members/1/attributes", "{"), oldEntry(1, "", "/0/version", "3.5.0"), {0x12, 0x03, 'P'},
	} {
		if c, err := DecodeCommand(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %+v, %v", bad, c, err)
		}
	}
	if _, err := DecodeCommand(oldEntry(1, "PUT", "/1/foo", "bar")); err == nil || !strings.Contains(err.Error(), "v2 API") {
		t.Errorf("a key of the v2 API: %v", err)
	}
}
