package utl

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"holdfast/ctl/output"
	"holdfast/ctl/term"
	"holdfast/membership"
	"holdfast/server"
)

// recovered is what a recovery has found, and made of it.
type recovered struct {
	*server.Recovered
	work server.Recovery
	self membership.Member // of the new cluster
}

func (r recovered) report(paint term.Paint) output.Report {
	return output.Report{
		JSON:   r.json(),
		Tables: []output.Table{r.left(), r.outcome()},
		Simple: func(w io.Writer) { r.tell(w, paint) },
	}
}

// left is a table of the directories that are left.
func (r recovered) left() output.Table {
	t := output.Table{Columns: []output.Column{
		{Head: "data directory", Name: "DataDir"}, {Head: "member", Name: "Member"}, {Head: "last term", Name: "LastTerm"}, {Head: "last index", Name: "LastIndex"},
		{Head: "known committed", Name: "Committed"}, {Head: "revision", Name: "Revision"}, {Head: "taken", Name: "Taken"},
	}}
	for i, s := range r.Survivors {
		t.Rows = append(t.Rows, []output.Cell{
			output.Quoted(s.DataDir), output.Quoted(s.Member.String()), output.Shown(s.LastTerm), output.Shown(s.Last),
			output.Shown(s.Committed), output.Shown(s.Revision), output.Shown(i == r.Chosen),
		})
	}
	return t
}

// outcome is a table of one row: what is kept, and what was made of it.
func (r recovered) outcome() output.Table {
	return output.Table{
		Columns: []output.Column{
			{Head: "committed", Name: "Committed"}, {Head: "committed revision", Name: "CommittedRevision"}, {Head: "revision", Name: "Revision"},
			{Head: "new revision", Name: "NewRevision"}, {Head: "cluster", Name: "ClusterID"}, {Head: "voters", Name: "Voters"}, {Head: "voters left", Name: "VotersLeft"},
			{Head: "made", Name: "Made"},
		},
		Rows: [][]output.Cell{{
			output.Shown(r.Committed), output.Shown(r.CommittedRevision), output.Shown(r.Revision),
			output.Shown(r.NewRevision), output.Quoted(fmt.Sprintf("%x", r.ClusterID)), output.Shown(r.Voters), output.Shown(r.VotersLeft),
			output.Shown(!r.work.DryRun),
		}},
	}
}

// tell says what was found, what is kept, what cannot be known, and what to do next.
func (r recovered) tell(out io.Writer, paint term.Paint) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\tdata directory\tmember\tlast term\tlast index\tknown committed\trevision\t")
	for i, s := range r.Survivors {
		mark := ""
		if i == r.Chosen {
			mark = "taken"
		}
		fmt.Fprintf(table, "%s\t%s\t%v\t%d\t%d\t%d\t%d\t\n", mark, s.DataDir, s.Member, s.LastTerm, s.Last, s.Committed, int64(s.Revision))
	}
	_ = table.Flush() // out is a buffer's
	r.tellKept(out, paint)
	for _, a := range r.Alarms {
		fmt.Fprintf(out, "Alarm %v of member %v stays in force; see alarm list and alarm disarm.\n", a.Type, a.Member)
	}
	into := r.work.Into
	if r.work.DryRun {
		fmt.Fprintf(out, "\nNothing was made. The new cluster %x would begin in %s at revision %d.\n", r.ClusterID, into.DataDir, int64(r.NewRevision))
		return
	}
	urls := strings.Join(r.self.PeerURLs, ",")
	fmt.Fprintf(out, "\n%s cluster %x, member %s (%v), revision %d, all before it compacted.\n",
		paint.Good("Made in "+into.DataDir+":"), r.ClusterID, r.self.Name, r.self.ID, int64(r.NewRevision))
	fmt.Fprintf(out, "Start it: holdfast --name %s --data-dir %s --listen-peer-urls %s --initial-advertise-peer-urls %s ...\n", r.self.Name, into.DataDir, urls, urls)
}

func (r recovered) tellKept(out io.Writer, paint term.Paint) {
	last := r.Survivors[r.Chosen].Last
	fmt.Fprintf(out, "\nKnown to be committed: everything up to revision %d (entry %d).\n", int64(r.CommittedRevision), r.Committed)
	switch {
	case r.Revision > r.CommittedRevision:
		fmt.Fprintf(out, "%s revisions %d to %d (entries %d to %d), which may never have been acknowledged to anybody.\n", paint.Bold("Kept as well:"),
			int64(r.CommittedRevision)+1, int64(r.Revision), r.Committed+1, last)
	case last > r.Committed:
		fmt.Fprintf(out, "Kept as well: entries %d to %d, which change no key.\n", r.Committed+1, last)
	default:
		fmt.Fprintln(out, "There is nothing beyond that.")
	}
	if r.Complete() {
		fmt.Fprintf(out, "%d of %d voting members are left, a majority: everything that was ever acknowledged is here. They could also be started as they are.\n", r.VotersLeft, r.Voters)
		return
	}
	fmt.Fprintf(out, "%s %d of %d voting members left: writes that were acknowledged and that only the lost members had cannot be known. They are not here.\n",
		paint.Bad("Perhaps lost:"), r.VotersLeft, r.Voters)
}

// json says the same for programs.
func (r recovered) json() any {
	type survivor struct {
		DataDir   string `json:"dataDir"`
		Member    string `json:"member"`
		LastTerm  uint64 `json:"lastTerm"`
		LastIndex uint64 `json:"lastIndex"`
		Committed uint64 `json:"committed"`
		Revision  int64  `json:"revision"`
		Taken     bool   `json:"taken"`
	}
	answer := struct {
		Survivors         []survivor `json:"survivors"`
		Committed         uint64     `json:"committed"`
		CommittedRevision int64      `json:"committedRevision"`
		Revision          int64      `json:"revision"`
		NewRevision       int64      `json:"newRevision"`
		ClusterID         string     `json:"clusterID"`
		Voters            int        `json:"voters"`
		VotersLeft        int        `json:"votersLeft"`
		Made              bool       `json:"made"`
	}{
		Committed: r.Committed, CommittedRevision: int64(r.CommittedRevision), Revision: int64(r.Revision), NewRevision: int64(r.NewRevision),
		ClusterID: fmt.Sprintf("%x", r.ClusterID), Voters: r.Voters, VotersLeft: r.VotersLeft, Made: !r.work.DryRun,
	}
	for i, s := range r.Survivors {
		answer.Survivors = append(answer.Survivors, survivor{s.DataDir, s.Member.String(), s.LastTerm, s.Last, s.Committed, int64(s.Revision), i == r.Chosen})
	}
	return answer
}
