package server

import (
	"testing"
	"time"

	"holdfast/kv"
	"holdfast/metrics"
)

// BenchmarkInstruments is what counting costs for a put in the server: its entry applied, and its duration.
func BenchmarkInstruments(b *testing.B) {
	seen := newInstruments(metrics.New(metrics.Config{}), time.Now)
	draft := kv.DraftOf(kv.KindPut, []byte("\n\x01k"))
	payload := draft.Seal(kv.CommandHeader{ID: 7})
	seen.Applying()
	began := seen.now()
	for b.Loop() {
		seen.Applied(payload, nil)
		seen.requests.Took(operationOf(payload), true, seen.now().Sub(began))
	}
}
