package raftlog

import (
	"errors"
	"fmt"
)

var (
	// ErrExists is returned by Create when the directory already holds a log.
	ErrExists = errors.New("raft log exists already")
	// ErrNotFound is returned when a directory holds no log.
	ErrNotFound = errors.New("no raft log found")
	// ErrReleased is returned when entries are asked for that were released, or that this log never held.
	ErrReleased = errors.New("raft log entries are no longer kept")
	// ErrDamaged is what every *DamageError is: the log holds something that no crash leaves behind.
	ErrDamaged = errors.New("raft log is damaged")
	// ErrFailed is wrapped by every answer of a Log whose disk failed once: what is durable is unknown from then on, so
	// the member has to stop and start again from what the disk really holds.
	ErrFailed = errors.New("raft log failed earlier")
)

// A DamageError says where a log is damaged, how that shows, and what to do. It is never repaired here: the records may
// have been acknowledged, and a member that forgets what it acknowledged can break the whole cluster.
type DamageError struct {
	File   string // path of the segment, or of the directory when a segment is missing
	Offset int64  // of the record in File; 0 when it is about the whole file
	Cause  string
	Remedy string
}

const (
	remedyRejoin  = "do not start this member from these files: restore the file from a copy, or remove the member from the cluster, empty its data directory and add it again"
	remedySegment = "put the missing segment back, or remove the member from the cluster, empty its data directory and add it again"
)

func (e *DamageError) Error() string {
	return fmt.Sprintf("raft log %s is damaged at offset %d: %s; %s", e.File, e.Offset, e.Cause, e.Remedy)
}

// Is makes errors.Is(err, ErrDamaged) true.
func (e *DamageError) Is(target error) bool { return target == ErrDamaged }
