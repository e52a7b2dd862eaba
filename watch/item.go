package watch

import (
	"sync"
	"sync/atomic"

	"holdfast/kv"
)

// item is one event and its two encodings. Each encoding is made when the first watcher needs it and then shared by
// all; an event nobody watches is never encoded.
type item struct {
	kv.Event
	bare, full form
}

// form is one encoding of an event, framed by kv.AppendEvent.
type form struct {
	once sync.Once
	size int
	// framed is an array of one so that an answer with a single event can show it without a slice of its own.
	framed [1][]byte
}

func (it *item) init(e kv.Event) {
	it.Event = e
	it.bare.size = kv.SizeEvent(&it.Event, false)
	it.full.size = kv.SizeEvent(&it.Event, true)
}

// form picks the encoding. Without a previous KeyValue both would be the same bytes, so there is only one.
func (it *item) form(withPrev bool) *form {
	if withPrev && it.Prev != nil {
		return &it.full
	}
	return &it.bare
}

func (it *item) size(withPrev bool) int { return it.form(withPrev).size }

// frames gives the encoding as the events of an answer, making it if nobody has. encodings counts what is made.
func (it *item) frames(withPrev bool, encodings *atomic.Int64) [][]byte {
	f := it.form(withPrev)
	f.once.Do(func() {
		f.framed[0] = kv.AppendEvent(make([]byte, 0, f.size), &it.Event, withPrev)
		encodings.Add(1)
	})
	return f.framed[:]
}

// itemBytes is charged for each item besides the bytes it refers to: the struct, rounded up to its allocation.
const itemBytes = 256

// bytes is what the item holds in memory before it is encoded. Key lies within KV.
func (it *item) bytes() int { return itemBytes + len(it.KV) + len(it.Prev) }
