package kv

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"google.golang.org/protobuf/encoding/protowire"
)

// etcd up to 3.5 kept what members say of themselves, and the cluster's version, in the store of its v2 API, and its raft log has the
// writes to that, bare, where a command would be:
//
//	Shape   1: id  2: method  3: path  4: value  and fields that such writes leave zero
//	        PUT /0/members/<id, hex>/attributes   {"name":...,"clientURLs":[...]}
//	        PUT /0/version                        3.5.0
//	Source  etcd 3.5's raft log, as it is written

// oldWrite is a write of the v2 API.
type oldWrite struct {
	id                  uint64
	method, path, value string
}

// decodeOldMembers reads such an entry as the command that says the same since. Keys of the v2 API itself are an error: nothing
// holds them any more.
func decodeOldMembers(payload []byte) (Command, error) {
	w, ok := readOldWrite(payload)
	if !ok {
		return Command{}, ErrMalformed
	}
	m := &pb.InternalRaftRequest{ID: w.id}
	member, isMember := strings.CutPrefix(w.path, "/0/members/")
	member, attributes := strings.CutSuffix(member, "/attributes")
	switch {
	case w.method == "PUT" && w.path == "/0/version":
		m.ClusterVersionSet = &membershippb.ClusterVersionSetRequest{Ver: w.value}
	case w.method == "PUT" && isMember && attributes:
		id, err := strconv.ParseUint(member, 16, 64)
		if err != nil {
			return Command{}, fmt.Errorf("member %q: %w", member, ErrMalformed)
		}
		said := new(membershippb.Attributes)
		if err := json.Unmarshal([]byte(w.value), &struct {
			Name       *string   `json:"name"`
			ClientURLs *[]string `json:"clientURLs"`
		}{&said.Name, &said.ClientUrls}); err != nil {
			return Command{}, fmt.Errorf("attributes of member %s: %w: %w", member, ErrMalformed, err)
		}
		m.ClusterMemberAttrSet = &membershippb.ClusterMemberAttrSetRequest{Member_ID: id, MemberAttributes: said}
	default:
		return Command{}, fmt.Errorf("%s %q of etcd's v2 API, whose keys are not kept any more: %w", w.method, w.path, ErrMalformed)
	}
	return Command{CommandHeader: CommandHeader{ID: w.id}, Cold: m}, nil
}

// readOldWrite tells whether a payload has the shape of a write of the v2 API.
func readOldWrite(payload []byte) (w oldWrite, ok bool) {
	for rest := payload; len(rest) > 0; {
		num, typ, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return w, false
		}
		rest = rest[n:]
		size := protowire.ConsumeFieldValue(num, typ, rest)
		if size < 0 {
			return w, false
		}
		text, _ := protowire.ConsumeBytes(rest)
		number, _ := protowire.ConsumeVarint(rest)
		switch {
		case num == 1 && typ == protowire.VarintType:
			w.id = number
		case num == 2 && typ == protowire.BytesType:
			w.method = string(text)
		case num == 3 && typ == protowire.BytesType:
			w.path = string(text)
		case num == 4 && typ == protowire.BytesType:
			w.value = string(text)
		}
		rest = rest[size:]
	}
	return w, w.method != "" && strings.HasPrefix(w.path, "/")
}
