package kv

import "google.golang.org/protobuf/encoding/protowire"

// EventType is what happened to a key (mvccpb.Event.EventType).
type EventType int32

// The event types.
const (
	EventPut    EventType = 0
	EventDelete EventType = 1
)

// Event is one change of one key.
type Event struct {
	Rev  Rev
	Type EventType
	// Key aliases KV.
	Key []byte
	// KV is the encoded KeyValue of the event: the new one of a put; of a delete one with key and mod revision only.
	KV []byte
	// Prev is the encoded KeyValue before the change; nil if there was none or it has been compacted away.
	Prev []byte
	// NoPrev says that there was one and it is not given, because nobody asked for it.
	NoPrev bool
	// Lease is the lease of the new KeyValue, PrevLease that of the one before.
	Lease, PrevLease LeaseID
}

// Change is everything that one revision did.
type Change struct {
	Revision Revision
	// Events are in the order of their sub-revisions. A revision too large to be held in memory has none here
	// (Large is set): its events are read back from the store.
	Events []Event
	Large  bool
}

// AppendEvent adds e to dst as one framed WatchResponse.events field, with the previous KeyValue if withPrev is set.
func AppendEvent(dst []byte, e *Event, withPrev bool) []byte {
	n := sizeEvent(e, withPrev)
	dst = appendLen(dst, fieldWatchEvents, n)
	dst = appendInt(dst, 1, int64(e.Type))
	dst = protowire.AppendBytes(appendTag(dst, 2, protowire.BytesType), e.KV)
	if withPrev && e.Prev != nil {
		dst = protowire.AppendBytes(appendTag(dst, 3, protowire.BytesType), e.Prev)
	}
	return dst
}

// SizeEvent is the number of bytes that AppendEvent adds.
func SizeEvent(e *Event, withPrev bool) int { return sizeMessage(sizeEvent(e, withPrev)) }

func sizeEvent(e *Event, withPrev bool) int {
	n := sizeInt(int64(e.Type)) + sizeMessage(len(e.KV))
	if withPrev && e.Prev != nil {
		n += sizeMessage(len(e.Prev))
	}
	return n
}

// fieldWatchEvents frames events in a WatchResponse.
const fieldWatchEvents protowire.Number = 11
