package replica

import (
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// TestMergeAcks checks which acknowledgements are sent: the highest to a leader, and everything that is not one.
func TestMergeAcks(t *testing.T) {
	ack := func(to, term, index uint64, reject bool) *raftpb.Message {
		return &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), To: &to, Term: &term, Index: &index, Reject: &reject}
	}
	vote := &raftpb.Message{Type: raftpb.MsgVoteResp.Enum()}
	older, low, high, again := ack(1, 2, 9, false), ack(2, 3, 5, false), ack(2, 3, 7, false), ack(2, 3, 6, false)
	reject := ack(2, 3, 4, true)
	got := mergeAcks([]*raftpb.Message{older, low, vote, high, reject, again})
	if want := []*raftpb.Message{older, vote, high, reject}; !slices.Equal(got, want) {
		t.Fatalf("kept %v, want %v", got, want)
	}
	if got := mergeAcks(nil); len(got) != 0 {
		t.Fatal(got)
	}
}
