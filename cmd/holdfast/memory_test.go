package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"math"
	"runtime/debug"
	"testing"

	"holdfast/config"
)

// Goal: the room for garbage is full size without a limit and a share of a small heap. Method: a table.
func TestGCRoomFor(t *testing.T) {
	const m = 1 << 20
	for _, c := range []struct{ heap, want int64 }{{0, 32 * m}, {48 * m, 12 * m}, {128 * m, 32 * m}, {4096 * m, 32 * m}} {
		if got := gcRoomFor(c.heap); got != c.want {
			t.Errorf("a heap of %d MiB: %d bytes, want %d", c.heap/m, got, c.want)
		}
	}
}

// Goal: the log says below what Go is to stay: three quarters of the limit or what the environment says, without the room that takes nothing.
// Method: memory is divided as at a start; the runtime is told before what it would have found in the environment.
func TestGCLimitIsSaid(t *testing.T) {
	percent, limit, room := debug.SetGCPercent(100), debug.SetMemoryLimit(-1), gcRoom
	defer func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
		gcRoom = room
	}()
	const m = 1 << 20
	for _, c := range []struct {
		what              string
		limit             int64 // --memory-limit
		environment       string
		found, want, told int64
	}{
		{"a limit", 512 * m, "", math.MaxInt64, 384 * m, (384 + 32) * m},
		{"the environment, too", 512 * m, "200MiB", 200 * m, 200 * m, 200 * m},
		{"the environment wants none", 512 * m, "off", math.MaxInt64, 0, math.MaxInt64},
	} {
		t.Setenv("GOGC", "")
		t.Setenv("GOMEMLIMIT", c.environment)
		debug.SetMemoryLimit(c.found)
		var out bytes.Buffer
		divideMemory(config.Config{MemoryLimit: c.limit}, slog.New(slog.NewJSONHandler(&out, nil)))
		var line struct {
			GCLimit int64 `json:"gc-limit-bytes"`
		}
		line.GCLimit = -1
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if told := debug.SetMemoryLimit(-1); line.GCLimit != c.want || told != c.told {
			t.Errorf("%s: the log says %d, want %d; Go is told %d, want %d", c.what, line.GCLimit, c.want, told, c.told)
		}
	}
}
