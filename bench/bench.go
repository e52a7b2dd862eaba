// Package bench measures Holdfast and a real etcd side by side, over etcd's protocol, and records what it saw.
//
//	make bench                            every row, about 65 minutes
//	make bench ROWS='put|get' ROUNDS=6
//	make bench MINUTES=45                 as much of it as can be done in so long, what matters most first
//	holdfast bench --etcd=/usr/bin/etcd   the same where there is no checkout
//
// A row is one question (rows.go is the list, NOTES.md has the questions and where it stands, FINDINGS.md what was found). It is put to both sides in
// turn, A B A B, once per round, each time to freshly started processes; what is promised (targets.go) comes before the rest, and a round
// of a row is followed by those of others (plan.go). Nothing is asserted: a number that depends on
// the machine of the day can only be recorded and compared with its neighbour.
//
//	Shape   <Results>/<date>-<commit>.jsonl: one line about the machine, then one line per row, side and round. A run of
//	        the same binaries on the same day goes on where the last one stopped.
//	        <Dir>/stock/: data that several rows start from (stock.go)
//	Units   stand in the name of each value: _us, _mb (2^20 bytes), _per_s, _cores
//	Errors  a row that fails is reported and the others run all the same; an interrupted run keeps what it has measured
package bench

import (
	"context"
	"os"
	"regexp"
)

// Light rows take seconds, heavy ones up to minutes: so many rounds give each a median that one bad moment does not move,
// and all of them together an end within 65 minutes. Light ones without a promise are measured as often as heavy ones.
const roundsLight, roundsHeavy = 5, 3

// Config says what is compared, and where.
type Config struct {
	Holdfast string         // path of the binary that is measured
	Etcd     string         // path of the etcd beside it; empty: Holdfast is measured alone
	Rows     *regexp.Regexp // over the names of rows; nil: all
	Rounds   int            // how often each is repeated; 0: promised rows 5 times, heavy and other ones 3 times, the longest once
	Minutes  int            // nothing is begun that would not be over in time; 0: no bound
	Dir      string         // where data goes; in memory syncing would be free and the figures useless
	Results  string         // the folder of the records
	Profiles string         // a folder for profiles of our side's CPU while it is measured; empty: none are taken
	Keep     bool           // leave what was prepared for the next run; else it goes when nothing is missing any more
	Out      *os.File       // what is done, and in the end what was found
	short    bool           // each row for a moment, on little data: for a test that it works
}

// Run makes every measurement that is missing and prints what was found.
func Run(ctx context.Context, cfg Config) error {
	s, err := newSuite(cfg)
	if err != nil {
		return err
	}
	defer s.close()
	return s.run(ctx)
}

// List prints the names of all rows and what they ask.
func List(out *os.File) {
	w := newProgress(out)
	for _, r := range rows() {
		w.line("%-18s %s", r.name, r.asks)
	}
}
