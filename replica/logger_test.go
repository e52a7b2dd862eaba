package replica

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Goal: a member that works writes no line per write. Method: raft is told twice that an entry is on the disk, which it remarks on.
func TestConfirmedTwiceIsNoNews(t *testing.T) {
	for _, level := range []slog.Level{slog.LevelInfo, slog.LevelDebug} {
		var lines bytes.Buffer
		storage := raft.NewMemoryStorage()
		node, err := raft.NewRawNode(&raft.Config{
			ID: 1, ElectionTick: 10, HeartbeatTick: 1, Storage: storage, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 8, AsyncStorageWrites: true,
			Logger: raftLogger{slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: level}))},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := node.Bootstrap([]raft.Peer{{ID: 1}}); err != nil {
			t.Fatal(err)
		}
		for _, m := range node.Ready().Messages {
			if m.GetType() != raftpb.MessageType_MsgStorageAppend {
				continue
			}
			for range 2 {
				for _, r := range m.GetResponses() {
					if err := node.Step(r); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if said := strings.Contains(lines.String(), "missing from unstable log"); said != (level == slog.LevelDebug) {
			t.Errorf("at level %v it is said: %v\n%s", level, said, lines.String())
		}
	}
}
