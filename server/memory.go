package server

import (
	"holdfast/mvcc"
	"holdfast/storage"
)

// Memory says how much the parts of a member may hold, in bytes. A zero field stands for its default.
type Memory struct {
	// CacheBytes bounds the cache of the store's blocks; 0 is storage.CacheBytesDefault.
	CacheBytes int64
	// MemTableBytes is the size of a table in memory, of which there are two; 0 is storage.MemTableBytesDefault.
	MemTableBytes uint64
	// FlushBytes is how much is applied before the store is made durable; 0 is storage.FlushBytesDefault, or less on a small
	// disk.
	FlushBytes int64
	// RowCacheBytes bounds the cache of the newest rows; 0 is mvcc.RowCacheBytesDefault.
	RowCacheBytes int64
	// RecentBytes bounds what is remembered of keys, without their values; 0 is mvcc.RecentBytesDefault.
	RecentBytes int64
	// WatchLogBytes bounds the log of events that watchers share; 0 is WatchLogBytesDefault.
	WatchLogBytes int
	// QueueBytes bounds the requests that wait to be written, and again those being written; KeptBytes the log entries kept for
	// members slightly behind. 0 is the default of replica.Limits.
	QueueBytes, KeptBytes uint64
	// Calls bounds how many calls that change something are under way, and again how many that read; 0 is CallsDefault.
	Calls int
	// AnswerBytes bounds the answers to ranges that are being made or sent; 0 is the api's default.
	AnswerBytes int64
	// BodyBytes bounds what requests in JSON hold while they are read; 0 is the api's default.
	BodyBytes int64
	// HeapBytes is where Go begins to collect garbage whatever it costs (GOMEMLIMIT); 0 is nowhere.
	HeapBytes int64
}

// Defaults that stand in no other package.
const (
	// WatchLogBytesDefault holds some seconds of heavy writing: a watcher that lags less costs no disk. It is filled only where one does.
	WatchLogBytesDefault = 32 << 20
	// CallsDefault is ten times what a busy member answers at once, and some 0.3 s of work for two cores. With their stacks
	// and buffers so many calls take about 200 MB.
	CallsDefault      = 10000
	queueBytesDefault = 64 << 20 // replica's
	keptBytesDefault  = 16 << 20 // replica's
	bodyBytesDefault  = 64 << 20 // api's
	// AnswerBytesDefault is room for some dozens of large lists at once, or for 250 that are sent in pieces.
	AnswerBytesDefault = 128 << 20
)

// What the parts need to work at all, however small the limit is.
const (
	cacheBytesMin    = 4 << 20   // a few hundred blocks: a scan still finds the indexes it has just used
	memTableBytesMin = 4 << 20   // two or three of the largest requests
	rowCacheBytesMin = 256 << 10 // 64 shards of a few rows
	recentBytesMin   = 64 << 10  // a few hundred keys
	watchLogBytesMin = 2 << 20   // one event of the largest request
	queueBytesMin    = 8 << 20   // twice what raft is given in one proposal
	keptBytesMin     = 2 << 20   // two messages to a follower
	callsMin         = 256       // a Kubernetes API server uses fewer
	bodyBytesMin     = 8 << 20   // two of the largest requests
	answerBytesMin   = 8 << 20   // sixteen answers that are sent in pieces
	heapBytesMin     = 48 << 20  // all of the above, and what Go keeps free
)

// flushBytesMin is in the ratio of the defaults, so that the flush rule acts first.
const flushBytesMin = memTableBytesMin * storage.FlushBytesDefault / storage.MemTableBytesDefault

// ampleMemory is the limit from which on every part has its default: three times what the caches and tables take together. Go
// needs half as much again beside them, and calls, answers, the log and connections need the rest.
const ampleMemory = 1 << 30

// MemoryFor divides a limit for the whole process, in bytes, among its parts. With 0 there is no limit. Below ampleMemory each
// part gets its default in proportion, but not less than it needs to work. The heap leaves a quarter, at most 256 MiB, to what is
// not Go's: the program itself, the sockets' buffers, the kernel's tables.
func MemoryFor(limit int64) Memory {
	if limit <= 0 {
		return Memory{}
	}
	share := func(full, least int64) int64 {
		if limit >= ampleMemory {
			return full
		}
		return max(least, full*(limit>>10)/(ampleMemory>>10))
	}
	return Memory{
		CacheBytes:    share(storage.CacheBytesDefault, cacheBytesMin),
		MemTableBytes: uint64(share(storage.MemTableBytesDefault, memTableBytesMin)),
		FlushBytes:    share(storage.FlushBytesDefault, flushBytesMin),
		RowCacheBytes: share(mvcc.RowCacheBytesDefault, rowCacheBytesMin),
		RecentBytes:   share(mvcc.RecentBytesDefault, recentBytesMin),
		WatchLogBytes: int(share(WatchLogBytesDefault, watchLogBytesMin)),
		QueueBytes:    uint64(share(queueBytesDefault, queueBytesMin)),
		KeptBytes:     uint64(share(keptBytesDefault, keptBytesMin)),
		Calls:         int(share(CallsDefault, callsMin)),
		AnswerBytes:   share(AnswerBytesDefault, answerBytesMin),
		BodyBytes:     share(bodyBytesDefault, bodyBytesMin),
		HeapBytes:     max(heapBytesMin, limit-min(limit/4, 256<<20)),
	}
}
