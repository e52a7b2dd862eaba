package transport

import (
	"sync"

	"go.etcd.io/raft/v3/raftpb"
)

const (
	// streamMessagesMax and pipelineMessagesMax bound what waits for a connection. etcd's numbers: more than raft sends to
	// one peer in an election timeout, and what a hiccup of a second holds up.
	streamMessagesMax   = 4096
	pipelineMessagesMax = 64
	// outboxBytesMax bounds it in memory: a quarter more than the entries raft has under way to one follower, so that the
	// leader's own bound is felt first. Beyond it messages are dropped, but a single one always has room.
	outboxBytesMax = 80 << 20
	// messageOverhead is what a message without entries is taken for, entryOverhead what one adds to its data.
	messageOverhead = 128
)

// verdict is what became of a message put into an outbox.
type verdict int

const (
	taken verdict = iota
	full
	shut // nobody sends from this outbox
)

// outbox holds the messages that wait for one connection.
type outbox struct {
	c chan *raftpb.Message // to receive from; each message received is told to sent

	mu     sync.Mutex // guards the fields below; also held while putting into c, so that a shut outbox stays empty
	opened bool
	bytes  int
}

func newOutbox(messagesMax int) *outbox { return &outbox{c: make(chan *raftpb.Message, messagesMax)} }

func (o *outbox) open() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.opened = true
}

func (o *outbox) isOpen() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.opened
}

// shut refuses further messages and returns how many were dropped.
func (o *outbox) shut() (dropped int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.opened, o.bytes = false, 0
	for {
		select {
		case <-o.c:
			dropped++
		default:
			return dropped
		}
	}
}

func (o *outbox) put(m *raftpb.Message) verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	size := memory(m)
	switch {
	case !o.opened:
		return shut
	case o.bytes > 0 && o.bytes+size > outboxBytesMax:
		return full
	}
	select {
	case o.c <- m:
		o.bytes += size
		return taken
	default:
		return full
	}
}

// sent says that a message was received from c.
func (o *outbox) sent(m *raftpb.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bytes -= memory(m)
}

// memory is about what m keeps in memory.
func memory(m *raftpb.Message) int {
	n := messageOverhead + len(m.Context)
	for _, e := range m.Entries {
		n += len(e.Data) + entryOverhead
	}
	return n
}
