package main

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"holdfast/config"
	"holdfast/server"
	"holdfast/util/cgroup"
)

// gcPercent is how much garbage may lie beside what lives before Go collects it. The caches and tables of the store are on
// Go's heap; at Go's own 100 the process takes twice what they are given (bench/FINDINGS.md, memory under load).
const gcPercent = 50

// gcRoom counts for Go as alive and is never touched, so that it takes addresses and no memory: a member in which little lives may fill gcPercent of it
// with garbage, too, before Go collects. Go knows no other lower bound. With the 25 MB that live with ten thousand keys and a thousand clients a
// collection was due every 12 MB, and a fifth of the CPU of gets went into them (bench/FINDINGS.md, little that lives).
var gcRoom []byte

const gcRoomBytes = 32 << 20

// divideMemory finds out what memory there is, says how it is divided, and tells Go its part, unless the environment has.
func divideMemory(cfg config.Config, log *slog.Logger) server.Memory {
	limit, from := cfg.MemoryLimit, "--memory-limit"
	if limit == 0 {
		found := cgroup.MemoryLimit(os.DirFS("/"))
		limit, from = found.Bytes, found.File
	}
	memory := server.MemoryFor(limit)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
		gcRoom = make([]byte, gcRoomFor(memory.HeapBytes))
	}
	gcLimit := limitGC(memory.HeapBytes)
	if limit == 0 {
		log.Info("memory is not limited; caches and buffers have their full size", "gc-limit-bytes", gcLimit)
		return memory
	}
	log.Info("memory is divided", "limit-bytes", limit, "from", from, "gc-limit-bytes", gcLimit,
		"block-cache-bytes", memory.CacheBytes, "memtable-bytes", memory.MemTableBytes, "flush-bytes", memory.FlushBytes,
		"row-cache-bytes", memory.RowCacheBytes, "recent-keys-bytes", memory.RecentBytes, "watch-log-bytes", memory.WatchLogBytes, "queue-bytes", memory.QueueBytes, "calls", memory.Calls, "answer-bytes", memory.AnswerBytes)
	return memory
}

// limitGC tells Go to stay below heapBytes, 0 for no bound, unless the environment has said below what. It returns what may be taken then, 0 for no
// bound: Go is told of gcRoom too, which takes nothing.
func limitGC(heapBytes int64) int64 {
	if os.Getenv("GOMEMLIMIT") == "" {
		if heapBytes > 0 {
			debug.SetMemoryLimit(heapBytes + int64(len(gcRoom)))
		}
		return heapBytes
	}
	if set := debug.SetMemoryLimit(-1); set != math.MaxInt64 {
		return set
	}
	return 0
}

// gcRoomFor is how large gcRoom is beside a heap of at most heapBytes, 0 for as large as it gets: an eighth of it is filled with garbage at most.
func gcRoomFor(heapBytes int64) int64 {
	if heapBytes == 0 {
		return gcRoomBytes
	}
	return min(gcRoomBytes, heapBytes/4)
}
