package server

import (
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
)

// hotOperations are the first of operations: finding one costs no hash.
var hotOperations = func() (names [16]string) {
	for number := range names {
		names[number] = operations[protowire.Number(number)]
	}
	return names
}()

// operations are etcd's names for what an entry of the log asks, by the number of its field in InternalRaftRequest.
var operations = func() map[protowire.Number]string {
	names := map[protowire.Number]string{}
	fields := new(pb.InternalRaftRequest).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f, name := fields.Get(i), ""
		for part := range strings.SplitSeq(string(f.Name()), "_") {
			name += strings.ToUpper(part[:1]) + part[1:]
		}
		names[f.Number()] = name
	}
	return names
}()

// What comes beside the request itself: the deprecated id, and the header.
const (
	fieldID     protowire.Number = 1
	fieldHeader protowire.Number = 100
)

// operationOf is etcd's name for what a payload asks: that of the first field which is neither id nor header.
func operationOf(payload []byte) string {
	for len(payload) > 0 {
		number, kind, n := protowire.ConsumeTag(payload)
		if n < 0 {
			break
		}
		if number != fieldID && number != fieldHeader {
			if int(number) < len(hotOperations) && hotOperations[number] != "" {
				return hotOperations[number]
			}
			if name, known := operations[number]; known {
				return name
			}
			break
		}
		m := protowire.ConsumeFieldValue(number, kind, payload[n:])
		if m < 0 {
			break
		}
		payload = payload[n+m:]
	}
	return "Unknown"
}
