package bench

import (
	"context"
	"fmt"
	"slices"
)

// row is one question to both sides.
type row struct {
	name   string
	asks   string
	aim    string // what we want besides the row's targets (targets.go); empty for nothing
	heavy  bool   // takes long: fewer rounds
	once   bool   // one round says enough, or costs too much for more
	needMB float64
	show   []string
	run    func(ctx context.Context, t *task) error
}

// rows in the order in which they run. The row load comes first: what it writes is what many others start from.
func rows() []row {
	return slices.Concat(loadRows(), putRows(), pacedRows(), getRows(), listRows(), jsonRows(), kubeRows(), watchRows(), compactRows(),
		[]row{bulkRow()}, authRows(), memberRows())
}

func loadRows() []row {
	return []row{
		{
			name: "load",
			asks: fmt.Sprintf("do %d keys of %d B go in at a steady rate, with memory that does not grow?", keysBase, valueBytes),
			aim:  "the last 100,000 as fast as the first, in no more memory than the caches are given",
			once: true,
			show: showLoad,
			run:  load,
		},
		{
			name:  "restart",
			asks:  fmt.Sprintf("how soon does a member with %d keys answer again, and in how much memory?", keysBase),
			heavy: true,
			show: []string{"killed_answer_s", "killed_anonymous_mb", "killed_settled_mb", "stop_s", "stopped_answer_s",
				"stopped_anonymous_mb", "stopped_settled_mb", "disk_mb"},
			run: restart,
		},
		{
			name: "load-sequential",
			asks: fmt.Sprintf("how do %d puts of %d B to keys in their order go?", keysSequential, valueBytes),
			once: true,
			show: showLoad,
			run:  sequential,
		},
		{
			name: "load-10m",
			asks: fmt.Sprintf("and with %d keys: how does the load go, what do puts and gets cost then, how soon is the member back?", keysMany),
			once: true,
			// etcd's file and log, and in the middle of it a copy that a run beside may hold
			needMB: 16_000,
			show: append(slices.Clone(showLoad), "put_ops_per_s", "put_server_us_per_op", "get_ops_per_s", "get_server_us_per_op",
				"stopped_answer_s", "stopped_anonymous_mb", "stopped_settled_mb"),
			run: many,
		},
	}
}

func authRows() []row {
	return []row{
		{
			name: "login",
			asks: fmt.Sprintf("how many tokens a second does one user get for its password, %d callers at a time?", loginCallers),
			show: showCalls,
			run:  login,
		},
		{
			name: "put-strangers",
			asks: fmt.Sprintf("what does a put cost over a connection of its own, after a login of its own, %d at a time?", strangerCallers),
			show: showCalls,
			run:  strangers,
		},
	}
}

// memberRows ask about members rather than calls.
func memberRows() []row {
	showIdle := []string{"anonymous_mb", "resident_mb", "server_cores", "written_bytes_per_s", "others_cores"}
	return []row{
		{
			name: "idle",
			asks: "what does an empty member take that nobody asks?",
			once: true,
			show: showIdle,
			run:  func(ctx context.Context, t *task) error { return idle(ctx, t, setup{}) },
		},
		{
			name: "idle-members-3",
			asks: "and what do three members of a small cluster take, each in 300 MiB?",
			once: true,
			show: append([]string{"anonymous_most_mb", "cores_most", "group_peak_mb"}, showIdle...),
			run:  idleSmall,
		},
		{
			name: "failover",
			asks: "for how long are writes not acknowledged when the leader of three is killed, and when it is stopped?",
			once: true,
			show: []string{"kill_gap_p50_ms", "kill_gap_max_ms", "term_gap_p50_ms", "term_gap_max_ms"},
			run:  failover,
		},
		{
			name: "leases",
			asks: "are leases that nobody keeps alive any more gone in time, 5,000 a second, and what do others' puts feel of it?",
			aim:  "puts go on at 2,000/s",
			once: true,
			show: []string{"late_p50_ms", "late_p99_ms", "late_max_ms", "early", "put_p50_us", "put_p99_us", "put_max_us", "puts_per_s",
				"renewals_per_s", "grant_behind_max_ms", "server_cores"},
			run: leases,
		},
	}
}
