package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// shrinkRuns bounds the episodes run to make a failing list small; each costs two server starts.
const shrinkRuns = 60

// Shrink drops operations from a failing episode for as long as what is left still fails, in pieces of half the list, a
// quarter and so on, and returns the last failure. Only a difference of the same kind counts.
func Shrink(ctx context.Context, cfg Config, e Episode, f *Failure, progress io.Writer) *Failure {
	keep := make([]int, 0, f.Total)
	for i := range min(f.At+1, f.Total) {
		keep = append(keep, i)
	}
	runs := 0
	for piece := len(keep) / 2; piece >= 1; piece /= 2 {
		for at := 0; at < len(keep) && runs < shrinkRuns; runs++ {
			without := append(append([]int(nil), keep[:at]...), keep[min(at+piece, len(keep)):]...)
			e.Keep = map[int]bool{}
			for _, i := range without {
				e.Keep[i] = true
			}
			_, err := Run(ctx, cfg, e, NewTally(cfg))
			var smaller *Failure
			if !errors.As(err, &smaller) || smaller.kind() != f.kind() {
				at += piece
				continue
			}
			f, keep = smaller, without
			fmt.Fprintf(progress, "%d operations still fail\n", len(keep))
		}
	}
	return f
}

var digits = regexp.MustCompile("[0-9]+")

// kind is what differs without the numbers in it, so that the same fault elsewhere in a list is known again.
func (f *Failure) kind() string {
	line, _, _ := strings.Cut(f.Found, "\n")
	line, _, _ = strings.Cut(line, ": etcd ")
	return digits.ReplaceAllString(line, "n")
}
