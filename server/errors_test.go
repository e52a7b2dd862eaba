package server

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"holdfast/replica"
)

// TestEveryRefusalIsNamed reads the names of the replica's errors out of its source: each must become one of the server's,
// which have words on the wire. Others pass as they are.
func TestEveryRefusalIsNamed(t *testing.T) {
	source, err := os.ReadFile("../replica/replica.go")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]error{
		"ErrTooManyRequests": replica.ErrTooManyRequests, "ErrStopped": replica.ErrStopped, "ErrLeaderChanged": replica.ErrLeaderChanged,
		"ErrTimeout": replica.ErrTimeout, "ErrNotLeader": replica.ErrNotLeader, "ErrBadTransferee": replica.ErrBadTransferee,
		"ErrTransferTimeout": replica.ErrTransferTimeout,
	}
	names := regexp.MustCompile(`(?m)^\s+(Err\w+)\s+= errors\.New`).FindAllSubmatch(source, -1)
	if len(names) < len(known) {
		t.Fatalf("found %d errors: the search looks in the wrong place", len(names))
	}
	for _, name := range names {
		err, ok := known[string(name[1])]
		if !ok {
			t.Errorf("replica.%s is new: refusal must name it", name[1])
			continue
		}
		if got := refusal(fmt.Errorf("wrapped: %w", err)); strings.Contains(got.Error(), "replica") {
			t.Errorf("replica.%s is passed on as %v", name[1], got)
		}
	}
	other := errors.New("other")
	if refusal(other) != other || refusal(nil) != nil {
		t.Error("what is no error of the replica changes")
	}
}
