// Command bench measures bin/holdfast and a real etcd side by side, over etcd's protocol, and records what it saw.
//
//	go run ./bench                        every row, three rounds, about ten minutes on a quiet machine
//	ROWS='put|get' ROUNDS=6 go run ./bench
//
// A row is one question (rows.go is the list, NOTES.md has the questions and what was found). It is put to both sides in
// turn, A B A B, once per round, each time to a freshly started process. Nothing is asserted: a number that depends on
// the machine of the day can only be recorded and compared with its neighbour.
//
//	Shape   results/<date>-<commit>.jsonl: one line about the machine, then one line per row, side and round. A run of
//	        the same binaries on the same day goes on where the last one stopped.
//	Units   stand in the name of each value: _us, _mb (2^20 bytes), _per_s, _cores
//	Errors  a row that fails is reported and the others run all the same
//
// Environment: ROWS a regular expression over the names of rows; ROUNDS how often each is repeated; HOLDFAST the binary
// that is measured, bin/holdfast if unset; DIR where data goes, .cache/bench if unset (a file system in memory makes
// syncing free and the figures useless); LEASES how many the row leases has, 100,000 if unset.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"

	"holdfast/test/etcd"
)

// roundsDefault is enough for a median that one bad moment does not move.
const roundsDefault = 3

// leasesDefault is what a cluster of 100,000 clients would keep.
const leasesDefault = 100_000

// settings are what the environment says.
type settings struct {
	rows     *regexp.Regexp
	rounds   int
	holdfast string // path of the binary
	dir      string // where data goes
	results  string // where records go
	leases   int    // of the row leases
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := bench(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context) error {
	root, err := etcd.Root()
	if err != nil {
		return err
	}
	set, err := readSettings(root, os.Getenv)
	if err != nil {
		return err
	}
	s, err := newSuite(set, root)
	if err != nil {
		return err
	}
	defer s.close()
	return s.run(ctx)
}

// readSettings fills what getenv leaves open.
func readSettings(root string, getenv func(string) string) (settings, error) {
	or := func(name, otherwise string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return otherwise
	}
	rows, err := regexp.Compile(or("ROWS", "."))
	if err != nil {
		return settings{}, fmt.Errorf("ROWS: %w", err)
	}
	rounds, err := strconv.Atoi(or("ROUNDS", strconv.Itoa(roundsDefault)))
	if err != nil || rounds < 1 {
		return settings{}, fmt.Errorf("ROUNDS=%s: want a number from 1", getenv("ROUNDS"))
	}
	leases, err := strconv.Atoi(or("LEASES", strconv.Itoa(leasesDefault)))
	if err != nil || leases < 1 {
		return settings{}, fmt.Errorf("LEASES=%s: want a number from 1", getenv("LEASES"))
	}
	return settings{
		leases:   leases,
		rows:     rows,
		rounds:   rounds,
		holdfast: or("HOLDFAST", filepath.Join(root, "bin", "holdfast")),
		dir:      or("DIR", filepath.Join(root, ".cache", "bench")),
		results:  filepath.Join(root, "bench", "results"),
	}, nil
}
