package kv

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// fieldTimeToLive is the only field of etcd's LeaseInternalRequest and LeaseInternalResponse, which members send each other
// around a LeaseTimeToLiveRequest and its response.
const fieldTimeToLive protowire.Number = 1

// AppendLeaseInternal appends a time-to-live message in its envelope.
func AppendLeaseInternal(b, message []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, fieldTimeToLive, protowire.BytesType), message)
}

// DecodeLeaseInternal takes the message out of its envelope; none is an empty one. As in every protobuf, a message that
// comes in parts is their sequence, and unknown fields are passed over.
func DecodeLeaseInternal(b []byte) (message []byte, err error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, fmt.Errorf("envelope of a lease: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if num == fieldTimeToLive && typ == protowire.BytesType {
			part, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return nil, fmt.Errorf("envelope of a lease: %w", protowire.ParseError(n))
			}
			message, b = append(message, part...), b[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return nil, fmt.Errorf("envelope of a lease: %w", protowire.ParseError(n))
		}
		b = b[n:]
	}
	return message, nil
}
